"""Reads what a drum performance needs from the events of a Standard MIDI File, in one pass.

A hit is a note-on. Libraries that pair note-ons with note-offs lose hits where a drum is struck again before its
note-off, or is never switched off; both happen in drum recordings, and neither is an error here.
"""

import struct
from dataclasses import dataclass, field

DRUM_NOTE_ON = 0x99
"""Note-on on channel 10, which the standard numbers 9."""
META, SYSEX, SYSEX_END = 0xFF, 0xF0, 0xF7
TEMPO, METRE = 0x51, 0x58
MICROSECONDS_A_MINUTE = 60_000_000


class MidiError(ValueError):
    """The bytes are no MIDI file that can be read."""


@dataclass(slots=True)
class MidiEvents:
    """Events of all tracks, in ticks from the start of the file, track by track in file order.

    Attributes:
        division: ticks of a quarter note.
        hits: (tick, pitch, velocity) of every note-on on the drum channel with a velocity.
        tempos: (tick, quarter notes per minute).
        metres: (tick, numerator, denominator).
    """

    division: int
    hits: list[tuple[int, int, int]] = field(default_factory=list)
    tempos: list[tuple[int, float]] = field(default_factory=list)
    metres: list[tuple[int, int, int]] = field(default_factory=list)


def read_events(data: bytes) -> MidiEvents:
    """The events of a file of format 0 or 1.

    Raises:
        MidiError: no MIDI header, a damaged file, SMPTE time, or format 2 (whose tracks are separate pieces).
    """
    if not data:
        raise MidiError("the file is empty")
    if data[:4] != b"MThd":
        raise MidiError(f"no MIDI header, the file begins with {data[:4]!r}")
    if len(data) < 14:
        raise MidiError("the header is cut off")
    size, kind, tracks, division = struct.unpack(">IHHH", data[4:14])
    if kind > 1:
        raise MidiError(f"format {kind}, expected 0 or 1")
    if not 0 < division < 0x8000:
        raise MidiError("time in SMPTE frames, expected ticks of a quarter note" if division else "0 ticks a quarter")
    events = MidiEvents(division)
    start = 8 + size
    while start + 8 <= len(data):
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
        if end > len(data):
            raise MidiError(f"a chunk ends at byte {end}, the file at byte {len(data)}")
        if data[start : start + 4] == b"MTrk":
            try:
                _read_track(data[start + 8 : end], events)
            except IndexError:
                raise MidiError(f"the track at byte {start} ends within an event") from None
            tracks -= 1
        start = end
    if tracks > 0:
        raise MidiError(f"{tracks} tracks fewer than the header says")
    return events


def _read_track(track: bytes, events: MidiEvents) -> None:
    """Appends a track's events. One flat loop, because it runs once for every event of a collection."""
    place, tick, status = 0, 0, 0
    hits = events.hits
    while place < len(track):
        byte = track[place]
        place += 1
        if byte < 0x80:
            tick += byte
        else:
            delta, place = _variable_length(track, place - 1)
            tick += delta
        byte = track[place]
        if byte >= 0x80:
            place += 1
            if byte >= SYSEX:
                place = _read_system_event(byte, track, place, tick, events)
                continue
            status = byte
        if status == DRUM_NOTE_ON:
            pitch, velocity = track[place], track[place + 1]
            if pitch | velocity >= 0x80:
                raise MidiError(f"a note of pitch {pitch} and velocity {velocity}")
            if velocity:
                hits.append((tick, pitch, velocity))
            place += 2
        elif 0xC0 <= status < 0xE0:  # program change and channel pressure have one data byte, all others two
            place += 1
        elif status:
            place += 2
        else:
            raise MidiError(f"data byte {byte} before any status byte")
    if place > len(track):
        raise IndexError


def _read_system_event(kind: int, track: bytes, place: int, tick: int, events: MidiEvents) -> int:
    """Reads a meta event or steps over a system exclusive one; returns the place after it."""
    if kind not in (META, SYSEX, SYSEX_END):
        raise MidiError(f"status byte {kind:#x} has no place in a file")
    meta = track[place] if kind == META else None
    size, start = _variable_length(track, place + (kind == META))
    end = start + size
    if end > len(track):
        raise IndexError
    if meta == TEMPO and size >= 3 and (microseconds := int.from_bytes(track[start : start + 3], "big")):
        events.tempos.append((tick, MICROSECONDS_A_MINUTE / microseconds))
    elif meta == METRE and size >= 2:
        events.metres.append((tick, track[start], 1 << track[start + 1]))
    return end


def _variable_length(track: bytes, place: int) -> tuple[int, int]:
    """A number of up to four bytes of seven bits, and the place after it."""
    value = 0
    for byte in track[place : place + 4]:
        place += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place
    if place >= len(track):
        raise IndexError
    raise MidiError("a length of more than four bytes")
