"""Drum performances from MIDI files: hits before any grid; and the same files with their hits played otherwise."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from musicvae.midi.parser import DEFAULT_READING, NOTHING_ELSE, FileFindings, MidiEvents, read_events
from musicvae.midi.settings import ReadingSettings
from musicvae.midi.tracks import MidiError, midi_in_riff, raw_events, raw_track

DEFAULT_TEMPO = 120.0
"""What the MIDI standard assumes of a file without a tempo."""
DEFAULT_METRE = (4, 4)
"""What the MIDI standard assumes of a file without a time signature."""
NOTE_OFF, NOTE_ON, END_OF_TRACK = 0x80, 0x90, b"\xff\x2f"


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """The drum hits of one piece in order of time, in ticks from its start, before any grid.

    Attributes:
        tick: onset of each hit.
        pitch: MIDI pitch 0..127.
        velocity: MIDI velocity 1..127.
        ticks_per_quarter: the file's division.
        tempos: (tick, quarter notes per minute) of each tempo in order; 120 holds before the first.
        metres: (tick, numerator, denominator) of each time signature in order; 4/4 holds before the first.
        end: where the piece ends: the latest of its tracks' ends.
        event: of each hit, its number among the events of its file; empty where it comes from none.
        findings: what else its file holds.
        first_tempo: tick of the file's first tempo; 0 where it has none.
        has_metre: whether the file says a metre.
        loops: whether hits just before the end belong to the first beat (`LOOP_MARK`).

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
    event: Int64[np.ndarray, " event"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    findings: FileFindings = NOTHING_ELSE
    first_tempo: int = 0
    has_metre: bool = True
    loops: bool = False

    def __post_init__(self) -> None:
        if (self.tick[1:] < self.tick[:-1]).any():
            raise ValueError("hits must be in order of time")
        for name, marks in (("tempos", self.tempos), ("metres", self.metres)):
            if len(marks) != 1 and (not marks or any(later[0] <= earlier[0] for earlier, later in pairwise(marks))):
                raise ValueError(f"{name} must be there and in order of time, found {marks[:5]}")

    def tempo_at(self, ticks: Int64[np.ndarray, " place"]) -> Float64[np.ndarray, " place"]:
        """Quarter notes per minute in force at each tick; 120 before the first tempo."""
        in_force = np.searchsorted([tick for tick, _ in self.tempos], ticks, side="right")
        return np.array([DEFAULT_TEMPO, *(tempo for _, tempo in self.tempos)])[in_force]


def read_performance(data: bytes, reading: ReadingSettings = DEFAULT_READING) -> Performance:
    """The drum hits of a MIDI file of one piece, ordered by time, then pitch.

    Raises:
        MidiError: the bytes are not MIDI, damaged, or a format 2 file of several pieces.
    """
    performances = read_performances(data, reading)
    if len(performances) != 1:
        raise MidiError(f"format 2 with {len(performances)} pieces; read_performances gives each")
    return performances[0]


def read_performances(
    data: bytes,
    reading: ReadingSettings = DEFAULT_READING,
    *,
    max_hits: int | None = None,
    tempo: float | None = None,
) -> list[Performance]:
    """The drum hits of each piece of a MIDI file: one piece, or in format 2 one for each track.

    Args:
        data: content of the file; a RIFF file around a MIDI file too.
        reading: which notes are hits, which metres are read as 4/4, and what is read of a damaged file.
        max_hits: most hits of all pieces together.
        tempo: quarter notes per minute, if they are known better than from the file.

    Raises:
        MidiError: the bytes are not MIDI, or damaged.
        TooManyHitsError: more than `max_hits`.
    """
    return [_performance(piece, reading, tempo) for piece in read_events(data, reading, max_hits=max_hits)]


def _performance(events: MidiEvents, reading: ReadingSettings, tempo: float | None) -> Performance:
    # One key sorts three times as fast as three; ticks below `MAX_TICKS` leave 14 bits.
    sound = events.pitch.astype(np.int64) << 7 | events.velocity
    order = (events.tick << 14 | sound).argsort(kind="stable")
    # Of several tempos or time signatures in one tick the last holds, wherever in it the tracks have them.
    tempos = {0: tempo} if tempo is not None else dict(sorted(events.tempos, key=_tick))
    metres = {metre[0]: metre for metre in sorted(events.metres, key=_tick)}
    if reading.metres:
        metres = {tick: _read_as(metre, reading) for tick, metre in metres.items()}
    return Performance(
        tick=events.tick[order],
        pitch=events.pitch[order],
        velocity=events.velocity[order],
        ticks_per_quarter=events.division,
        tempos=tuple(({0: DEFAULT_TEMPO} | tempos).items()),
        metres=tuple(metres.values()) or ((0, *DEFAULT_METRE),),
        end=events.end,
        event=events.event[order],
        findings=events.findings,
        first_tempo=next(iter(tempos), 0),
        has_metre=bool(metres),
        loops=events.loops,
    )


def _read_as(metre: tuple[int, int, int], reading: ReadingSettings) -> tuple[int, int, int]:
    tick, numerator, denominator = metre
    return (tick, *DEFAULT_METRE) if f"{numerator}/{denominator}" in reading.metres else metre


def _tick(event: tuple[Any, ...]) -> int:
    return event[0]


def played_otherwise(data: bytes, changes: Mapping[int, tuple[int, int]]) -> bytes:
    """A file with some of its hits at other times and with other velocities; all its other events stay as they are.

    The end of a note moves with its start, but not beyond the next start of that note.

    Args:
        data: an undamaged MIDI file, or a RIFF file around one.
        changes: (ticks to move by, velocity 1 to 127) of note-ons, by their number among the events of the file.
    """
    if not changes:
        return data
    data = midi_in_riff(data) if data[:4] == b"RIFF" else data
    start = 8 + int.from_bytes(data[4:8], "big")
    chunks, number = [data[:start]], 0
    while start + 8 <= len(data):
        name, size = struct.unpack(">4sI", data[start : start + 8])
        end = start + 8 + size
        if end > len(data):
            break
        body = data[start + 8 : end]
        if name == b"MTrk":
            try:
                events = list(raw_events(body))
            except (IndexError, MidiError):  # what follows the tracks of a file may be anything
                break
            body = raw_track(_moved(events, number, changes))
            number += len(events)
        chunks.append(struct.pack(">4sI", name, len(body)) + body)
        start = end
    return b"".join(chunks) + data[start:]


def _moved(
    events: list[tuple[int, bytes]], first: int, changes: Mapping[int, tuple[int, int]]
) -> Iterator[tuple[int, bytes]]:
    """The events of a track in order of time.

    Args:
        first: number of the first of them.
    """
    moved = list(events)
    open_notes: dict[tuple[int, int], list[int]] = {}
    last_ends: dict[tuple[int, int], int] = {}
    for place, (tick, event) in enumerate(events):
        kind, note = event[0] & 0xF0, (event[0] & 0xF, event[1])
        if kind == NOTE_ON and event[2]:
            open_notes.setdefault(note, []).append(place)
            if first + place in changes:
                ticks, velocity = changes[first + place]
                moved[place] = tick + ticks, event[:2] + bytes([velocity])
            if (before := last_ends.get(note)) is not None:
                moved[before] = min(moved[before][0], moved[place][0]), moved[before][1]
        elif kind in (NOTE_OFF, NOTE_ON) and open_notes.get(note):
            begun = open_notes[note].pop(0)
            moved[place] = tick + moved[begun][0] - events[begun][0], event
            last_ends[note] = place
    ends = events and events[-1][1].startswith(END_OF_TRACK)
    body, tail = (moved[:-1], moved[-1:]) if ends else (moved, [])
    last = 0
    for last, event in sorted(body, key=_tick):
        yield last, event
    for tick, event in tail:
        yield max(tick, last), event
