"""Reads what drum performances need from the events of a Standard MIDI File.

A hit is a note-on. Libraries that pair note-ons with note-offs lose hits where a drum is struck again before its
note-off, or is never switched off; both happen in drum recordings, and neither is an error here.

Every event of a collection passes through here, so a pattern finds where the events end and numpy does the rest for all
tracks at once; Python looks only at the rare events that are not of a channel.
"""

import re
import struct
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int64, UInt8

DRUM_CHANNEL = 10
"""The channel that General MIDI keeps for drums, counted from 1."""
NOTE_ON, PROGRAM_CHANGE, PITCH_BEND, SYSEX, SYSEX_END, META = 0x90, 0xC0, 0xE0, 0xF0, 0xF7, 0xFF
TRACK_NAME, TEMPO, METRE = 0x03, 0x51, 0x58
MICROSECONDS_A_MINUTE = 60_000_000
MAX_TRACKS = 0xFFFF
"""As many as a header can announce."""
DRUM_NAME = re.compile(rb"drum|perc|kit|beat", re.IGNORECASE)

_EVENT = rb"[\x80-\xff]{0,3}[\x00-\x7f](?:[\x80-\xbf\xe0-\xef].|[\x00-\x7f])."
"""A delta time and a channel event of two data bytes; a status byte like the one before may be left out."""
EVENT = re.compile(_EVENT, re.DOTALL)
EVENTS = re.compile(b"(?:" + _EVENT + b"){1,1000}+", re.DOTALL)
OTHER_EVENT = bytes([SYSEX, 0, 0])
"""Stands for every event that is no channel event of two data bytes; of those only the time matters later."""

Mark = TypeVar("Mark", bound=tuple)


class MidiError(ValueError):
    """The bytes are no MIDI file that can be read."""


class SmpteError(MidiError):
    """The file counts time in frames of film, not in beats."""


class TooManyHitsError(ValueError):
    """The file has more hits than the caller takes; `hits` says how many."""

    def __init__(self, hits: int, most: int) -> None:
        self.hits = hits
        super().__init__(f"{hits} hits, at most {most} are taken")


@dataclass(frozen=True, slots=True, eq=False)
class MidiEvents:
    """The events of one piece, in ticks from its start, track by track in file order.

    Attributes:
        division: ticks of a quarter note.
        tick, pitch, velocity: of every hit: note-ons of the chosen channels and tracks with a velocity.
        tempos: (tick, quarter notes per minute).
        metres: (tick, numerator, denominator).
        end: tick of the last event of any kind.
    """

    division: int
    tick: Int64[np.ndarray, " hit"]
    pitch: UInt8[np.ndarray, " hit"]
    velocity: UInt8[np.ndarray, " hit"]
    tempos: list[tuple[int, float]]
    metres: list[tuple[int, int, int]]
    end: int


@dataclass(slots=True)
class _Tracks:
    """The events of all tracks, one after the other.

    Attributes:
        data: of each event its delta time, its status byte unless left out, and two data bytes.
        lengths: bytes of each event in `data`.
        first: number of each track's first event.
        named: whether each track is named like drums.
        tempos: (number of the event, quarter notes per minute).
        metres: (number of the event, numerator, denominator).
    """

    data: bytearray = field(default_factory=bytearray)
    lengths: bytearray = field(default_factory=bytearray)
    first: list[int] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    tempos: list[tuple[int, float]] = field(default_factory=list)
    metres: list[tuple[int, int, int]] = field(default_factory=list)


def read_events(
    data: bytes,
    *,
    channels: Collection[int] = (DRUM_CHANNEL,),
    drum_tracks: bool = False,
    max_hits: int | None = None,
) -> list[MidiEvents]:
    """The pieces of a file: one in formats 0 and 1, whose tracks sound together; one for each track of format 2.

    Args:
        data: a MIDI file, or a RIFF file around one.
        channels: channels whose notes are hits, counted from 1.
        drum_tracks: whether all notes of tracks named like drums are hits too.
        max_hits: most hits of all pieces together.

    Raises:
        MidiError: no MIDI header, or a damaged file.
        SmpteError: time in frames of film.
        TooManyHitsError: more than `max_hits`; raised before they are gathered.
    """
    if data[:4] == b"RIFF":
        data = _midi_in_riff(data)
    kind, division, tracks = _read_tracks(data)
    return _pieces(tracks, division, kind == 2, channels, drum_tracks, max_hits)


def _midi_in_riff(data: bytes) -> bytes:
    if data[8:12] != b"RMID":
        raise MidiError(f"a RIFF file of kind {data[8:12]!r}, expected {b'RMID'!r}")
    start = 12
    while start + 8 <= len(data):
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        if end > len(data):
            raise MidiError(f"a RIFF chunk ends at byte {end}, the file at byte {len(data)}")
        if data[start : start + 4] == b"data":
            return data[start + 8 : end]
        start = end + end % 2
    raise MidiError("a RIFF file without a data chunk")


def _read_tracks(data: bytes) -> tuple[int, int, _Tracks]:
    """Format, division and tracks of a file."""
    if not data:
        raise MidiError("the file is empty")
    if data[:4] != b"MThd":
        raise MidiError(f"no MIDI header, the file begins with {data[:4]!r}")
    if len(data) < 14:
        raise MidiError("the header is cut off")
    size, kind, announced, division = struct.unpack(">IHHH", data[4:14])
    if kind > 2:
        raise MidiError(f"format {kind}, expected 0, 1 or 2")
    if division >= 0x8000:
        raise SmpteError("time in SMPTE frames, expected ticks of a quarter note")
    if not division:
        raise MidiError("0 ticks a quarter")
    tracks = _Tracks()
    start = 8 + size
    while start + 8 <= len(data):
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
        if end > len(data):
            raise MidiError(f"a chunk ends at byte {end}, the file at byte {len(data)}")
        if data[start : start + 4] == b"MTrk":
            try:
                _read_track(data[start + 8 : end], tracks)
            except IndexError:
                raise MidiError(f"the track at byte {start} ends within an event") from None
        start = end
    if len(tracks.first) < announced:
        raise MidiError(f"{announced - len(tracks.first)} tracks fewer than the header says")
    if len(tracks.first) > MAX_TRACKS:
        raise MidiError(f"{len(tracks.first)} tracks, a header can announce {MAX_TRACKS}")
    return kind, division, tracks


def _read_track(track: bytes, tracks: _Tracks) -> None:
    """Appends a track's events.

    Raises:
        IndexError: the track ends within an event.
    """
    tracks.first.append(len(tracks.lengths))
    tracks.named.append(False)
    place, one_data_byte = 0, False  # whether an event without a status byte has one data byte
    while place < len(track):
        if not one_data_byte and (run := EVENTS.match(track, place)):
            tracks.data += run.group()
            tracks.lengths += bytes(map(len, EVENT.findall(track, place, run.end())))
            place = run.end()
            continue
        start = place
        _, place = _variable_length(track, start)
        delta, byte = track[start:place], track[place]
        if byte >= SYSEX:
            place = _read_system_event(track, place, tracks)
        elif PROGRAM_CHANGE <= byte < PITCH_BEND:  # these two kinds have one data byte, all others two
            one_data_byte = True
            place += 2
        elif one_data_byte and byte < 0x80:
            place += 1
        elif one_data_byte:
            one_data_byte = False
            place = start
            continue
        else:
            raise IndexError
        if place > len(track):
            raise IndexError
        tracks.data += delta + OTHER_EVENT
        tracks.lengths.append(len(delta) + len(OTHER_EVENT))


def _read_system_event(track: bytes, place: int, tracks: _Tracks) -> int:
    """Reads a meta event or steps over a system exclusive one; returns the place after it."""
    kind = track[place]
    if kind not in (META, SYSEX, SYSEX_END):
        raise MidiError(f"status byte {kind:#x} has no place in a file")
    meta = track[place + 1] if kind == META else None
    size, start = _variable_length(track, place + (2 if kind == META else 1))
    end = start + size
    if end > len(track):
        raise IndexError
    event = len(tracks.lengths)
    if meta == TEMPO and size >= 3 and (microseconds := int.from_bytes(track[start : start + 3], "big")):
        tracks.tempos.append((event, MICROSECONDS_A_MINUTE / microseconds))
    elif meta == METRE and size >= 2 and track[start]:
        tracks.metres.append((event, track[start], 1 << track[start + 1]))
    elif meta == TRACK_NAME and DRUM_NAME.search(track, start, end):
        tracks.named[-1] = True
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


def _pieces(
    tracks: _Tracks,
    division: int,
    each_track: bool,
    channels: Collection[int],
    drum_tracks: bool,
    max_hits: int | None,
) -> list[MidiEvents]:
    """The tracks as one piece, or each as one of its own."""
    data = np.frombuffer(tracks.data, dtype=np.uint8)
    lengths = np.frombuffer(tracks.lengths, dtype=np.uint8)
    last = np.cumsum(lengths, dtype=np.int64) - 1
    first = np.array(tracks.first, dtype=np.int64)
    per_track = np.diff(first, append=len(last))
    status = data[last - 2]
    has_status = status >= 0x80
    tick = _ticks(data, last - 2 - has_status, lengths - 2 - has_status, first, per_track)
    status = _with_running_status(status, has_status, np.repeat(first, per_track))

    hit_statuses = np.zeros(256, dtype=bool)
    hit_statuses[[NOTE_ON + channel - 1 for channel in channels]] = True
    is_hit = hit_statuses[status]
    if drum_tracks:
        is_hit |= (status & 0xF0 == NOTE_ON) & np.repeat(tracks.named, per_track)
    hits = np.flatnonzero(is_hit & (data[last] > 0))
    if max_hits is not None and len(hits) > max_hits:
        raise TooManyHitsError(len(hits), max_hits)
    pitch, velocity = data[last[hits] - 1], data[last[hits]]
    if len(odd := np.flatnonzero((pitch | velocity) >= 0x80)):
        raise MidiError(f"a note of pitch {pitch[odd[0]]} and velocity {velocity[odd[0]]}")

    bounds = [*tracks.first, len(last)] if each_track else [0, len(last)]
    cuts = np.searchsorted(hits, bounds).tolist()
    return [
        MidiEvents(
            division,
            tick[hits[a:b]],
            pitch[a:b],
            velocity[a:b],
            [(int(tick[event]), tempo) for event, tempo in _between(tracks.tempos, start, end)],
            [(int(tick[event]), beats, unit) for event, beats, unit in _between(tracks.metres, start, end)],
            int(tick[start:end].max(initial=0)),
        )
        for (start, end), (a, b) in zip(pairwise(bounds), pairwise(cuts), strict=True)
    ]


def _ticks(
    data: UInt8[np.ndarray, " byte"],
    delta_end: Int64[np.ndarray, " event"],
    delta_bytes: UInt8[np.ndarray, " event"],
    first: Int64[np.ndarray, " track"],
    per_track: Int64[np.ndarray, " track"],
) -> Int64[np.ndarray, " event"]:
    """Ticks of each event from the start of its track, given the last byte and the number of bytes of its delta."""
    delta = data[delta_end].astype(np.int64)
    for more in range(1, 4):
        if not len(longer := np.flatnonzero(delta_bytes > more)):
            break
        delta[longer] |= (data[delta_end[longer] - more] & 0x7F).astype(np.int64) << 7 * more
    total = np.concatenate([[0], np.cumsum(delta)])
    return total[1:] - np.repeat(total[first], per_track)


def _with_running_status(
    status: UInt8[np.ndarray, " event"],
    has_status: Bool[np.ndarray, " event"],
    first_of_track: Int64[np.ndarray, " event"],
) -> UInt8[np.ndarray, " event"]:
    """Each event's own status byte, or that of the channel event before it in its track."""
    of_channel = has_status & (status < SYSEX)
    giver = np.maximum.accumulate(np.where(of_channel, np.arange(len(status)), -1))
    if (~has_status & (giver < first_of_track)).any():
        raise MidiError("a data byte before any status byte")
    return np.where(has_status, status, status[giver])


def _between(marks: list[Mark], start: int, end: int) -> list[Mark]:
    """The marks of events start..end-1; marks begin with their event and stand in its order."""
    return marks[bisect_left(marks, (start,)) : bisect_left(marks, (end,))]
