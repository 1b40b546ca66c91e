"""Velocity and timing of windows, summed up by the place in the bar and the drum."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from musicvae.data.windows import OFFSET_UNITS, WindowBlock
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, hits_from_tokens


@dataclass(frozen=True, slots=True, eq=False)
class FeelSums:
    """Sums over hits, in the shards' integer units, so that the order of blocks cannot change the result.

    Attributes:
        hits: how many there are.
        velocity: of MIDI velocities.
        offset: of distances from the grid in 1/65536 of a step.
    """

    hits: Int64[np.ndarray, "bar_step drum"]
    velocity: Int64[np.ndarray, "bar_step drum"]
    offset: Int64[np.ndarray, "bar_step drum"]

    def __add__(self, other: "FeelSums") -> "FeelSums":
        return FeelSums(self.hits + other.hits, self.velocity + other.velocity, self.offset + other.offset)

    def means(
        self, *, when_silent: float
    ) -> tuple[Float32[np.ndarray, "bar_step drum"], Float32[np.ndarray, "bar_step drum"]]:
        """Mean velocity, 0..1, and offset, in steps, of each cell.

        Without hits there it is the mean of its class, then of everything, then a velocity `when_silent` on the grid.
        """
        return (
            _mean(self.velocity, self.hits, when_silent=when_silent * MAX_VELOCITY, unit=MAX_VELOCITY),
            _mean(self.offset, self.hits, when_silent=0.0, unit=OFFSET_UNITS),
        )

    def shrunk(
        self, velocity: Float32[np.ndarray, "bar_step drum"], offset: Float32[np.ndarray, "bar_step drum"], hits: int
    ) -> tuple[Float32[np.ndarray, "bar_step drum"], Float32[np.ndarray, "bar_step drum"]]:
        """Mean velocity and offset of each cell, as in `means`, with so many hits of given ones added to it."""
        return (
            _shrunk(self.velocity / MAX_VELOCITY, self.hits, velocity, hits),
            _shrunk(self.offset / OFFSET_UNITS, self.hits, offset, hits),
        )


def sum_feel(block: WindowBlock, grid: GridSpec) -> FeelSums:
    """The sums over the windows of a block, all bars together."""
    hits = hits_from_tokens(block.tokens, block.velocity.shape[-1])

    def over_bars(values: np.ndarray) -> np.ndarray:
        bars = values.reshape(-1, grid.steps_per_bar, values.shape[-1])
        return bars.sum(axis=0, dtype=np.int64)

    return FeelSums(over_bars(hits), over_bars(block.velocity * hits), over_bars(block.offset * hits))


def _mean(
    sums: Int64[np.ndarray, "bar_step drum"],
    hits: Int64[np.ndarray, "bar_step drum"],
    *,
    when_silent: float,
    unit: int,
) -> Float32[np.ndarray, "bar_step drum"]:
    def ratio(total: np.ndarray, count: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
        return np.where(count > 0, total / np.maximum(count, 1), otherwise)

    overall = ratio(sums.sum(keepdims=True), hits.sum(keepdims=True), when_silent)
    of_class = ratio(sums.sum(axis=0), hits.sum(axis=0), overall)
    return (ratio(sums, hits, of_class) / unit).astype(np.float32)


def _shrunk(
    sums: Float64[np.ndarray, "bar_step drum"],
    hits: Int64[np.ndarray, "bar_step drum"],
    towards: Float32[np.ndarray, "bar_step drum"],
    added: int,
) -> Float32[np.ndarray, "bar_step drum"]:
    return ((sums + added * towards.astype(np.float64)) / (hits + added)).astype(np.float32)
