"""A third reading of MIDI files: byte after byte as the standard has it, plain loops, nothing of the project.

`oracle_midi` reads sound recordings with libraries of others, which each treat damage in their own way. This one says
of any bytes what can be read of them.
"""

from dataclasses import dataclass

Hit = tuple[int, int, int]
"""Tick, pitch and velocity."""
DRUMS = 9
"""The channel of drums, counted from 0."""
PROGRAM, PRESSURE, BEND, SYSTEM = 0xC0, 0xD0, 0xE0, 0xF0


MOST_TRACKS, MOST_CHANGES = 0xFFFF, 100_000
"""Of a file that is taken for music; changes are those of tempo and metre, together."""


class UnreadableError(Exception):
    """The bytes are no whole MIDI file."""


@dataclass
class _Track:
    hits: list[Hit]
    messages: list[bytes]
    changes: int


def drum_hits(data: bytes) -> list[list[Hit]]:
    """The hits of channel 10 in file order: of all tracks together, or in format 2 of each track.

    What follows the tracks that the header announces counts as far as it is whole tracks.

    Raises:
        UnreadableError: a header that is none, time in frames, or an announced track that is missing or damaged.
    """
    data = _unwrapped(data)
    if len(data) < 14 or data[:4] != b"MThd":
        raise UnreadableError("no header")
    kind, announced, division = (int.from_bytes(data[start : start + 2], "big") for start in (8, 10, 12))
    if kind > 2 or not 0 < division < 0x8000:
        raise UnreadableError("another format or division")
    tracks: list[_Track] = []
    place = 8 + int.from_bytes(data[4:8], "big")
    while place + 8 <= len(data):
        end = place + 8 + int.from_bytes(data[place + 4 : place + 8], "big")
        try:
            if end > len(data):
                raise UnreadableError("a chunk is longer than the file")
            if data[place : place + 4] == b"MTrk":
                tracks.append(_read_track(data[place + 8 : end], tracks[-1].changes if tracks else 0))
        except UnreadableError:
            if len(tracks) < announced:
                raise
            break
        place = end
    if not announced <= len(tracks) <= MOST_TRACKS:
        raise UnreadableError("tracks are missing, or too many")
    if not _are_drums([message for track in tracks for message in track.messages]):
        for track in tracks:
            track.hits.clear()
    return [track.hits for track in tracks] if kind == 2 else [[hit for track in tracks for hit in track.hits]]


def _unwrapped(data: bytes) -> bytes:
    """The MIDI file in a RIFF file."""
    if data[:4] != b"RIFF":
        return data
    if data[8:12] != b"RMID":
        raise UnreadableError("a RIFF file of another kind")
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if place + 8 + size > len(data):
            raise UnreadableError("a RIFF chunk is longer than the file")
        if data[place : place + 4] == b"data":
            return data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    raise UnreadableError("no MIDI file in it")


class _Bytes:
    """Bytes that are taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def peek(self) -> int:
        if self.place >= len(self.data):
            raise UnreadableError("the track ends within an event")
        return self.data[self.place]

    def one(self) -> int:
        value = self.peek()
        self.place += 1
        return value

    def some(self, size: int) -> bytes:
        if self.place + size > len(self.data):
            raise UnreadableError("the track ends within an event")
        self.place += size
        return self.data[self.place - size : self.place]

    def number(self) -> int:
        """A number of up to four bytes of seven bits."""
        value = 0
        for _ in range(4):
            byte = self.one()
            value = value * 128 + byte % 128
            if byte < 128:
                return value
        raise UnreadableError("a number of more than four bytes")

    def low(self) -> int:
        """A data byte."""
        value = self.one()
        if value >= 128:
            raise UnreadableError("a data byte above 127")
        return value


def _read_track(data: bytes, changes: int) -> _Track:
    """A track; it and those before it have so many changes."""
    track, left = _Track([], [], changes), _Bytes(data)
    tick, running = 0, 0
    while left.place < len(data):
        tick += left.number()
        if left.peek() >= SYSTEM:
            _read_system_event(left, track)
            continue
        if left.peek() >= 128:
            running = left.one()
            if running & 0xF0 in (PROGRAM, PRESSURE):
                left.one()  # whatever it is: these sound no hit
                continue
        elif not running:
            raise UnreadableError("a data byte before any status byte")
        first = left.low()
        if running & 0xF0 in (PROGRAM, PRESSURE):
            continue
        second = left.low()
        if running == 0x90 | DRUMS and second:
            track.hits.append((tick, first, second))
    return track


def _read_system_event(left: _Bytes, track: _Track) -> None:
    match left.one():
        case 0xFF:
            kind = left.one()
            content = left.some(left.number())
            if kind in (0x51, 0x58) and track.changes >= MOST_CHANGES:
                raise UnreadableError("too many changes")
            is_tempo = kind == 0x51 and len(content) >= 3 and any(content[:3])
            track.changes += is_tempo or (kind == 0x58 and len(content) >= 2 and content[0] != 0)
        case 0xF0:
            track.messages.append(left.some(left.number()))
        case 0xF7:
            left.some(left.number())
        case _:
            raise UnreadableError("a byte that no file may hold")


def _are_drums(messages: list[bytes]) -> bool:
    """Whether channel 10 is for drums, after all messages of Roland's GS and Yamaha's XG."""
    are_drums = True
    for message in messages:
        is_gs = len(message) >= 7 and message[0] == 0x41 and message[2:5] == b"\x42\x12\x40"
        is_xg = len(message) >= 6 and message[0] == 0x43 and 0x10 <= message[1] < 0x20 and message[2] == 0x4C
        is_gm_on = len(message) >= 4 and message[0] == 0x7E and message[2] == 0x09 and message[3] in (1, 3)
        if is_gm_on or (is_gs and message[5:8] == b"\x00\x7f\x00") or (is_xg and message[3:6] == b"\0\0\x7e"):
            are_drums = True
        elif is_gs and len(message) >= 8 and message[5:7] == b"\x10\x15":
            are_drums = message[7] != 0
        elif is_xg and len(message) >= 7 and message[3:6] == b"\x08\x09\x07":
            are_drums = message[6] != 0
    return are_drums
