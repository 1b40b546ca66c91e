"""Takes MIDI files apart and puts other things into them, as far as the bytes make sense.

Written from the standard; it shares no code with the project.
"""

from collections.abc import Sequence
from random import Random

Chunk = tuple[bytes, bytes]
"""Kind and body."""


def split_chunks(data: bytes) -> list[Chunk]:
    """The chunks of any bytes, as far as they make sense; at least one."""
    chunks: list[Chunk] = []
    place = 0
    while place < len(data) or not chunks:
        size = int.from_bytes(data[place + 4 : place + 8], "big")
        chunks.append((data[place : place + 4], data[place + 8 : place + 8 + size]))
        place += 8 + size
    return chunks


def join_chunks(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(kind + len(body).to_bytes(4, "big") + body for kind, body in chunks)


def with_format(data: bytes, kind: int) -> bytes:
    return data[:8] + kind.to_bytes(2, "big") + data[10:]


def with_tracks(data: bytes, bodies: Sequence[bytes]) -> bytes:
    """More tracks at the end, announced as far as a header can."""
    chunks = [*split_chunks(data), *((b"MTrk", body) for body in bodies)]
    tracks = min(0xFFFF, sum(kind == b"MTrk" for kind, _ in chunks))
    whole = join_chunks(chunks)
    return whole[:10] + tracks.to_bytes(2, "big") + whole[12:]


def insert_events(data: bytes, rng: Random, events: bytes, *, at_start: bool = False) -> bytes:
    """Events, each with its delta time, between two events of some track, or as its first."""
    chunks = split_chunks(data)
    tracks = [number for number, (kind, _) in enumerate(chunks) if kind == b"MTrk"] or [len(chunks) - 1]
    number = rng.choice(tracks)
    kind, body = chunks[number]
    place = 0 if at_start else rng.choice(_event_starts(body))
    chunks[number] = kind, body[:place] + events + body[place:]
    return join_chunks(chunks)


def _event_starts(track: bytes) -> list[int]:
    """Where events begin, as far as they make sense."""
    starts, place, status = [0], 0, 0
    try:
        while place < len(track):
            _, place = _read_number(track, place)
            if track[place] >= 0x80:
                status = track[place]
                place += 1
            if status >= 0xF0:
                size, place = _read_number(track, place + (status == 0xFF))
                place += size
            else:
                place += 1 if 0xC0 <= status < 0xE0 else 2
            starts.append(min(place, len(track)))
    except IndexError:
        return starts  # of a track that is cut off already, what is there
    return starts


def _read_number(track: bytes, place: int) -> tuple[int, int]:
    """A variable-length number and the place after it."""
    value = track[place] & 0x7F
    while track[place] >= 0x80:
        place += 1
        value = value << 7 | track[place] & 0x7F
    return value, place + 1


def variable_length(value: int) -> bytes:
    """A number below 2**28 as delta times and lengths are written."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
