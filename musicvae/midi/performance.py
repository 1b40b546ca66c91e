"""Drum performances from MIDI files: hits before any grid."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from musicvae.midi.parser import DRUM_CHANNEL, MidiError, MidiEvents, read_events

DEFAULT_TEMPO = 120.0
"""What the MIDI standard assumes of a file without a tempo."""
DEFAULT_METRE = (4, 4)
"""What the MIDI standard assumes of a file without a time signature."""


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """The drum hits of one piece in order of time, in ticks from its start, before any grid.

    Attributes:
        tick: onset of each hit.
        pitch: MIDI pitch 0..127.
        velocity: MIDI velocity 1..127.
        ticks_per_quarter: the file's division.
        tempos: (tick, quarter notes per minute) of each tempo in order; the first holds from the start on.
        metres: (tick, numerator, denominator) of each time signature in order; 4/4 holds before the first.
        end: where the piece ends: the latest of its tracks' ends.

    Raises:
        ValueError: hits, tempos or time signatures that are not in order of time.
    """

    tick: Int64[np.ndarray, " hit"]
    pitch: UInt8[np.ndarray, " hit"]
    velocity: UInt8[np.ndarray, " hit"]
    ticks_per_quarter: int
    tempos: tuple[tuple[int, float], ...] = ((0, DEFAULT_TEMPO),)
    metres: tuple[tuple[int, int, int], ...] = ((0, *DEFAULT_METRE),)
    end: int = 0

    def __post_init__(self) -> None:
        if (self.tick[1:] < self.tick[:-1]).any():
            raise ValueError("hits must be in order of time")
        for name, marks in (("tempos", self.tempos), ("metres", self.metres)):
            if not marks or any(later[0] <= earlier[0] for earlier, later in pairwise(marks)):
                raise ValueError(f"{name} must be there and in order of time, found {marks[:5]}")

    def tempo_at(self, ticks: Int64[np.ndarray, " place"]) -> Float64[np.ndarray, " place"]:
        """Quarter notes per minute in force at each tick; before the first tempo the first."""
        in_force = np.searchsorted([tick for tick, _ in self.tempos], ticks, side="right") - 1
        return np.array([tempo for _, tempo in self.tempos])[in_force.clip(min=0)]


def read_performance(data: bytes) -> Performance:
    """The hits on the drum channel (10) of a MIDI file of one piece, ordered by time, then pitch.

    Raises:
        MidiError: the bytes are not MIDI, damaged, or a format 2 file of several pieces.
    """
    performances = read_performances(data)
    if len(performances) != 1:
        raise MidiError(f"format 2 with {len(performances)} pieces; read_performances gives each")
    return performances[0]


def read_performances(
    data: bytes,
    *,
    channels: Collection[int] = (DRUM_CHANNEL,),
    drum_tracks: bool = False,
    max_hits: int | None = None,
) -> list[Performance]:
    """The drum hits of each piece of a MIDI file: one piece, or in format 2 one for each track.

    Args:
        data: content of the file; a RIFF file around a MIDI file too.
        channels: channels whose notes are hits in any track, counted from 1.
        drum_tracks: whether tracks named like drums (drum, perc, kit, beat) count on every channel.
        max_hits: most hits of all pieces together.

    Raises:
        MidiError: the bytes are not MIDI, or damaged.
        TooManyHitsError: more than `max_hits`.
    """
    pieces = read_events(data, channels=channels, drum_tracks=drum_tracks, max_hits=max_hits)
    return [_performance(piece) for piece in pieces]


def _performance(events: MidiEvents) -> Performance:
    # One key sorts three times as fast as three; ticks below `MAX_TICKS` leave 14 bits.
    sound = events.pitch.astype(np.int64) << 7 | events.velocity
    order = (events.tick << 14 | sound).argsort(kind="stable")
    # Of several tempos or time signatures in one tick the last holds, wherever in it the tracks have them.
    tempos = dict(sorted(events.tempos, key=_tick))
    metres = {metre[0]: metre for metre in sorted(events.metres, key=_tick)}
    return Performance(
        tick=events.tick[order],
        pitch=events.pitch[order],
        velocity=events.velocity[order],
        ticks_per_quarter=events.division,
        tempos=tuple(tempos.items()) or ((0, DEFAULT_TEMPO),),
        metres=tuple(metres.values()) or ((0, *DEFAULT_METRE),),
        end=events.end,
    )


def _tick(event: tuple[Any, ...]) -> int:
    return event[0]
