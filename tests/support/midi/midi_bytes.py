"""MIDI files put together byte by byte from the standard, sharing no code with the project."""

from collections.abc import Iterable

Event = tuple[int, bytes]
"""Tick from the start of the file, and the bytes of one MIDI event."""
DRUM_CHANNEL = 9


def midi_file(*tracks: Iterable[Event], division: int = 480, kind: int = 1) -> bytes:
    """A file with one chunk a track; of format 1 unless said otherwise."""
    bodies = [_track(sorted(track, key=lambda event: event[0])) for track in tracks]
    return raw_file(*bodies, division=division, kind=kind)


def raw_file(*bodies: bytes, division: int = 480, kind: int = 1) -> bytes:
    """A file whose tracks hold the given bytes, whatever they are."""
    header = kind.to_bytes(2, "big") + len(bodies).to_bytes(2, "big") + division.to_bytes(2, "big")
    return b"".join([_chunk(b"MThd", header), *(_chunk(b"MTrk", body) for body in bodies)])


def riff_file(midi: bytes, *chunks_before: tuple[bytes, bytes]) -> bytes:
    """A MIDI file wrapped in RIFF, after chunks of (name, content); RIFF chunks are padded to even lengths."""
    chunks = [*chunks_before, (b"data", midi)]
    body = b"RMID" + b"".join(name + len(c).to_bytes(4, "little") + c + b"\0" * (len(c) % 2) for name, c in chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def hit(tick: int, pitch: int, velocity: int = 100, length: int = 60, channel: int = DRUM_CHANNEL) -> list[Event]:
    """A note-on and its note-off."""
    return [
        (tick, bytes([0x90 | channel, pitch, velocity])),
        (tick + length, bytes([0x80 | channel, pitch, 0])),
    ]


def tempo(tick: int, quarters_per_minute: float) -> Event:
    return tick, b"\xff\x51\x03" + round(60_000_000 / quarters_per_minute).to_bytes(3, "big")


def metre(tick: int, numerator: int, denominator: int) -> Event:
    return tick, bytes([0xFF, 0x58, 4, numerator, denominator.bit_length() - 1, 24, 8])


def track_name(text: bytes) -> Event:
    return 0, b"\xff\x03" + bytes([len(text)]) + text


def marker(tick: int) -> Event:
    """Something that makes no sound; the last event of a track is where the track ends."""
    return tick, b"\xff\x06\x01x"


def _track(events: list[Event]) -> bytes:
    body, before = b"", 0
    for tick, event in events:
        body += _variable_length(tick - before) + event
        before = tick
    return body + b"\x00\xff\x2f\x00"


def _variable_length(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "big") + body
