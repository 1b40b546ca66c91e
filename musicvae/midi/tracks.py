"""The bytes of a Standard MIDI File -> the events of its tracks, one after the other, and what is damaged in them.

Every byte of a collection passes through here. So one pattern checks rows of channel events at once, numpy reads them
later, and Python looks only at the other events, which are rare.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from musicvae.midi.settings import LOOP_MARK

PROGRAM_CHANGE, PITCH_BEND, SYSEX, SYSEX_END, META = 0xC0, 0xE0, 0xF0, 0xF7, 0xFF
TEXT, TRACK_NAME, TEMPO, METRE = 0x01, 0x03, 0x51, 0x58
MICROSECONDS_A_MINUTE = 60_000_000
MAX_TRACKS = 0xFFFF
"""As many as a header can announce."""
MAX_CHANGES = 100_000
"""Of tempo and metre together; a file with millions is no music, and would cost seconds and gigabytes."""
LONGEST_NAME = 200
"""Bytes of a track's name that are kept."""
DRUM_NAME = re.compile(rb"drum|perc|kit|beat", re.IGNORECASE)
EVENTS = re.compile(rb"(?:[\x80-\xff]{0,3}+[\x00-\x7f][\x80-\xbf\xe0-\xef]?+[\x00-\x7f]{2}+){1,1000}+")
"""A row of delta times and channel events of two data bytes; a status byte like the one before may be left out.

Nothing in it can be read in two ways, so possessive quantifiers spare the bookkeeping for a second try."""
OTHER_EVENT = bytes(2)
"""Stands for every event that is no channel event of two data bytes, in the form of one that nobody hears; only its
time matters."""
RHYTHM_PART = re.compile(
    rb"\x41.\x42\x12\x40([\x10-\x1f])\x15(.)|\x43[\x10-\x1f]\x4c\x08([\x00-\x0f])\x07(.)", re.DOTALL
)
"""The messages of Roland's GS ("use for rhythm part") and of Yamaha's XG ("part mode"); 0 is a melodic part."""
RESET = re.compile(rb"\x41.\x42\x12\x40\x00\x7f\x00|\x43[\x10-\x1f]\x4c\x00\x00\x7e|\x7e.\x09[\x01\x03]", re.DOTALL)
"""The messages that turn GS, XG or General MIDI on: channel 10 alone is for drums then."""


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
        names: of each track, empty where it has none.
        tempos: (place of the event in `data`, quarter notes per minute).
        metres: (place of the event in `data`, numerator, denominator).
        rhythm: whether a channel, counted from 1, is for drums, as far as GS and XG messages say.
        mended: places in `data` of channel events with a data byte above 127; there they have no data.
        broken: by number of the track, why it is not read to its end.
        missing: tracks that the header announces and the file does not have.
        extra_bytes: after the last track that is read.
        loops: whether the file says that its early hits are at its end (`LOOP_MARK`).
    """

    kind: int
    division: int
    data: bytearray = field(default_factory=bytearray)
    starts: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    tempos: list[tuple[int, float]] = field(default_factory=list)
    metres: list[tuple[int, int, int]] = field(default_factory=list)
    rhythm: dict[int, bool] = field(default_factory=dict)
    mended: list[int] = field(default_factory=list)
    broken: dict[int, str] = field(default_factory=dict)
    missing: int = 0
    extra_bytes: int = 0
    loops: bool = False


def read_tracks(data: bytes, *, salvage: bool = False) -> MidiTracks:
    """The tracks of a MIDI file, or of a RIFF file around one.

    What follows the tracks that the header announces may be anything. It is read where it is whole tracks.

    Args:
        salvage: whether damage within the announced tracks is stepped over and noted instead of refused.

    Raises:
        MidiError: no MIDI header, or a damaged file.
        SmpteError: time in frames of film.
    """
    if data[:4] == b"RIFF":
        data = midi_in_riff(data)
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
    _read_chunks(data, 8 + size, announced, tracks, salvage=salvage)
    tracks.missing = max(0, announced - len(tracks.starts))
    if tracks.missing and not salvage:
        raise MidiError(f"{tracks.missing} tracks fewer than the header says")
    if len(tracks.starts) > MAX_TRACKS:
        raise MidiError(f"{len(tracks.starts)} tracks, a header can announce {MAX_TRACKS}")
    return tracks


def _read_chunks(data: bytes, start: int, announced: int, tracks: MidiTracks, *, salvage: bool) -> None:
    read = start
    while start + 8 <= len(data):
        is_track, number = data[start : start + 4] == b"MTrk", len(tracks.starts)
        end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "big")
        problem = f"a chunk ends at byte {end}, the file at byte {len(data)}" if end > len(data) else ""
        if problem and number >= announced:
            break
        if problem and not salvage:
            raise MidiError(problem)
        if problem:
            # A wrong length: what follows is found by its name, and whatever it hides belongs to the track before it.
            end = data.find(b"MTrk", start + 8)
            end = len(data) if end < 0 else end
            if number and not is_track:
                tracks.broken.setdefault(number - 1, problem)
        if is_track:
            try:
                _read_track(data[start + 8 : end], tracks, salvage=salvage and number < announced)
            except (IndexError, MidiError) as error:
                if number >= announced:
                    _forget_track(tracks)
                    break
                named = MidiError(f"the track at byte {start} ends within an event")
                failure = error if isinstance(error, MidiError) else named
                if not salvage:
                    raise failure from None
                problem = problem or str(failure)
            if problem:
                tracks.broken[number] = problem
            read = end
        start = end
    if len(tracks.starts) >= announced:
        tracks.extra_bytes = len(data) - read


def _forget_track(tracks: MidiTracks) -> None:
    """Takes back what was read of the last track."""
    start = tracks.starts.pop()
    tracks.names.pop()
    del tracks.data[start:]
    tracks.tempos[:] = [tempo for tempo in tracks.tempos if tempo[0] < start]
    tracks.metres[:] = [metre for metre in tracks.metres if metre[0] < start]
    tracks.mended[:] = [place for place in tracks.mended if place < start]


def midi_in_riff(data: bytes) -> bytes:
    """The MIDI file in a RIFF file.

    Raises:
        MidiError: there is none.
    """
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


def _read_track(track: bytes, tracks: MidiTracks, *, salvage: bool) -> None:
    """Appends a track's events, up to the damage where it raises.

    Args:
        salvage: whether an event with a data byte above 127 is stepped over.

    Raises:
        IndexError: the track ends within an event.
        MidiError: bytes that are no event, or an event whose status byte was never said.
    """
    tracks.starts.append(len(tracks.data))
    tracks.names.append(b"")
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
        elif salvage and (size := _mendable(track, place)) and (byte >= 0x80 or any_status):
            any_status = True
            tracks.mended.append(len(tracks.data))
            tracks.data += delta + track[place : place + size - 2] + OTHER_EVENT
            place += size
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
    return MidiError(f"bytes {track[place : place + size].hex(' ')} are not an event; data bytes are below 80")


def _mendable(track: bytes, place: int) -> int:
    """The size of a channel event of two data bytes one of which is above 127; 0 if it is no such event."""
    size = 3 if track[place] >= 0x80 else 2
    event = track[place : place + size]
    return size if len(event) == size and sum(byte >= 0x80 for byte in event[-2:]) == 1 else 0


def _read_system_event(track: bytes, place: int, tracks: MidiTracks) -> int:
    """Reads a meta event or steps over a system exclusive one; returns the place after it."""
    kind = track[place]
    if kind not in (META, SYSEX, SYSEX_END):
        raise MidiError(f"status byte {kind:#x} is not allowed in a file")
    meta = track[place + 1] if kind == META else None
    size, start = _variable_length(track, place + (2 if kind == META else 1))
    end = start + size
    if end > len(track):
        raise IndexError
    if meta in (TEMPO, METRE) and len(tracks.tempos) + len(tracks.metres) >= MAX_CHANGES:
        raise MidiError(f"more than {MAX_CHANGES} changes of tempo and metre")
    if meta == TEMPO and size >= 3 and (microseconds := int.from_bytes(track[start : start + 3], "big")):
        tracks.tempos.append((len(tracks.data), MICROSECONDS_A_MINUTE / microseconds))
    elif meta == METRE and size >= 2 and track[start]:
        tracks.metres.append((len(tracks.data), track[start], 1 << track[start + 1]))
    elif meta == TRACK_NAME and (not tracks.names[-1] or DRUM_NAME.search(track, start, end)):
        tracks.names[-1] = track[start : min(end, start + LONGEST_NAME)]
    elif meta == TEXT and track[start:end] == LOOP_MARK:
        tracks.loops = True
    elif kind == SYSEX:
        _follow_message(track, start, end, tracks)
    return end


def _follow_message(track: bytes, start: int, end: int, tracks: MidiTracks) -> None:
    """Notes which channel a GS or XG message makes a drum part or a melodic one."""
    if RESET.match(track, start, end):
        tracks.rhythm.clear()
    elif message := RHYTHM_PART.match(track, start, end):
        gs_part, gs_use, xg_part, xg_mode = message.groups()
        # Part 0 of GS is channel 10, parts 1 to 9 are channels 1 to 9.
        channel = (gs_part[0] & 0xF) + (gs_part[0] & 0xF > 9) or 10 if gs_part else xg_part[0] + 1
        tracks.rhythm[channel] = (gs_use or xg_mode) != b"\0"


def raw_events(track: bytes) -> Iterator[tuple[int, bytes]]:
    """The events of an undamaged track as they are, each with its status byte, and its tick from the track's start.

    Raises:
        IndexError: the track ends within an event.
        MidiError: an event whose status byte was never said.
    """
    place = tick = status = 0
    while place < len(track):
        delta, place = _variable_length(track, place)
        tick, start = tick + delta, place
        if track[place] in (META, SYSEX, SYSEX_END):
            size, place = _variable_length(track, place + (2 if track[place] == META else 1))
            place += size
            event = track[start:place]
        else:
            if track[place] >= 0x80:
                status, place = track[place], place + 1
            if not status:
                raise MidiError("a data byte before any status byte")
            data, place = place, place + (1 if PROGRAM_CHANGE <= status < PITCH_BEND else 2)
            event = bytes([status]) + track[data:place]
        if place > len(track):
            raise IndexError
        yield tick, event


def raw_track(events: Iterable[tuple[int, bytes]]) -> bytes:
    """The track whose `raw_events` are these, in order of time."""
    track, before = bytearray(), 0
    for tick, event in events:
        delta = tick - before
        bits = range(7 * max(0, (delta.bit_length() - 1) // 7), 0, -7)
        track += bytes([*(delta >> shift & 0x7F | 0x80 for shift in bits), delta & 0x7F]) + event
        before = tick
    return bytes(track)


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
