"""Splits a Standard MIDI File in tracks and their bytes in events, as far as drums need it.

Every byte of a collection passes through here, so a pattern checks rows of channel events at once, to be read with
numpy later, and Python looks only at the rare other events.
"""

import re
import struct
from dataclasses import dataclass, field

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
