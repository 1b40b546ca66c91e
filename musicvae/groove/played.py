"""How the hits of given grooves were played: what a new groove keeps of them, and what they tell of the player."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        """The hits of one or some of several grooves; of a single groove, those of some steps."""
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


def manner_of(player: PlayedHits, window: int) -> Float32[np.ndarray, " figure"]:
    """The figures of `MANNER` of a performance of any length: the means over its windows, NaN where none tells one.

    Args:
        window: steps of one; what is left of a longer performance is not looked at.
    """
    starts = range(0, max(1, len(player.hits) - window + 1), window)
    return mean_manner(np.stack([player[start : start + window].manner() for start in starts]))


def mean_manner(manners: Float32[np.ndarray, "window figure"]) -> Float32[np.ndarray, " figure"]:
    """The mean over windows of each figure of `MANNER`, NaN where no window tells it."""
    known = np.isfinite(manners)
    with np.errstate(invalid="ignore"):
        return (np.where(known, manners, 0).sum(axis=0) / known.sum(axis=0)).astype(np.float32)


def brought_to(
    played: PlayedHits, manner: Float32[np.ndarray, " figure"], wanted: Float32[np.ndarray, " figure"]
) -> PlayedHits:
    """The same hits with the level, spread, lean, looseness and swing of a player.

    The model plays by these figures, but follows what few people do only a part of the way. So what is missing is added
    to all hits alike; spread and looseness change by a factor of two at most.

    Args:
        manner: the figures that the hits have.
        wanted: those of the player; NaN where nothing is wanted.
    """
    level, spread, lean, looseness, swing = (
        now if np.isnan(goal) or np.isnan(now) else goal for now, goal in zip(manner, wanted, strict=True)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        stretch_velocity, stretch_offset = (
            float(np.nan_to_num(goal / now, nan=1.0).clip(0.5, 2.0))
            for goal, now in ((spread, manner[1]), (looseness, manner[3]))
        )
    velocity = (played.velocity - manner[0]) * stretch_velocity + level
    is_odd = np.broadcast_to((np.arange(played.hits.shape[-2]) % 2 == 1)[:, None], played.hits.shape)
    # Odd steps go one way and even ones the other, so that the lean stays.
    more_swing = np.nan_to_num(swing - stretch_offset * manner[4]) * (is_odd - is_odd[played.hits].mean())
    offset = np.rint(((played.offset - manner[2]) * stretch_offset + lean + more_swing) * TICKS_PER_STEP)
    half = TICKS_PER_STEP // 2
    return PlayedHits(
        played.hits,
        np.where(played.hits, velocity.clip(1 / MAX_VELOCITY, 1), 0).astype(np.float32),
        np.where(played.hits, offset.clip(-half, half - 1) / TICKS_PER_STEP, 0).astype(np.float32),
    )


def mixed(
    groove: DrumGroove,
    played: PlayedHits,
    *,
    timing: float,
    velocity: float,
    level: float | None = None,
    around: bool = False,
) -> DrumGroove:
    """A groove between how it was given and how it is played, by amounts from 0 (as given) to 1.

    Args:
        level: mean velocity, in 0..1, of all that is played; that of the groove, whatever the amount, if not given.
        around: whether accents and timing of the groove are kept: a hit that was given louder than another stays so,
            or becomes as loud, and the played timing is added to the given one.
    """
    played = _around(groove, played) if around else played
    loudness, offset = groove.velocity, groove.offset
    if velocity and groove.hits.any():
        loudness = _between_velocities(groove, played, velocity, level)
    if timing:
        offset = groove.offset + np.float32(timing) * (played.offset - groove.offset)
        offset = np.where(groove.hits, offset, 0).astype(np.float32)
    return replace(groove, velocity=loudness, offset=offset)


def _around(groove: DrumGroove, played: PlayedHits) -> PlayedHits:
    """Played velocities in the order of the given ones, and given offsets moved by what the played ones differ by."""
    cells = np.nonzero(groove.hits)
    velocity, offset = (np.zeros_like(played.velocity) for _ in range(2))
    given, mine, timing = groove.velocity[cells], played.velocity[cells], played.offset[cells]
    velocity[tuple(part[np.lexsort((mine, given))] for part in cells)] = np.sort(mine)
    offset[cells] = (groove.offset[cells] + timing - timing.mean()).clip(-0.5, LAST_OFFSET) if len(timing) else 0
    return PlayedHits(groove.hits, velocity, offset)


def _between_velocities(
    groove: DrumGroove, played: PlayedHits, amount: float, level: float | None
) -> Float32[np.ndarray, "step drum"]:
    given = groove.velocity[groove.hits] * MAX_VELOCITY
    between = given + amount * (played.velocity[groove.hits] * MAX_VELOCITY - given)
    mean = given.mean() if level is None else given.mean() + amount * (level * MAX_VELOCITY - given.mean())
    for _ in range(MAX_VELOCITY):  # what is cut off at an end of the scale is spread over the others
        missing = mean - between.mean()
        if abs(missing) < 0.01:
            break
        between = (between + missing).clip(1, MAX_VELOCITY)
    result = np.zeros_like(groove.velocity)
    result[groove.hits] = np.rint(between).clip(1, MAX_VELOCITY) / MAX_VELOCITY
    return result


def level_of(manner: Float32[np.ndarray, " figure"] | None) -> float | None:
    """Mean velocity of a player; None where it is not known."""
    level = np.nan if manner is None else float(manner[MANNER.index("level")])
    return None if np.isnan(level) else level


def _count(hits: Bool[np.ndarray, "*groove step drum"]) -> Int64[np.ndarray, "*groove"]:
    return np.asarray(hits.sum(axis=(-2, -1)))


def _mean(
    values: Float[np.ndarray, "*groove step drum"], hits: Bool[np.ndarray, "*groove step drum"]
) -> Float64[np.ndarray, "*groove"]:
    """Over the hits of each groove; NaN without one."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(hits, values, 0).sum(axis=(-2, -1), dtype=np.float64) / _count(hits))
