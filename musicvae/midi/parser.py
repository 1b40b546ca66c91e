"""The bytes of a Standard MIDI File -> the events of a drum performance: hits, tempos, metres.

A hit is a note-on. Libraries that pair note-ons with note-offs lose hits where a drum is struck again before its
note-off, or is never switched off; both happen in drum recordings, and neither is an error here.

Every byte of a collection passes through here. So one pattern checks rows of channel events at once, numpy reads them
later, and Python looks only at the other events, which are rare.
"""

import re
import struct
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

PROGRAM_CHANGE, PITCH_BEND, SYSEX, SYSEX_END, META = 0xC0, 0xE0, 0xF0, 0xF7, 0xFF
TRACK_NAME, TEMPO, METRE = 0x03, 0x51, 0x58
MICROSECONDS_A_MINUTE = 60_000_000
MAX_TRACKS = 0xFFFF
"""As many as a header can announce."""
MAX_CHANGES = 100_000
"""Of tempo and metre together; a file with millions is no music, and would cost seconds and gigabytes."""
DRUM_NAME = re.compile(rb"drum|perc|kit|beat", re.IGNORECASE)
EVENTS = re.compile(rb"(?:[\x80-\xff]{0,3}+[\x00-\x7f][\x80-\xbf\xe0-\xef]?+[\x00-\x7f]{2}+){1,1000}+")
"""A row of delta times and channel events of two data bytes; a status byte like the one before may be left out.

Nothing in it can be read in two ways, so possessive quantifiers spare the bookkeeping for a second try."""
OTHER_EVENT = bytes(2)
"""Stands for every event that is no channel event of two data bytes, in the form of one that nobody hears; only its
time matters."""
DRUM_CHANNEL = 10
"""The channel that General MIDI keeps for drums, counted from 1."""
NOTE_ON = 0x90
MAX_TICKS = 1 << 49
"""Every track is shorter, 18,000 years at 480 ticks a quarter and 120 quarters a minute, so that tick, pitch and
velocity fit one number to sort by."""
Mark = TypeVar("Mark", bound=tuple)


class MidiError(ValueError):
    """The bytes are no MIDI file that can be read."""


class SmpteError(MidiError):
    """The file counts time in frames of film, not in beats."""


@dataclass(slots=True)
class MidiTracks:
    """The events of all tracks of a file, one after the other.

    Attributes:
        kind: format of the file: 1 and 0 hold one piece, 2 a piece in each track.
        division: ticks of a quarter note.
        data: of each event its delta time, its status byte unless left out, and two data bytes.
        starts: where in `data` each track starts.
        named: whether each track is named like drums.
        tempos: (place of the event in `data`, quarter notes per minute).
        metres: (place of the event in `data`, numerator, denominator).
    """

    kind: int
    division: int
    data: bytearray = field(default_factory=bytearray)
    starts: list[int] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    tempos: list[tuple[int, float]] = field(default_factory=list)
    metres: list[tuple[int, int, int]] = field(default_factory=list)


def read_tracks(data: bytes) -> MidiTracks:
    """The tracks of a MIDI file, or of a RIFF file around one.

    Raises:
        MidiError: no MIDI header, or a damaged file.
        SmpteError: time in frames of film.
    """
    if data[:4] == b"RIFF":
        data = _midi_in_riff(data)
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
    tracks = MidiTracks(kind, division)
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
    if len(tracks.starts) < announced:
        raise MidiError(f"{announced - len(tracks.starts)} tracks fewer than the header says")
    if len(tracks.starts) > MAX_TRACKS:
        raise MidiError(f"{len(tracks.starts)} tracks, a header can announce {MAX_TRACKS}")
    return tracks


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


def _read_track(track: bytes, tracks: MidiTracks) -> None:
    """Appends a track's events.

    Raises:
        IndexError: the track ends within an event.
        MidiError: bytes that are no event, or an event whose status byte was never said.
    """
    tracks.starts.append(len(tracks.data))
    tracks.named.append(False)
    place, any_status = 0, False
    one_data_byte = False  # whether an event without a status byte has one data byte
    while place < len(track):
        if not one_data_byte and (row := EVENTS.match(track, place)):
            if not any_status and track[_variable_length(track, place)[1]] < 0x80:
                raise MidiError("a data byte before any status byte")
            any_status = True
            tracks.data += row.group()
            place = row.end()
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
            raise _no_event(track, place)
        if place > len(track):
            raise IndexError
        tracks.data += delta + OTHER_EVENT


def _no_event(track: bytes, place: int) -> Exception:
    """Why no channel event of two data bytes stands at a place."""
    size = 3 if track[place] >= 0x80 else 2
    if place + size > len(track):
        return IndexError()
    return MidiError(f"bytes {track[place : place + size].hex(' ')} are no event: data bytes are below 80")


def _read_system_event(track: bytes, place: int, tracks: MidiTracks) -> int:
    """Reads a meta event or steps over a system exclusive one; returns the place after it."""
    kind = track[place]
    if kind not in (META, SYSEX, SYSEX_END):
        raise MidiError(f"status byte {kind:#x} has no place in a file")
    meta = track[place + 1] if kind == META else None
    size, start = _variable_length(track, place + (2 if kind == META else 1))
    end = start + size
    if end > len(track):
        raise IndexError
    if meta == TEMPO and size >= 3 and (microseconds := int.from_bytes(track[start : start + 3], "big")):
        tracks.tempos.append((len(tracks.data), MICROSECONDS_A_MINUTE / microseconds))
    elif meta == METRE and size >= 2 and track[start]:
        tracks.metres.append((len(tracks.data), track[start], 1 << track[start + 1]))
    elif meta == TRACK_NAME and DRUM_NAME.search(track, start, end):
        tracks.named[-1] = True
    if len(tracks.tempos) + len(tracks.metres) > MAX_CHANGES:
        raise MidiError(f"more than {MAX_CHANGES} changes of tempo and metre")
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
        MidiError: no MIDI header, a damaged file, or one of `MAX_TICKS` and more.
        SmpteError: time in frames of film.
        TooManyHitsError: more than `max_hits`; raised before they are gathered.
    """
    tracks = read_tracks(data)
    row = np.frombuffer(tracks.data, dtype=np.uint8)
    # Three bytes of each event are below 128: the last of its delta and two data bytes. All its others are above.
    places = (row < 0x80).nonzero()[0]
    first, tempos, metres = _event_numbers(tracks, places)
    low = places.reshape(-1, 3)
    delta, pitch, velocity = row[low].T
    tick = _ticks(row, low[:, 0], delta, first)

    status = _with_running_status(row[low[:, 1] - 1])
    is_hit = np.zeros(len(low), dtype=bool)
    for channel in channels:
        is_hit |= status == NOTE_ON + channel - 1
    if drum_tracks:
        is_hit |= (status & 0xF0 == NOTE_ON) & np.repeat(tracks.named, np.diff(first, append=len(low)))
    hits = (is_hit & (velocity > 0)).nonzero()[0]
    if max_hits is not None and len(hits) > max_hits:
        raise TooManyHitsError(len(hits), max_hits)

    bounds = [*first, len(low)]
    ends = [int(tick[end - 1]) if end > start else 0 for start, end in pairwise(bounds)]
    if (longest := max(ends, default=0)) >= MAX_TICKS:
        raise MidiError(f"a track of {longest} ticks")
    if tracks.kind != 2:
        bounds, ends = [0, len(low)], [longest]
    cuts = hits.searchsorted(bounds).tolist()
    hit_tick, pitch, velocity = tick[hits], pitch[hits], velocity[hits]
    return [
        MidiEvents(
            tracks.division,
            hit_tick[a:b],
            pitch[a:b],
            velocity[a:b],
            [(int(tick[event]), tempo) for event, tempo in _between(tempos, start, end)],
            [(int(tick[event]), beats, unit) for event, beats, unit in _between(metres, start, end)],
            last_tick,
        )
        for (start, end), (a, b), last_tick in zip(pairwise(bounds), pairwise(cuts), ends, strict=True)
    ]


def _event_numbers(
    tracks: MidiTracks, low_bytes: Int64[np.ndarray, " byte"]
) -> tuple[list[int], list[tuple[int, float]], list[tuple[int, int, int]]]:
    """The first event of each track, and tempos and metres with the number of their event in place of its place."""
    places = [*tracks.starts, *[place for place, _ in tracks.tempos], *[place for place, *_ in tracks.metres]]
    numbers = iter((low_bytes.searchsorted(places) // 3).tolist())
    return (
        [next(numbers) for _ in tracks.starts],
        [(next(numbers), tempo) for _, tempo in tracks.tempos],
        [(next(numbers), beats, unit) for _, beats, unit in tracks.metres],
    )


def _ticks(
    data: UInt8[np.ndarray, " byte"],
    delta_end: Int64[np.ndarray, " event"],
    delta: UInt8[np.ndarray, " event"],
    first: list[int],
) -> Int64[np.ndarray, " event"]:
    """Ticks of each event from the start of its track.

    Args:
        delta_end: place of the last byte of each event's delta.
        delta: that byte.
        first: the first event of each track.
    """
    tick = delta.astype(np.int64)
    longer = (data[delta_end - 1] >= 0x80).nonzero()[0]
    for more in range(1, 4):
        if not len(longer):
            break
        tick[longer] += (data[delta_end[longer] - more] & 0x7F).astype(np.int64) << 7 * more
        longer = longer[data[delta_end[longer] - more - 1] >= 0x80]
    for start, end in pairwise([*first, len(tick)]):
        tick[start:end].cumsum(out=tick[start:end])
    return tick


def _with_running_status(status: UInt8[np.ndarray, " event"]) -> UInt8[np.ndarray, " event"]:
    """Each event's status byte, or that of the last event before it that has one.

    Anything below 128 stands where an event has none.
    """
    return status[np.maximum.accumulate(np.arange(len(status)) * (status >= 0x80))]


def _between(marks: list[Mark], start: int, end: int) -> list[Mark]:
    """The marks of events start..end-1; marks begin with their event and stand in its order."""
    return marks[bisect_left(marks, (start,)) : bisect_left(marks, (end,))]
