"""One chunk of a sampling: decoded, scored, written; the same bytes whoever does it, and how often."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from jobs.sampler.parts import Parts, Rows, Span
from jobs.sampler.sample_files import writing_files
from jobs.sampler.sample_job import SampleJob
from jobs.sampler.sample_options import Form
from musicvae.generation.generate import BATCH, Decoded, decode_batch
from musicvae.groove.distance import nearest_distances
from musicvae.pretrained.training_windows import training_windows


class ChunkMaker:
    """Makes chunks of a job; crosses to other processes, where it loads the model itself.

    Args:
        scratch: a folder of the writer's own, on the file system of the output.
    """

    def __init__(self, job: SampleJob, parts: Path, scratch: Path) -> None:
        self.job, self.parts, self.scratch = job, parts, scratch
        self._last: tuple[int, Decoded] | None = None
        self._training: np.ndarray | None = None

    def __call__(self, chunk: Span) -> int:
        """Makes all files of a chunk, then its part; gives the number of its items.

        Raises:
            OSError: something cannot be written; nothing of it has a final name then.
            ConfigError: the model's weights are not the job's any more.
        """
        trained = self.job.trained()
        as_files = self.job.form is Form.FILES
        pieces = []
        # Files are written while the next batch is decoded: torch and the disk leave Python alone most of the time.
        with (
            writing_files(self.job, trained, self.scratch) if as_files else nullcontext() as files,
            ThreadPoolExecutor(1) as thread,
        ):
            waiting = []
            for rows in self._batches(chunk):
                pieces.append(rows)
                if files is not None:
                    waiting.append(thread.submit(files.write, rows.items.tolist(), rows.tokens))
            for written in waiting:
                written.result()
            if files is not None:
                files.publish()
        Parts(self.parts).write(Rows.joined(pieces), self.scratch)
        return chunk.last - chunk.first

    def _batches(self, chunk: Span) -> Iterator[Rows]:
        """The chunk's rows of each inner batch that it has a share in."""
        for number in range(chunk.first // BATCH, -(-chunk.last // BATCH)):
            batch, start = self._batch(number), number * BATCH
            own = slice(max(chunk.first - start, 0), min(chunk.last - start, BATCH))
            tokens = batch.tokens[own]
            items = np.arange(start + own.start, start + own.stop)
            yield Rows(items, tokens, batch.codes[own], batch.log_likelihood[own], self._nearest(tokens))

    def _batch(self, number: int) -> Decoded:
        """A whole inner batch; chunks that share one mostly follow each other, so the last is kept."""
        if self._last is None or self._last[0] != number:
            self._last = number, decode_batch(self.job.trained().model, self.job.made.recipe, number)
        return self._last[1]

    def _nearest(self, tokens: np.ndarray) -> np.ndarray:
        if self.job.shards is None:
            return np.zeros(0, dtype=np.int64)
        trained = self.job.trained()
        if self._training is None:
            self._training = training_windows(trained, self.job.shards)
        return nearest_distances(tokens, self._training, trained.drum_map.num_drums)
