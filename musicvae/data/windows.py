"""Windows as they are stored: tokens, velocity, timing, and where each came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16, Int64, UInt8

from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove, hits_from_tokens
from musicvae.groove.played import PlayedHits

OFFSET_UNITS = 65536
"""Offsets are stored in 1/65536 of a step: int16 spans [-0.5, 0.5) exactly."""


@dataclass(frozen=True, slots=True)
class WindowMeta:
    """Where a window came from: source file, first bar in it, quarter notes per minute, style (empty: unknown)."""

    source: str
    bar: int
    tempo: float
    style: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class WindowBlock:
    """Windows as they are stored.

    Raises:
        ValueError: lengths that differ.
    """

    tokens: Int16[np.ndarray, "window step"]
    velocity: UInt8[np.ndarray, "window step drum"]
    offset: Int16[np.ndarray, "window step drum"]
    meta: Sequence[WindowMeta]

    def __post_init__(self) -> None:
        lengths = {len(self.tokens), len(self.velocity), len(self.offset), len(self.meta)}
        if len(lengths) != 1:
            raise ValueError(f"tokens, velocity, offset and meta differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> "WindowBlock":
        return WindowBlock(self.tokens[rows], self.velocity[rows], self.offset[rows], self.meta[rows])

    def take(self, rows: np.ndarray) -> "WindowBlock":
        """The windows at some places, in that order."""
        return WindowBlock(self.tokens[rows], self.velocity[rows], self.offset[rows], [self.meta[row] for row in rows])

    def groove(self, window: int, grid: GridSpec) -> DrumGroove:
        """One window as a groove."""
        return DrumGroove(
            grid=grid,
            hits=hits_from_tokens(self.tokens[window], self.velocity.shape[-1]),
            velocity=self.velocity[window].astype(np.float32) / MAX_VELOCITY,
            offset=self.offset[window].astype(np.float32) / OFFSET_UNITS,
            tempo=self.meta[window].tempo,
            source=self.meta[window].source,
        )

    def played(self) -> PlayedHits:
        """How each window was played."""
        return played_hits(self.velocity, self.offset)

    @classmethod
    def of(cls, grooves: Sequence[DrumGroove]) -> "WindowBlock":
        """Grooves, at least one, as windows; exact inverse of `groove` but for the first bar and the style."""
        return cls(
            np.stack([groove.tokens for groove in grooves]),
            np.stack([np.rint(groove.velocity * MAX_VELOCITY) for groove in grooves]).astype(np.uint8),
            np.stack([np.rint(groove.offset * OFFSET_UNITS) for groove in grooves]).astype(np.int16),
            [WindowMeta(groove.source, 0, groove.tempo) for groove in grooves],
        )

    @classmethod
    def joined(cls, blocks: Sequence["WindowBlock"]) -> "WindowBlock":
        """Several blocks, at least one, as one."""
        return cls(
            np.concatenate([block.tokens for block in blocks]),
            np.concatenate([block.velocity for block in blocks]),
            np.concatenate([block.offset for block in blocks]),
            [meta for block in blocks for meta in block.meta],
        )


@dataclass(frozen=True, slots=True, eq=False)
class PlayedWindows:
    """How windows were played, as it is stored.

    Attributes:
        velocity: MIDI 1-127, 0 is no hit.
        offset: in 1/65536 of a step.
        tempo: quarter notes per minute.
    """

    velocity: UInt8[np.ndarray, "window step drum"]
    offset: Int16[np.ndarray, "window step drum"]
    tempo: Float32[np.ndarray, " window"]

    def __len__(self) -> int:
        return len(self.tempo)

    def hits(self) -> PlayedHits:
        """Velocity and timing in the units of grooves."""
        return played_hits(self.velocity, self.offset)


def played_hits(
    velocity: UInt8[np.ndarray, "window step drum"], offset: Int16[np.ndarray, "window step drum"]
) -> PlayedHits:
    """Velocity and timing as they are stored, in the units of grooves."""
    return PlayedHits(
        velocity > 0, velocity.astype(np.float32) / MAX_VELOCITY, offset.astype(np.float32) / OFFSET_UNITS
    )


@dataclass(frozen=True, slots=True, eq=False)
class SplitTokens:
    """The tokens of a split; row i is the window of id i.

    Attributes:
        performance: number of the source file, in 0..files-1. Windows of one performance overlap.
    """

    tokens: Int16[np.ndarray, "window step"]
    performance: Int64[np.ndarray, " window"]
