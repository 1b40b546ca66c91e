"""Drum performances from MIDI files, and grooves to MIDI files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import symusic
from jaxtyping import Int64, UInt8

from musicvae.drum_map import DrumMap
from musicvae.groove import MAX_VELOCITY, DrumGroove
from musicvae.midi_events import read_events

TICKS_PER_QUARTER = 480
DEFAULT_TEMPO = 120.0
"""What the MIDI standard assumes of a file without a tempo."""
HIT_QUARTERS = 1 / 8
"""Written length of a hit: a 32nd note. Drums do not sustain, so it only has to be audible to samplers."""


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """The drum hits of one MIDI file in file order, in ticks, before any grid.

    Attributes:
        tick: onset of each hit, counted from the start of the file.
        pitch: MIDI pitch 0..127.
        velocity: MIDI velocity 1..127.
        ticks_per_quarter: the file's division.
        tempo: quarter notes per minute at the start of the file.
        metres: (tick, numerator, denominator) of each time signature; a file without one is in 4/4.
    """

    tick: Int64[np.ndarray, " hit"]
    pitch: UInt8[np.ndarray, " hit"]
    velocity: UInt8[np.ndarray, " hit"]
    ticks_per_quarter: int
    tempo: float
    metres: tuple[tuple[int, int, int], ...]


def read_performance(data: bytes) -> Performance:
    """The hits on the drum channel (10) of a MIDI file, ordered by time, then pitch.

    Raises:
        MidiError: the bytes are not MIDI, or damaged.
    """
    events = read_events(data)
    tick, pitch, velocity = np.array(events.hits, dtype=np.int64).reshape(-1, 3).T
    order = np.lexsort((velocity, pitch, tick))
    first = min((tick for tick, _ in events.tempos), default=0)
    tempos = [tempo for tick, tempo in events.tempos if tick == first]  # of several in one tick the last holds
    return Performance(
        tick=tick[order],
        pitch=pitch[order].astype(np.uint8),
        velocity=velocity[order].astype(np.uint8),
        ticks_per_quarter=events.division,
        tempo=tempos[-1] if tempos else DEFAULT_TEMPO,
        metres=tuple(sorted(events.metres)) or ((0, 4, 4),),
    )


def performance_to_midi(performance: Performance) -> bytes:
    """A performance as the bytes of a one-track MIDI file on the drum channel, each hit a 32nd note long."""
    duration = round(performance.ticks_per_quarter * HIT_QUARTERS)
    order = np.lexsort((performance.velocity, performance.pitch, performance.tick))
    score: Any = symusic.Score(performance.ticks_per_quarter)
    score.tempos.append(symusic.Tempo(0, performance.tempo))
    for tick, numerator, denominator in performance.metres:
        score.time_signatures.append(symusic.TimeSignature(tick, numerator, denominator))
    track: Any = symusic.Track("drums", 0, True)
    track.notes = symusic.Note.from_numpy(
        performance.tick[order].astype(np.int32),
        np.full(len(order), duration, dtype=np.int32),
        performance.pitch[order].astype(np.int8),
        performance.velocity[order].astype(np.int8),
    )
    score.tracks.append(track)
    return score.dumps_midi()


def groove_to_midi(groove: DrumGroove, drum_map: DrumMap) -> bytes:
    """A groove as the bytes of a one-track MIDI file on the drum channel.

    Every hit is written within its own step, so reading the file gives the same hits. One that lies before the first
    tick (an early hit on step 0) is written at tick 0.
    """
    step, drum = np.nonzero(groove.hits)
    ticks_per_step = TICKS_PER_QUARTER / groove.grid.steps_per_beat
    first_tick = np.ceil((step - 0.5) * ticks_per_step).clip(min=0)
    last_tick = np.ceil((step + 0.5) * ticks_per_step) - 1
    tick = np.rint((step + groove.offset[step, drum]) * ticks_per_step).clip(first_tick, last_tick)
    return performance_to_midi(
        Performance(
            tick=tick.astype(np.int64),
            pitch=drum_map.written_pitch[drum],
            velocity=np.rint(groove.velocity[step, drum] * MAX_VELOCITY).clip(1, MAX_VELOCITY).astype(np.uint8),
            ticks_per_quarter=TICKS_PER_QUARTER,
            tempo=groove.tempo,
            metres=((0, groove.grid.beats_per_bar, 4),),
        )
    )


def write_groove(groove: DrumGroove, path: Path, drum_map: DrumMap) -> None:
    """Writes `groove_to_midi` to a file."""
    path.write_bytes(groove_to_midi(groove, drum_map))
