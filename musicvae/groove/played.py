"""How the hits of given grooves were played: what a new groove keeps of them, and what they tell of the player."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from musicvae.groove.groove import MAX_VELOCITY, DrumGroove

TICKS_PER_STEP = 120
"""Timing is told apart to so many parts of a step: those of a MIDI file with 480 ticks a quarter note."""
MANNER = ("level", "spread", "lean", "looseness", "swing")
"""What a whole groove tells of its player: mean and standard deviation of its velocities, mean and standard deviation
of its offsets, and how much later odd steps are than even ones."""
LAST_OFFSET = np.float32(0.5 - 1 / TICKS_PER_STEP)
"""The latest that a hit is played, in steps."""
ENOUGH_HITS = 4
"""Hits on odd and on even steps from which swing can be told."""


@dataclass(frozen=True, slots=True, eq=False)
class PlayedHits:
    """Velocity and timing of hits: of one groove, or of each of several.

    Attributes:
        hits: whether the drum is hit at the step; velocity and offset mean nothing elsewhere.
        velocity: in 0..1, as in `DrumGroove`.
        offset: in steps, early is negative, as in `DrumGroove`.
    """

    hits: Bool[np.ndarray, "*groove step drum"]
    velocity: Float32[np.ndarray, "*groove step drum"]
    offset: Float32[np.ndarray, "*groove step drum"]

    @classmethod
    def of(cls, groove: DrumGroove) -> "PlayedHits":
        """All hits of a groove."""
        return cls(groove.hits, groove.velocity, groove.offset)

    @classmethod
    def none(cls, num_steps: int, num_drums: int) -> "PlayedHits":
        """A groove of which no hit is known."""
        silence = np.zeros((num_steps, num_drums), dtype=np.float32)
        return cls(silence > 0, silence, silence)

    @classmethod
    def joined(cls, several: "Sequence[PlayedHits]") -> "PlayedHits":
        """Those of several grooves, of others behind them, and so on; at least one."""
        parts = (
            [part.hits for part in several],
            [part.velocity for part in several],
            [part.offset for part in several],
        )
        return cls(*map(np.concatenate, parts))

    def __getitem__(self, groove: int | slice) -> "PlayedHits":
        """The hits of one or some of several grooves."""
        return PlayedHits(self.hits[groove], self.velocity[groove], self.offset[groove])

    def before(self, step: int) -> "PlayedHits":
        """The hits at the steps before one."""
        early = np.arange(self.hits.shape[-2])[:, None] < step
        return PlayedHits(self.hits & early, self.velocity, self.offset)

    def otherwise(self, other: "PlayedHits") -> "PlayedHits":
        """The same, and of another groove the hits that this one does not have."""
        velocity, offset = (
            np.where(self.hits, mine, theirs)
            for mine, theirs in ((self.velocity, other.velocity), (self.offset, other.offset))
        )
        return PlayedHits(self.hits | other.hits, velocity, offset)

    def midi_velocity(self) -> Int64[np.ndarray, "*groove step drum"]:
        """1 to 127, and 0 where there is no hit."""
        loudness = np.rint(self.velocity * MAX_VELOCITY).astype(np.int64)
        return np.where(self.hits, loudness.clip(1, MAX_VELOCITY), 0)

    def ticks(self) -> Int64[np.ndarray, "*groove step drum"]:
        """Offsets in ticks, -60 to 59, and 0 where there is no hit."""
        half = TICKS_PER_STEP // 2
        return np.where(self.hits, np.rint(self.offset * TICKS_PER_STEP).astype(np.int64).clip(-half, half - 1), 0)

    def manner(self) -> Float32[np.ndarray, "*groove figure"]:
        """The figures of `MANNER`, NaN where there are too few hits to tell."""
        late = (np.arange(self.hits.shape[-2]) % 2 == 1)[:, None]
        on_odd, on_even = self.hits & late, self.hits & ~late
        few = np.minimum(_count(on_odd), _count(on_even)) < ENOUGH_HITS
        swing = np.where(few, np.nan, _mean(self.offset, on_odd) - _mean(self.offset, on_even))
        level, lean = _mean(self.velocity, self.hits), _mean(self.offset, self.hits)
        spread, looseness = (
            np.sqrt(_mean((values - mean[..., None, None]) ** 2, self.hits))
            for values, mean in ((self.velocity, level), (self.offset, lean))
        )
        return np.stack([level, spread, lean, looseness, swing], axis=-1).astype(np.float32)


def _count(hits: Bool[np.ndarray, "*groove step drum"]) -> Int64[np.ndarray, "*groove"]:
    return np.asarray(hits.sum(axis=(-2, -1)))


def _mean(
    values: Float[np.ndarray, "*groove step drum"], hits: Bool[np.ndarray, "*groove step drum"]
) -> Float64[np.ndarray, "*groove"]:
    """Over the hits of each groove; NaN without one."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(hits, values, 0).sum(axis=(-2, -1), dtype=np.float64) / _count(hits))
