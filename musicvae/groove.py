"""A drum groove on a grid, and its exact translation to tokens and back.

Conventions:
    A *step* is one cell of the time grid, a *drum* one drum class in the bit order of the drum map. A *hit* is an
    onset, never a sustained note. A *token* is the set of drums hit at one step: bit i is set when drum i is hit.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int16

from musicvae.grid import GridSpec

MAX_VELOCITY = 127
"""The loudest MIDI velocity; 0 means no hit."""


@dataclass(frozen=True, slots=True, eq=False)
class DrumGroove:
    """One window of drums: which drums are hit when, how hard and how far off the grid.

    Attributes:
        hits: whether the drum is hit at the step.
        velocity: loudness in 0..1 (MIDI velocity / 127), zero where there is no hit.
        offset: distance from the grid in steps, in [-0.5, 0.5), early is negative; zero where there is no hit.
        tempo: quarter notes per minute.
        source: where the groove came from.

    Raises:
        ValueError: shapes that do not match the grid, values out of range, velocity or offset without a hit.
    """

    grid: GridSpec
    hits: Bool[np.ndarray, "step drum"]
    velocity: Float32[np.ndarray, "step drum"]
    offset: Float32[np.ndarray, "step drum"]
    tempo: float = 120.0
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("hits", "velocity", "offset"):
            shape = getattr(self, name).shape
            if shape != self.hits.shape or shape[0] != self.grid.num_steps:
                raise ValueError(f"{name} must have shape ({self.grid.num_steps}, drums), found {shape}")
        if self.velocity.min(initial=0) < 0 or self.velocity.max(initial=0) > 1:
            raise ValueError("velocity must lie in 0..1")
        if self.offset.min(initial=0) < -0.5 or self.offset.max(initial=0) >= 0.5:
            raise ValueError("offset must lie in [-0.5, 0.5) of a step")
        if self.velocity[~self.hits].any() or self.offset[~self.hits].any():
            raise ValueError("velocity and offset must be zero where there is no hit")
        if not self.tempo > 0:
            raise ValueError(f"tempo must be positive, found {self.tempo}")

    @property
    def tokens(self) -> Int16[np.ndarray, " step"]:
        return tokens_from_hits(self.hits)


def tokens_from_hits(hits: Bool[np.ndarray, "*batch drum"]) -> Int16[np.ndarray, "*batch"]:
    """The token of each step: bit i is drum i. Exact inverse of `hits_from_tokens`."""
    return hits @ (1 << np.arange(hits.shape[-1], dtype=np.int16))


def hits_from_tokens(tokens: Int16[np.ndarray, "*batch"], num_drums: int) -> Bool[np.ndarray, "*batch drum"]:
    """The drums that each token stands for. Exact inverse of `tokens_from_hits`."""
    return (tokens[..., None] >> np.arange(num_drums, dtype=np.int16)) & 1 != 0
