"""The files of grooves: whole under their names, or not there."""

import io
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64

from jobs.sample_job import FILES_PER_FOLDER, SampleJob
from jobs.sample_options import Audio
from musicvae.drum_kit import SAMPLE_RATE, write_wav
from musicvae.drum_loop import render_loop
from musicvae.durable import aside_of
from musicvae.trained_model import TrainedModel

OURS = re.compile(r"groove-(\d+)\.(mid|wav|flac)")
CHUNK = "chunk"


def suffixes(job: SampleJob) -> list[str]:
    """Of the files that each groove has."""
    return [".mid"] if job.audio is Audio.NONE else [".mid", f".{job.audio}"]


class FileWriter:
    """Writes the files of a chunk aside; see `writing_files`."""

    def __init__(self, job: SampleJob, trained: TrainedModel, aside: Path) -> None:
        self._job, self._trained, self._aside = job, trained, aside
        self._written: list[tuple[Path, Path]] = []

    def write(self, items: Sequence[int], tokens: Int16[np.ndarray, "item step"]) -> None:
        """The files of some items.

        Raises:
            OSError: one cannot be written.
        """
        for item, data in zip(items, self._job.midi(self._trained, items, tokens), strict=True):
            self._path(item, ".mid").write_bytes(data)
        if self._job.audio is not Audio.NONE:
            for item, own in zip(items, tokens, strict=True):
                self._write_audio(item, own)

    def publish(self) -> None:
        """Gives all of them their names."""
        for folder in {path.parent for _, path in self._written}:
            folder.mkdir(parents=True, exist_ok=True)
        for aside, path in self._written:
            aside.replace(path)

    def _path(self, item: int, suffix: str) -> Path:
        path = self._job.out / self._job.file(item, suffix)
        self._written.append((self._aside / path.name, path))
        return self._aside / path.name

    def _write_audio(self, item: int, tokens: Int16[np.ndarray, " step"]) -> None:
        sound = render_loop(self._job.groove(self._trained, item, tokens), self._trained.drum_map)
        path = self._path(item, f".{self._job.audio}")
        if self._job.audio is Audio.WAV:
            write_wav(path, sound)
        else:
            import soundfile  # takes a while to load, so only where it is asked for

            data = io.BytesIO()  # soundfile's own errors would not say that the disk is full
            soundfile.write(data, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            path.write_bytes(data.getbuffer())


@contextmanager
def writing_files(job: SampleJob, trained: TrainedModel, scratch: Path) -> Iterator[FileWriter]:
    """Files that get their names when `publish` is called, on the same file system as `scratch`; else they vanish."""
    aside = aside_of(scratch / CHUNK)
    aside.mkdir(parents=True)
    try:
        yield FileWriter(job, trained, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def lost_files(job: SampleJob, items: Int64[np.ndarray, " item"]) -> Int64[np.ndarray, " lost"]:
    """Those of some items, ascending, that lack a file: a power cut took it, or another selection left it out.

    Files of items in no selection are removed.
    """
    lost = []
    for number in sorted({*_folders(job), *(items // FILES_PER_FOLDER).tolist()}):
        folder = job.out / f"{number:03d}"
        own = items[items // FILES_PER_FOLDER == number]
        wanted = {Path(job.file(item, suffix)).name: item for item in own.tolist() for suffix in suffixes(job)}
        present = set()
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in wanted and OURS.fullmatch(path.name):
                path.unlink()
            elif path.stat().st_size:
                present.add(path.name)
        lost += sorted({item for name, item in wanted.items() if name not in present})
        if not len(own) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return np.array(lost, dtype=np.int64)


def _folders(job: SampleJob) -> list[int]:
    return [int(folder.name) for folder in job.out.iterdir() if folder.name.isdecimal() and folder.is_dir()]
