"""One job of sampling: what it makes, in batches that any process may decode and write."""

import os
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from musicvae.errors import ConfigError
from musicvae.groove import DrumGroove, hits_from_tokens
from musicvae.midi import write_groove
from musicvae.origins import LikeWindows
from musicvae.recipe import Recipe
from musicvae.sampling import BATCH, generate_batch, num_batches
from musicvae.shards import WindowMeta
from musicvae.trained_model import TrainedModel

FILES_PER_FOLDER = 1000
"""Most MIDI files beside each other; file managers and shared file systems suffer from more."""


@dataclass(frozen=True, slots=True)
class SampleJob:
    """What to make of a trained model.

    Attributes:
        tempo: quarter notes per minute; None is the source window's, or the training data's median.
        dry: one velocity for every hit, and every hit on the grid.
        windows: what the windows of a `LikeWindows` recipe are, in its order.
    """

    recipe: Recipe
    count: int
    tempo: float | None = None
    dry: bool = False
    windows: tuple[WindowMeta, ...] = ()

    def name(self, item: int) -> str:
        """The id of an item, the same for every count."""
        return f"groove-{item:05d}"

    def file(self, item: int) -> str:
        """Path of an item's MIDI file in the output; in a sub-folder where there are many."""
        name = f"{self.name(item)}.mid"
        return name if self.count <= FILES_PER_FOLDER else f"{item // FILES_PER_FOLDER:03d}/{name}"

    def source(self, item: int) -> WindowMeta | None:
        """The window that an item is a variation of."""
        match self.recipe.origin:
            case LikeWindows() as like:
                return self.windows[like.window_of(item)]
            case _:
                return None

    def caption(self, item: int) -> str:
        """What stands over an item's drum grid."""
        source = self.source(item)
        return self.name(item) + (f" like {source.source}, bar {source.bar + 1}" if source else "")

    def tempo_of(self, trained: TrainedModel, item: int) -> float:
        """Quarter notes per minute of an item."""
        if self.tempo is not None:
            return self.tempo
        source = self.source(item)
        return source.tempo if source else trained.feel.tempo

    def groove(self, trained: TrainedModel, item: int, tokens: np.ndarray) -> DrumGroove:
        """An item's tokens, int16 of shape (step,), as a groove with velocity, timing and tempo."""
        feel = trained.feel.plain() if self.dry else trained.feel
        hits = hits_from_tokens(tokens, trained.drum_map.num_drums)
        return feel.groove(hits, tempo=self.tempo_of(trained, item), source=self.caption(item))


def write_batches(trained: TrainedModel, job: SampleJob, folder: Path, workers: int) -> Iterator[np.ndarray]:
    """Writes all MIDI files of a job; gives the tokens of each batch, int16 of shape (item, step), in order.

    The files are the same for any number of workers.
    """
    numbers = range(num_batches(job.count))
    for item in range(0, job.count, FILES_PER_FOLDER):
        (folder / job.file(item)).parent.mkdir(exist_ok=True)
    if min(workers, len(numbers)) == 1:
        yield from (write_batch(trained, job, folder, number) for number in numbers)
        return
    # Processes are spawned, as a fork of a process that has used torch's threads may hang; and get the model itself,
    # as the run's best weights may be replaced while they start.
    pool = ProcessPoolExecutor(
        min(workers, len(numbers)), get_context("spawn"), _Worker.start, (pickle.dumps((trained, job, folder)),)
    )
    try:
        yield from pool.map(_Worker.write, numbers)
    except BrokenProcessPool:
        raise ConfigError(
            "a worker process was killed",
            expected=f"{workers} processes that run to their end",
            found="one that ended without a word",
            likely="too little memory: each worker has a copy of the model",
            do="fewer --workers; the grooves are the same",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def write_batch(trained: TrainedModel, job: SampleJob, folder: Path, number: int) -> np.ndarray:
    """Decodes one batch and writes its MIDI files."""
    first = number * BATCH
    batch = generate_batch(trained.model, job.recipe, number)[: job.count - first]
    for item, tokens in enumerate(batch, start=first):
        write_groove(job.groove(trained, item, tokens), folder / job.file(item), trained.drum_map)
    return batch


class _Worker:
    """What a worker process keeps between batches."""

    task: tuple[TrainedModel, SampleJob, Path]

    @classmethod
    def start(cls, task: bytes) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent answers it
        threading.Thread(target=cls._end_with_parent, daemon=True).start()
        cls.task = pickle.loads(task)

    @staticmethod
    def _end_with_parent() -> None:
        """A worker whose parent was killed would wait for work forever."""
        parent = parent_process()
        assert parent is not None, "workers are spawned"
        parent.join()
        os._exit(1)

    @classmethod
    def write(cls, number: int) -> np.ndarray:
        return write_batch(*cls.task, number)
