"""The files of grooves: whole under their names, or not there."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64

from jobs.sampler.sample_job import FILES_PER_FOLDER, SampleJob
from musicvae.durable import aside_of
from musicvae.pretrained.model import TrainedModel

OURS = re.compile(r"groove-(\d+)\.(mid|wav|flac)")
CHUNK = "chunk"


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
        for item, contents in zip(items, self._job.contents(self._trained, items, tokens), strict=True):
            for suffix, data in contents.items():
                self._path(item, suffix).write_bytes(data)

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
        wanted = {Path(job.file(item, suffix)).name: item for item in own.tolist() for suffix in job.suffixes}
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
