"""One chunk of a sampling: decoded, scored, written; the same bytes whoever does it, and how often.

Each file of a groove is complete under its name, or absent.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from jobs.sampler.job import FILES_PER_FOLDER, BatchPart, SampleJob
from jobs.sampler.parts import Rows, SampleChunks, Span
from jobs.sampler.settings import OutputFormat
from musicvae.data.windows import OFFSET_UNITS
from musicvae.durable import aside_of
from musicvae.generation.generate import WHOLE, Decoded, decode_batch, one_thread
from musicvae.generation.settings import BATCH
from musicvae.groove.distance import nearest_distances
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_windows import training_windows

OURS = re.compile(r"groove-(\d+)\.(mid|wav|flac)")
CHUNK = "chunk"


class ChunkMaker:
    """Makes chunks of a job; crosses to other processes, where it loads the model itself.

    Args:
        scratch: a folder of the writer's own, on the file system of the output.
    """

    def __init__(self, job: SampleJob, finished: Path, scratch: Path) -> None:
        self.job, self.finished, self.scratch = job, finished, scratch
        self._last: tuple[int, slice, Decoded] | None = None
        self._training: np.ndarray | None = None

    def __call__(self, chunk: Span) -> int:
        """Makes all files of a chunk, then its part; gives the number of its items.

        Raises:
            OSError: something cannot be written; nothing of it has a final name then.
            ConfigError: the model's weights are not the job's any more.
        """
        trained = self.job.trained()
        as_files = self.job.options.pack is OutputFormat.FILES
        # Batches are played and written while the next ones are decoded: torch and the disk leave Python alone most of
        # the time. Those that wait are played together, which is faster. Both threads are to find torch held to one
        # thread, whichever of them ends first.
        with (
            one_thread(),
            writing_files(self.job, trained, self.scratch) if as_files else nullcontext() as files,
            ThreadPoolExecutor(1) as thread,
        ):
            waiting, decoded = [], []
            humanized = range(chunk.first, chunk.last) if self.job.made.humanizing is not None else ()
            for item in humanized:
                waiting.append(thread.submit(self._humanized, item, files))
            for number, places in () if humanized else _places(chunk):
                decoded_rows, batch = self._batch(number, places)
                items = np.arange(number * BATCH, (number + 1) * BATCH)[decoded_rows]
                places = slice(places.start - decoded_rows.start, places.stop - decoded_rows.start)
                part = BatchPart(items, batch.tokens, places)
                tokens = batch.tokens[places]
                codes, log_likelihood = batch.codes[places], batch.log_likelihood[places]
                of_items = (part.items[places], tokens, codes, log_likelihood, self._nearest(tokens))
                constrained = self.job.made.recipe.constraint is not None
                rows = Rows(*of_items, batch.steered[places if constrained else slice(0)])
                decoded.append((part, rows))
                waiting.append(thread.submit(self._finished, decoded, files))
            rows = Rows.joined([rows for finished in waiting for rows in finished.result()])
            if files is not None:
                files.publish()
        SampleChunks(self.finished).write(rows, self.scratch)
        return chunk.last - chunk.first

    def _humanized(self, item: int, files: "FileWriter | None") -> list[Rows]:
        """An item that is a take of a given file, with its files written."""
        humanizing = self.job.made.humanizing
        assert humanizing is not None, "who calls this has looked"
        midi = self.job.made.humanized(item)
        window = humanizing.files[0].again(midi).first_window()
        hits = window.velocity > 0
        rows = Rows(
            np.array([item]),
            window.tokens,
            np.zeros((1, 0), dtype=np.float32),
            np.array([np.nan]),
            self._nearest(window.tokens),
            velocity=window.velocity[hits],
            offset=window.offset[hits],
        )
        if files is not None:
            files.write(rows, [midi])
        return [rows]

    def _finished(self, decoded: list[tuple[BatchPart, Rows]], files: "FileWriter | None") -> list[Rows]:
        """All decoded rows that wait, as they are played, with their files written; they wait no longer."""
        parts = [decoded.pop(0) for _ in range(len(decoded))]
        if not parts:
            return []
        played = self.job.play(self.job.trained(), [part for part, _ in parts])
        rows = Rows.joined([rows for _, rows in parts])
        if played is not None:
            offset = np.rint(played.offset[played.hits] * OFFSET_UNITS)
            offset, velocity = offset.clip(-OFFSET_UNITS // 2, OFFSET_UNITS // 2 - 1), played.midi_velocity()
            velocity = velocity[played.hits]
            rows = replace(rows, velocity=velocity.astype(np.uint8), offset=offset.astype(np.int16))
        if files is not None:
            files.write(rows)
        return [rows]

    def _batch(self, number: int, places: slice) -> tuple[slice, Decoded]:
        """The rows of an inner batch that a chunk needs, all of them where that costs no more, and their items.

        Chunks that share a batch mostly follow each other, so the last is kept.
        """
        made = self.job.made
        rows = WHOLE if made.recipe.best_of is None or made.plays_together else places
        if self._last is None or self._last[:2] != (number, rows):
            self._last = number, rows, decode_batch(self.job.trained().model, made.recipe, number, rows)
        return self._last[1:]

    def _nearest(self, tokens: np.ndarray) -> np.ndarray:
        if self.job.options.shards is None:
            return np.zeros(0, dtype=np.int64)
        trained = self.job.trained()
        if self._training is None:
            self._training = training_windows(trained, self.job.options.shards)
        return nearest_distances(tokens, self._training, trained.drum_map.num_drums)


def _places(chunk: Span) -> Iterator[tuple[int, slice]]:
    """Each inner batch that a chunk has a share in, and which of its rows that is."""
    for number in range(chunk.first // BATCH, -(-chunk.last // BATCH)):
        start = number * BATCH
        yield number, slice(max(chunk.first - start, 0), min(chunk.last - start, BATCH))


class FileWriter:
    """Writes the files of a chunk aside; see `writing_files`."""

    def __init__(self, job: SampleJob, trained: TrainedModel, aside: Path) -> None:
        self._job, self._trained, self._aside = job, trained, aside
        self._written: list[tuple[Path, Path]] = []

    def write(self, rows: Rows, midi: Sequence[bytes] | None = None) -> None:
        """The files of some items.

        Args:
            midi: their MIDI files, where they are known.

        Raises:
            OSError: one cannot be written.
        """
        for item, contents in zip(rows.items.tolist(), self._job.contents(self._trained, rows, midi), strict=True):
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
        folder_items = items[items // FILES_PER_FOLDER == number]
        wanted = {Path(job.file(item, suffix)).name: item for item in folder_items.tolist() for suffix in job.suffixes}
        present = set()
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in wanted and OURS.fullmatch(path.name):
                path.unlink()
            elif path.stat().st_size:
                present.add(path.name)
        lost += sorted({item for name, item in wanted.items() if name not in present})
        if not len(folder_items) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return np.array(lost, dtype=np.int64)


def _folders(job: SampleJob) -> list[int]:
    return [int(folder.name) for folder in job.out.iterdir() if folder.name.isdecimal() and folder.is_dir()]
