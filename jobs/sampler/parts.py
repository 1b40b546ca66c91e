"""Parts: what chunks of a sampling became. A part that has its name is whole, and is the mark that its chunk is done.

`parts/00000000-00001000.safetensors` holds items 0 to 999. Chunks of any size may lie side by side, so a job may go on
with another `--chunk`, other shards or a larger `--count`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Float32, Float64, Int16, Int64, UInt8
from safetensors import SafetensorError

from musicvae.data.windows import played_hits
from musicvae.durable import write_whole
from musicvae.errors import DataError
from musicvae.groove.groove import hits_from_tokens
from musicvae.groove.played import PlayedHits

SUFFIX = ".safetensors"
NOT_KNOWN = -1


@dataclass(frozen=True, slots=True)
class Span:
    """Items `first` to `last` - 1."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What decoding found of some items.

    Attributes:
        items: their indices, ascending.
        log_likelihood: log p(x | z) in nats.
        nearest_training: cells between each and the nearest training window; of length 0 where that was not asked for.
        steered: hits of each that a constraint of the whole groove decided, `NOT_KNOWN` where an earlier version has
            made them; of length 0 where there is no such constraint.
        velocity, offset: of each hit, item by item, step by step and drum by drum, in the units of `WindowBlock`; of
            length 0 where the performance model does not play.
    """

    items: Int64[np.ndarray, " item"]
    tokens: Int16[np.ndarray, "item step"]
    codes: Float32[np.ndarray, "item latent"]
    log_likelihood: Float64[np.ndarray, " item"]
    nearest_training: Int64[np.ndarray, " near"]
    steered: Int16[np.ndarray, " steered"] = field(default_factory=lambda: np.zeros(0, dtype=np.int16))
    velocity: UInt8[np.ndarray, " hit"] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    offset: Int16[np.ndarray, " hit"] = field(default_factory=lambda: np.zeros(0, dtype=np.int16))

    def __len__(self) -> int:
        return len(self.items)

    def known_steered(self) -> Int16[np.ndarray, " item"]:
        """`steered` of each item."""
        return self.steered if len(self.steered) else np.full(len(self), NOT_KNOWN, dtype=np.int16)

    def take(self, places: slice | np.ndarray) -> "Rows":
        """Some of them."""
        nearest = self.nearest_training[places] if len(self.nearest_training) else self.nearest_training
        velocity, offset = self.velocity, self.offset
        if len(velocity):
            counts = np.bitwise_count(self.tokens).sum(axis=1, dtype=np.int64)
            before, count = (np.cumsum(counts) - counts)[places], counts[places]
            hits = np.repeat(before - (np.cumsum(count) - count), count) + np.arange(count.sum())
            velocity, offset = velocity[hits], offset[hits]
        of_items = (self.items[places], self.tokens[places], self.codes[places], self.log_likelihood[places])
        steered = self.steered[places] if len(self.steered) else self.steered
        return Rows(*of_items, nearest, steered, velocity, offset)

    @classmethod
    def joined(cls, several: list["Rows"]) -> "Rows":
        """One after the other; at least one."""
        if any(len(rows.steered) for rows in several):
            several = [replace(rows, steered=rows.known_steered()) for rows in several]
        names = [column.name for column in fields(cls)]
        return cls(*(np.concatenate([getattr(rows, name) for rows in several]) for name in names))

    def played(self, num_drums: int) -> PlayedHits | None:
        """How the hits were played by the performance model; None where it does not play."""
        hits = hits_from_tokens(self.tokens, num_drums)
        if len(self.velocity) != hits.sum():
            return None
        velocity, offset = np.zeros(hits.shape, np.uint8), np.zeros(hits.shape, np.int16)
        velocity[hits], offset[hits] = self.velocity, self.offset
        return played_hits(velocity, offset)


class SampleChunks:
    """The finished chunks in a folder, each as a part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, rows: Rows, scratch: Path | None = None) -> None:
        """Makes a part of consecutive items.

        Args:
            scratch: the writer's own folder, which is cleared of what a kill leaves, as this one, in which others
                write too, cannot be.

        Raises:
            OSError: it cannot be written.
        """
        first = int(rows.items[0])
        tensors = {
            "tokens": rows.tokens,
            "codes": rows.codes,
            "log_likelihood": rows.log_likelihood,
            "nearest_training": rows.nearest_training,
        }
        if len(rows.steered):
            tensors["steered"] = rows.steered
        if len(rows.velocity):
            tensors |= {"velocity": rows.velocity, "offset": rows.offset}
        data = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
        write_whole(self._path(Span(first, first + len(rows))), data, scratch=scratch)

    def missing(self, wanted: Iterable[Span]) -> list[Span]:
        """The gaps that parts leave in spans."""
        present = self._spans()
        return [gap for span in wanted for gap in _gaps(span, present)]

    def read(self, wanted: Span) -> Iterator[Rows]:
        """The items of a span that there are, in order, part by part.

        Raises:
            DataError: a part is damaged.
        """
        reached = wanted.first
        for span in self._spans():
            if span.last > reached and span.first < wanted.last:
                rows = self._read(span)
                reached = max(reached, span.first)
                yield rows.take(slice(reached - span.first, min(span.last, wanted.last) - span.first))
                reached = min(span.last, wanted.last)

    def read_chosen(self, items: Int64[np.ndarray, " item"], size: int) -> Iterator[Rows]:
        """Some items, given in ascending order, `size` at a time but for the last.

        Raises:
            DataError: a part is damaged.
        """
        waiting: list[Rows] = []
        for rows in self.read(Span(0, int(items[-1]) + 1)) if len(items) else ():
            chosen = items[np.searchsorted(items, rows.items[0]) : np.searchsorted(items, rows.items[-1], side="right")]
            if len(chosen):
                waiting.append(rows.take(chosen - rows.items[0]))
            while sum(map(len, waiting)) >= size:
                whole = Rows.joined(waiting)
                yield whole.take(slice(0, size))
                waiting = [whole.take(slice(size, len(whole)))]
        if sum(map(len, waiting)):
            yield Rows.joined(waiting)

    def _spans(self) -> list[Span]:
        names = [path.name.removesuffix(SUFFIX) for path in self.folder.glob(f"[0-9]*{SUFFIX}")]
        return sorted((Span(*map(int, name.split("-"))) for name in names), key=lambda span: (span.first, span.last))

    def _path(self, span: Span) -> Path:
        return self.folder / f"{span.first:08d}-{span.last:08d}{SUFFIX}"

    def _read(self, span: Span) -> Rows:
        path = self._path(span)
        try:
            tensors = safetensors.numpy.load(path.read_bytes())
            rows = Rows(np.arange(span.first, span.last), **tensors)
            if len(rows.tokens) != len(rows.items):
                raise ValueError(f"{len(rows.tokens)} items")
            if len(rows.velocity) not in (0, np.bitwise_count(rows.tokens).sum()):
                raise ValueError(f"{len(rows.velocity)} velocities")
        except (SafetensorError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} cannot be used",
                expected=f"items {span.first} to {span.last - 1} of a sampling",
                found=f"{type(error).__name__}: {error}",
                likely="the disk lost data, or the file was edited",
                do="delete the file and run the same command again, which remakes its grooves",
            ) from None
        return rows


def _gaps(wanted: Span, present: list[Span]) -> Iterator[Span]:
    reached = wanted.first
    for span in present:
        if span.first >= wanted.last:
            break
        if span.first > reached:
            yield Span(reached, span.first)
        reached = max(reached, span.last)
    if reached < wanted.last:
        yield Span(reached, wanted.last)
