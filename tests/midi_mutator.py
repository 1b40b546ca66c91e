"""MIDI files that are broken, absurd or hostile, made out of sound ones; a seed decides everything.

Each mutation is one thing that happens to files in the wild. It knows the format from the standard, shares no code with
the project, and takes any bytes, so that several can befall one file.
"""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

Mutation = Callable[[bytes, Random], bytes]
Chunk = tuple[bytes, bytes]
"""Kind and body."""

MILLION = 1_000_000
LONGEST_DELTA = b"\xff\xff\xff\x7f"
END_OF_TRACK = b"\x00\xff\x2f\x00"
KICK = b"\x00\x99\x24\x64"
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers at which programs break."""
SHARE_OF_PAIRS = 0.3
"""How often a second mutation befalls a file."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file, and the names of the mutations that made it."""

    data: bytes
    made_by: str


def mutants(originals: Sequence[bytes], count: int, seed: int) -> list[Mutant]:
    """`count` files of different content, none of it an original's; each mutation comes once before any comes again."""
    taken = set(originals)
    made: list[Mutant] = []
    attempt = 0
    while len(made) < count:
        rng = Random(f"{seed} {attempt}")
        mutations = [MUTATIONS[attempt % len(MUTATIONS)]]
        if attempt >= len(MUTATIONS) and rng.random() < SHARE_OF_PAIRS:
            mutations.append(rng.choice(MUTATIONS))
        data = rng.choice(originals)
        for mutation in mutations:
            data = mutation(data, rng)
        if data not in taken:
            taken.add(data)
            made.append(Mutant(data, " then ".join(mutation.__name__ for mutation in mutations)))
        attempt += 1
    return made


# Damage: what disks, networks and careless programs do to any file.


def cut(data: bytes, rng: Random) -> bytes:
    """A download broke off."""
    return data[: rng.randrange(len(data) + 1)]


def flip_bits(data: bytes, rng: Random) -> bytes:
    """An old disk, a bad cable."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 100)) if data else 0):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite_a_stretch(data: bytes, rng: Random) -> bytes:
    """A sector that belongs to another file now, or was never written."""
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 16, 512))
    return data[:start] + rng.choice((bytes(size), rng.randbytes(size))) + data[start + size :]


def lose_a_stretch(data: bytes, rng: Random) -> bytes:
    """A lost packet, a serial line without flow control."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 7, 512)) :]


def repeat_a_stretch(data: bytes, rng: Random) -> bytes:
    """A block that was sent or saved twice."""
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 5, 64, 1024))
    return data[: start + size] + data[start : start + size] * rng.choice((1, 3)) + data[start + size :]


def unix_to_dos_lines(data: bytes, rng: Random) -> bytes:
    """A file server in text mode."""
    return data.replace(b"\n", b"\r\n") if rng.random() < 0.5 else data.replace(b"\r", b"\n")


def latin_1_to_utf_8(data: bytes, rng: Random) -> bytes:
    """A program that took the file for text and "repaired" its encoding."""
    return data.decode("latin-1").encode() if rng.random() < 0.5 else data.decode(errors="replace").encode()


def seven_bits(data: bytes, rng: Random) -> bytes:
    """A mail gateway of the eighties."""
    return bytes(byte & 0x7F for byte in data)


def junk_before(data: bytes, rng: Random) -> bytes:
    """A MacBinary header, a byte-order mark, what a sequencer keeps before the file."""
    return rng.choice((bytes(128), b"\xef\xbb\xbf", rng.randbytes(rng.randrange(1, 300)))) + data


def junk_after(data: bytes, rng: Random) -> bytes:
    """A tape block's padding, or a second file pasted behind the first."""
    return data + rng.choice((bytes(4096), b"\x1a" * 100, rng.randbytes(rng.randrange(1, 300)), data))


def text(data: bytes, rng: Random) -> bytes:
    """The error page of a web server, saved under the name of the file that was asked for."""
    pages = (b"<!DOCTYPE html><title>404 Not Found</title>", b"MThd is how a MIDI file begins", b"", b"\n", b"MThd")
    return rng.choice(pages) + rng.choice((b"", b"%x" % rng.getrandbits(64)))


def noise(data: bytes, rng: Random) -> bytes:
    """A recovered file: the header by luck, everything else by chance."""
    return rng.choice((b"", b"MThd", data[:14], data[:22])) + rng.randbytes(rng.choice((1, 100, 10_000)))


def compressed(data: bytes, rng: Random) -> bytes:
    """Packed to save space and renamed back."""
    return gzip.compress(data, mtime=0)


# The frame: headers and chunks.


def wrong_length_of_a_chunk(data: bytes, rng: Random) -> bytes:
    """A recorder that lost power before it wrote the lengths, or counts them differently."""
    chunks = _chunks(data)
    which = rng.randrange(len(chunks))
    start = sum(8 + len(body) for _, body in chunks[:which]) + 4
    wrong = rng.choice((*EXTREMES, max(0, len(chunks[which][1]) + rng.choice((-1, 1, 8)))))
    size = wrong.to_bytes(4, rng.choice(("big", "little")))
    return data[:start] + size + data[start + 4 :]


def wrong_number_of_tracks(data: bytes, rng: Random) -> bytes:
    """An editor that removed or added tracks and left the header alone."""
    return data[:10] + rng.choice([number for number in EXTREMES if number <= 0xFFFF]).to_bytes(2, "big") + data[12:]


def other_format(data: bytes, rng: Random) -> bytes:
    """Formats 0 and 2 of programs that only know how to write 1, and a format 3 that no standard has."""
    return _with_format(data, rng.choice((0, 2, 3, 0x100, 0xFFFF)))


def longer_header(data: bytes, rng: Random) -> bytes:
    """The standard lets the header grow, and some programs use it."""
    more = rng.choice((1, 2, 100, 70_000))
    return data[:4] + (6 + more).to_bytes(4, "big") + data[8:14] + rng.randbytes(more) + data[14:]


def absurd_division(data: bytes, rng: Random) -> bytes:
    """Converters that write 0, 1 or the largest number of ticks a quarter."""
    return data[:12] + rng.choice((0, 1, 2, 3, 7, 0x7FFF)).to_bytes(2, "big") + data[14:]


def frames_of_film(data: bytes, rng: Random) -> bytes:
    """Film studios count time in SMPTE frames; some of the rates do not exist."""
    return data[:12] + bytes([256 - rng.choice((24, 25, 29, 30, 1, 128)), rng.choice((0, 4, 40, 255))]) + data[14:]


def empty_tracks(data: bytes, rng: Random) -> bytes:
    """A sequencer saves all of its tracks, used or not."""
    bodies = [rng.choice((b"", END_OF_TRACK)) for _ in range(rng.choice((1, 16, 200)))]
    return _with_tracks(data, bodies)


def thousands_of_tracks(data: bytes, rng: Random) -> bytes:
    """A batch conversion that gave every note a track of its own."""
    return _with_tracks(data, [KICK + END_OF_TRACK] * rng.choice((2_000, 20_000, 0xFFFF - 20, 70_000)))


def pieces_of_format_2(data: bytes, rng: Random) -> bytes:
    """A drum machine's patterns: each track a piece of its own."""
    tracks = [body for kind, body in _chunks(data) if kind == b"MTrk"]
    return _with_format(_with_tracks(data, tracks * rng.choice((1, 3, 30))), 2)


def foreign_chunks(data: bytes, rng: Random) -> bytes:
    """Karaoke, notation and styles of arrangers in chunks that the standard asks readers to step over."""
    chunks = _chunks(data)
    for _ in range(rng.choice((1, 5, 1000))):
        chunks.insert(rng.randrange(1, len(chunks) + 1), (rng.choice((b"CASM", b"XFIH", bytes(4))), rng.randbytes(9)))
    return _joined(chunks)


def riff(data: bytes, rng: Random) -> bytes:
    """Windows wraps MIDI in RIFF, other programs get its lengths wrong, put other chunks first, or wrap it twice."""
    body = data
    for _ in range(rng.choice((1, 1, 2))):
        before = rng.choice((b"", b"LIST\x04\x00\x00\x00INFO", b"LIST\x03\x00\x00\x00odd\x00", b"data\x00\x00\x00\x00"))
        lie = rng.choice((0, 0, 0, 1, -1, 1000, -1000))
        size = max(0, len(body) + lie).to_bytes(4, "little")
        body = b"RMID" + before + b"data" + size + body + b"\x00" * (len(body) % 2)
        body = b"RIFF" + rng.choice((len(body), len(body), 0, 0xFFFFFFFF)).to_bytes(4, "little") + body
    return body


# Time.


def huge_deltas(data: bytes, rng: Random) -> bytes:
    """A sequencer left recording over a weekend."""
    return _insert(data, rng, (LONGEST_DELTA + KICK[1:]) * rng.choice((1, 40, 1000)))


def far_multiples_of_2_to_28(data: bytes, rng: Random) -> bytes:
    """Silence longer than one delta time can say, as empty text after empty text: ticks no longer fit in 32 bits."""
    silence = (LONGEST_DELTA + b"\xff\x01\x00" + b"\x01\xff\x01\x00") * rng.choice((1, 8, 16, 500))
    return _insert(data, rng, silence)


def overlong_number(data: bytes, rng: Random) -> bytes:
    """Delta times and lengths of five bytes and more, and of leading zeros."""
    number = rng.choice((b"\x80\x80\x80\x00", b"\x80\x80\x80\x80\x00", b"\xff" * 9 + b"\x7f"))
    return _insert(data, rng, rng.choice((number + KICK[1:], b"\x00\xff\x01" + number, b"\x00\xf0" + number)))


def zero_tempo(data: bytes, rng: Random) -> bytes:
    """Tempi of no, one or sixteen million microseconds a quarter, and of too few or too many bytes."""
    tempo = rng.choice(
        (b"\x03\0\0\0", b"\x03\0\0\x01", b"\x03\xff\xff\xff", b"\x00", b"\x02\x07\xa1", b"\x05\x07\xa1 \0\0")
    )
    return _insert(data, rng, b"\x00\xff\x51" + tempo)


def thousands_of_tempi(data: bytes, rng: Random) -> bytes:
    """A tempo on every tick, as tools that follow a live drummer write it."""
    return _insert(data, rng, b"".join(b"\x01\xff\x51\x03" + rng.randbytes(3) for _ in range(5_000)))


def odd_metre(data: bytes, rng: Random) -> bytes:
    """Time signatures of no beats, of 4/2^200, or cut short."""
    numerator, power = rng.choice((0, 1, 3, 4, 255)), rng.choice((0, 2, 6, 7, 31, 63, 200, 255))
    metre = rng.choice((bytes([4, numerator, power, 24, 8]), bytes([2, numerator, power]), b"\x01\x04", b"\x00"))
    return _insert(data, rng, b"\x00\xff\x58" + metre, at_start=rng.random() < 0.5)


def changing_metre(data: bytes, rng: Random) -> bytes:
    """A transcription program that hears a new metre at every note, also within another's bar."""
    metres = (b"\x04\x02", b"\x03\x02", b"\x06\x03", b"\x04\x03", b"\x05\x02", b"\x04\x02")
    changes = (
        rng.choice((b"\x00", b"\x01", b"\x83\x60", b"\x8f\x00")) + b"\xff\x58\x04" + rng.choice(metres) + b"\x18\x08"
        for _ in range(rng.choice((2, 20, 5_000)))
    )
    return _insert(data, rng, b"".join(changes))


# Events.


def million_notes_in_one_tick(data: bytes, rng: Random) -> bytes:
    """Files made to stall a player ("black MIDI")."""
    note = rng.choice((KICK, b"\x00\x24\x64"))
    return _insert(data, rng, KICK + note * rng.choice((1_000, 100_000, MILLION)))


def million_events_of_other_channels(data: bytes, rng: Random) -> bytes:
    """A fader, a wheel or a patch change in every tick, none of it drums."""
    event = rng.choice((b"\x01\xe0\x00\x40", b"\x01\xd0\x40", b"\x01\xb0\x07\x64", b"\x01\xc0\x05"))
    return _insert(data, rng, event * rng.choice((1_000, MILLION)))


def every_pitch(data: bytes, rng: Random) -> bytes:
    """A scale over the whole keyboard on the drum channel: percussion, sound effects, and nothing at all."""
    return _insert(data, rng, b"".join(bytes([0, 0x99, pitch, 100]) for pitch in range(128)))


def other_channels(data: bytes, rng: Random) -> bytes:
    """Every event moved: a drum kit exported on the channel of a piano, or everything on the drums'."""
    to = rng.choice((0, 8, 9, 15))
    return bytes(byte & 0xF0 | to if 0x80 <= byte < 0xA0 else byte for byte in data)


def data_bytes_above_127(data: bytes, rng: Random) -> bytes:
    """Velocities of 128 and more, from programs that count in bytes."""
    return _insert(data, rng, rng.choice((b"\x00\x99\x24\x80", b"\x00\x99\x80\x40", b"\x00\x99\xff\xff")))


def statuses_of_the_wire(data: bytes, rng: Random) -> bytes:
    """A cable's bytes written to disk as they came: clocks, active sensing, song positions."""
    return _insert(data, rng, b"\x00" + bytes([rng.randrange(0xF1, 0xFF)]) + rng.choice((b"", b"\x00", b"\x00\x00")))


def running_status_across_meta(data: bytes, rng: Random) -> bytes:
    """The standard ends a running status at a meta or exclusive event; many programs go on with it."""
    between = rng.choice((b"\x00\xff\x01\x02hi", b"\x00\xf0\x01\xf7", b"\x00\xf7\x00", b"\x00\xc9\x05\x00\x06"))
    return _insert(data, rng, KICK + between + b"\x10\x24\x64")


def data_before_any_status(data: bytes, rng: Random) -> bytes:
    """A track whose beginning was lost."""
    return _insert(data, rng, rng.choice((b"\x00\x24\x64", b"\x00\x24", b"\x00\x7f\x00")), at_start=True)


def deep_meta_events(data: bytes, rng: Random) -> bytes:
    """A file within a text within a text: scores embedded by notation programs."""
    for _ in range(rng.choice((1, 3, 12))):
        if len(data) < MILLION:
            data = _insert(data, rng, b"\x00\xff" + bytes([rng.choice((1, 3, 5, 0x7F))]) + _number(len(data)) + data)
    return data


def thousands_of_texts(data: bytes, rng: Random) -> bytes:
    """Karaoke, a syllable an event, in the encoding of its country."""
    words = (b"", b"la", "ля".encode("cp1251"), "ラ".encode("shift-jis"), b"\x00\xff\x2f\x00")
    texts = (b"\x00\xff\x05" + _number(len(word)) + word for word in rng.choices(words, k=5_000))
    return _insert(data, rng, b"".join(texts))


def megabytes_of_sysex(data: bytes, rng: Random) -> bytes:
    """The whole memory of a sampler, in one message or thousands, some of them without an end."""
    size, count = rng.choice(((3 * MILLION, 1), (20 * MILLION, 1), (1_000, 3_000), (0, 500_000)))
    return _insert(data, rng, (b"\x00\xf0" + _number(size) + bytes(size)) * count)


def lying_length_of_an_event(data: bytes, rng: Random) -> bytes:
    """A text or a message that claims to go on after its track."""
    kind = rng.choice((b"\xff\x01", b"\xff\x51", b"\xff\x58", b"\xff\x2f", b"\xf0", b"\xf7"))
    return _insert(data, rng, b"\x00" + kind + rng.choice((b"\x7f", b"\xff\x7f", LONGEST_DELTA)))


def end_of_track_amiss(data: bytes, rng: Random) -> bytes:
    """No end of track, several, or one with music after it."""
    if rng.random() < 0.5:
        return _insert(data, rng, END_OF_TRACK * rng.choice((1, 3)))
    return _joined([(kind, body.removesuffix(END_OF_TRACK)) for kind, body in _chunks(data)])


MUTATIONS: tuple[Mutation, ...] = (
    cut,
    flip_bits,
    overwrite_a_stretch,
    lose_a_stretch,
    repeat_a_stretch,
    unix_to_dos_lines,
    latin_1_to_utf_8,
    seven_bits,
    junk_before,
    junk_after,
    text,
    noise,
    compressed,
    wrong_length_of_a_chunk,
    wrong_number_of_tracks,
    other_format,
    longer_header,
    absurd_division,
    frames_of_film,
    empty_tracks,
    thousands_of_tracks,
    pieces_of_format_2,
    foreign_chunks,
    riff,
    huge_deltas,
    far_multiples_of_2_to_28,
    overlong_number,
    zero_tempo,
    thousands_of_tempi,
    odd_metre,
    changing_metre,
    million_notes_in_one_tick,
    million_events_of_other_channels,
    every_pitch,
    other_channels,
    data_bytes_above_127,
    statuses_of_the_wire,
    running_status_across_meta,
    data_before_any_status,
    deep_meta_events,
    thousands_of_texts,
    megabytes_of_sysex,
    lying_length_of_an_event,
    end_of_track_amiss,
)


def _chunks(data: bytes) -> list[Chunk]:
    """The chunks of any bytes, as far as they make sense; at least one."""
    chunks: list[Chunk] = []
    place = 0
    while place < len(data) or not chunks:
        size = int.from_bytes(data[place + 4 : place + 8], "big")
        chunks.append((data[place : place + 4], data[place + 8 : place + 8 + size]))
        place += 8 + size
    return chunks


def _joined(chunks: Sequence[Chunk]) -> bytes:
    return b"".join(kind + len(body).to_bytes(4, "big") + body for kind, body in chunks)


def _with_format(data: bytes, kind: int) -> bytes:
    return data[:8] + kind.to_bytes(2, "big") + data[10:]


def _with_tracks(data: bytes, bodies: Sequence[bytes]) -> bytes:
    """More tracks at the end, announced as far as a header can."""
    chunks = [*_chunks(data), *((b"MTrk", body) for body in bodies)]
    tracks = min(0xFFFF, sum(kind == b"MTrk" for kind, _ in chunks))
    whole = _joined(chunks)
    return whole[:10] + tracks.to_bytes(2, "big") + whole[12:]


def _insert(data: bytes, rng: Random, events: bytes, *, at_start: bool = False) -> bytes:
    """Events, each with its delta time, between two events of some track, or as its first."""
    chunks = _chunks(data)
    tracks = [number for number, (kind, _) in enumerate(chunks) if kind == b"MTrk"] or [len(chunks) - 1]
    number = rng.choice(tracks)
    kind, body = chunks[number]
    place = 0 if at_start else rng.choice(_event_starts(body))
    chunks[number] = kind, body[:place] + events + body[place:]
    return _joined(chunks)


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
        pass
    return starts


def _read_number(track: bytes, place: int) -> tuple[int, int]:
    """A variable-length number and the place after it."""
    value = track[place] & 0x7F
    while track[place] >= 0x80:
        place += 1
        value = value << 7 | track[place] & 0x7F
    return value, place + 1


def _number(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
