"""Plays written strokes the way hands do: accents, uneven loudness, and a pocket, drift and scatter in the timing."""

from dataclasses import dataclass

import numpy as np

from musicvae.midi.performance import Performance
from musicvae.midi.writer import TICKS_PER_QUARTER

PITCH = {
    "kick": 36,
    "side_stick": 37,
    "snare": 38,
    "closed_hat": 42,
    "pedal_hat": 44,
    "open_hat": 46,
    "low_tom": 45,
    "mid_tom": 47,
    "high_tom": 50,
    "crash": 49,
    "ride": 51,
    "ride_bell": 53,
}
"""General MIDI pitches of the kit."""
LOUDNESS = {"X": 110.0, "x": 86.0, "o": 40.0}
"""MIDI velocity of an accent, a hit and a ghost note before the hands get at it."""
TOUCH = {"closed_hat": -12.0, "pedal_hat": -22.0, "ride": -14.0, "crash": 6.0, "open_hat": -6.0, "side_stick": -8.0}
"""How much louder or softer than written an instrument is usually played."""
ON_BEAT, OFF_BEAT, BETWEEN = 5.0, 0.0, -6.0
"""Metric accents: on a quarter, halfway, anywhere else."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One written stroke.

    Attributes:
        quarter: when, in quarter notes from the start of the performance.
        instrument: a name in `PITCH`.
        loudness: MIDI velocity as written.
    """

    quarter: float
    instrument: str
    loudness: float


def play(strokes: list[Stroke], *, tempo: float, beats_per_bar: int, rng: np.random.Generator) -> Performance:
    """Strokes as one drummer plays them; draws from `rng` who that drummer is.

    Args:
        strokes: what is written, in any order.
        tempo: quarter notes per minute.
        beats_per_bar: quarter notes of a bar.
        rng: the performance's own generator.
    """
    quarter = np.array([stroke.quarter for stroke in strokes])
    pitch = np.array([PITCH[stroke.instrument] for stroke in strokes], dtype=np.int64)
    loudness = np.array([stroke.loudness + TOUCH.get(stroke.instrument, 0.0) for stroke in strokes])

    velocity = loudness + _metric_accents(quarter) + rng.normal(0, 5) + rng.normal(0, rng.uniform(3, 8), len(strokes))
    late = _milliseconds_late(quarter, pitch, rng)
    tick = np.rint((quarter + late / 60_000 * tempo) * TICKS_PER_QUARTER).clip(min=0).astype(np.int64)

    # Two strokes of one drum in the same tick cannot be told apart in MIDI; the louder is what is heard.
    order = np.lexsort((-velocity, pitch, tick))
    heard = order[np.diff(tick[order] * 128 + pitch[order], prepend=-1) != 0]
    return Performance(
        tick=tick[heard],
        pitch=pitch[heard].astype(np.uint8),
        velocity=np.rint(velocity[heard]).clip(1, 127).astype(np.uint8),
        ticks_per_quarter=TICKS_PER_QUARTER,
        tempos=((0, tempo),),
        metres=((0, beats_per_bar, 4),),
    )


def _metric_accents(quarter: np.ndarray) -> np.ndarray:
    within = quarter % 1
    return np.select([within < 0.05, np.abs(within - 0.5) < 0.2], [ON_BEAT, OFF_BEAT], BETWEEN)


def _milliseconds_late(quarter: np.ndarray, pitch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drummer's placement: each drum's own pocket, a slow drift of the whole kit, and each hand's scatter."""
    pocket = rng.normal(-3, 7, 128)[pitch]
    steps = rng.normal(0, 3, int(quarter.max(initial=0)) + 2)
    drift = np.zeros(len(steps))
    for beat in range(1, len(steps)):
        drift[beat] = 0.9 * drift[beat - 1] + steps[beat]
    scatter = rng.normal(0, rng.uniform(4, 11), len(quarter))
    return pocket + np.interp(quarter, np.arange(len(steps)), drift) + scatter
