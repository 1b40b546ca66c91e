"""What programs and people put into MIDI files: wrong, absurd, hostile, or only unusual.

Each oddity is one that files in the wild have, and takes any bytes.
"""

from collections.abc import Callable
from random import Random

from tests.support.midi.midi_surgery import (
    insert_events,
    join_chunks,
    split_chunks,
    variable_length,
    with_format,
    with_tracks,
)

Oddity = Callable[[bytes, Random], bytes]

MILLION = 1_000_000
LONGEST_DELTA = b"\xff\xff\xff\x7f"
END_OF_TRACK = b"\x00\xff\x2f\x00"
KICK = b"\x00\x99\x24\x64"
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers at which programs break."""


# The frame: headers and chunks.


def several(rng: Random, least: int, most: int) -> int:
    """A number of which every size is as likely: the largest, which take seconds to read, come now and then."""
    return round(least * (most / least) ** rng.random())


def wrong_length_of_a_chunk(data: bytes, rng: Random) -> bytes:
    """A recorder that lost power before it wrote the lengths, or counts them differently."""
    chunks = split_chunks(data)
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
    return with_format(data, rng.choice((0, 2, 3, 0x100, 0xFFFF)))


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
    return with_tracks(data, bodies)


def thousands_of_tracks(data: bytes, rng: Random) -> bytes:
    """A batch conversion that gave every note a track of its own; now and then more than a header can announce."""
    count = rng.choice((0xFFFF - 20, 70_000)) if rng.random() < 0.1 else several(rng, 1_000, 20_000)
    return with_tracks(data, [KICK + END_OF_TRACK] * count)


def pieces_of_format_2(data: bytes, rng: Random) -> bytes:
    """A drum machine's patterns: each track a piece of its own."""
    tracks = [body for kind, body in split_chunks(data) if kind == b"MTrk"]
    return with_format(with_tracks(data, tracks * rng.choice((1, 3, 30))), 2)


def foreign_chunks(data: bytes, rng: Random) -> bytes:
    """Karaoke, notation and styles of arrangers in chunks that the standard asks readers to step over."""
    chunks = split_chunks(data)
    for _ in range(rng.choice((1, 5, 1000))):
        chunks.insert(rng.randrange(1, len(chunks) + 1), (rng.choice((b"CASM", b"XFIH", bytes(4))), rng.randbytes(9)))
    return join_chunks(chunks)


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
    return insert_events(data, rng, (LONGEST_DELTA + KICK[1:]) * rng.choice((1, 40, 1000)))


def far_multiples_of_2_to_28(data: bytes, rng: Random) -> bytes:
    """Silence longer than one delta time can say, as empty text after empty text: ticks no longer fit in 32 bits."""
    silence = (LONGEST_DELTA + b"\xff\x01\x00" + b"\x01\xff\x01\x00") * rng.choice((1, 8, 16, 500))
    return insert_events(data, rng, silence)


def overlong_number(data: bytes, rng: Random) -> bytes:
    """Delta times and lengths of five bytes and more, and of leading zeros."""
    number = rng.choice((b"\x80\x80\x80\x00", b"\x80\x80\x80\x80\x00", b"\xff" * 9 + b"\x7f"))
    return insert_events(data, rng, rng.choice((number + KICK[1:], b"\x00\xff\x01" + number, b"\x00\xf0" + number)))


def zero_tempo(data: bytes, rng: Random) -> bytes:
    """Tempi of no, one or sixteen million microseconds a quarter, and of too few or too many bytes."""
    tempo = rng.choice(
        (b"\x03\0\0\0", b"\x03\0\0\x01", b"\x03\xff\xff\xff", b"\x00", b"\x02\x07\xa1", b"\x05\x07\xa1 \0\0")
    )
    return insert_events(data, rng, b"\x00\xff\x51" + tempo)


def thousands_of_tempi(data: bytes, rng: Random) -> bytes:
    """A tempo on every tick, as tools that follow a live drummer write it."""
    return insert_events(data, rng, b"".join(b"\x01\xff\x51\x03" + rng.randbytes(3) for _ in range(5_000)))


def odd_metre(data: bytes, rng: Random) -> bytes:
    """Time signatures of no beats, of 4/2^200, or cut short."""
    numerator, power = rng.choice((0, 1, 3, 4, 255)), rng.choice((0, 2, 6, 7, 31, 63, 200, 255))
    metre = rng.choice((bytes([4, numerator, power, 24, 8]), bytes([2, numerator, power]), b"\x01\x04", b"\x00"))
    return insert_events(data, rng, b"\x00\xff\x58" + metre, at_start=rng.random() < 0.5)


def changing_metre(data: bytes, rng: Random) -> bytes:
    """A transcription program that hears a new metre at every note, also within another's bar."""
    metres = (b"\x04\x02", b"\x03\x02", b"\x06\x03", b"\x04\x03", b"\x05\x02", b"\x04\x02")
    changes = (
        rng.choice((b"\x00", b"\x01", b"\x83\x60", b"\x8f\x00")) + b"\xff\x58\x04" + rng.choice(metres) + b"\x18\x08"
        for _ in range(rng.choice((2, 20, 5_000)))
    )
    return insert_events(data, rng, b"".join(changes))


# Events.


def million_notes_in_one_tick(data: bytes, rng: Random) -> bytes:
    """Files made to stall a player ("black MIDI")."""
    note = rng.choice((KICK, b"\x00\x24\x64"))
    return insert_events(data, rng, KICK + note * several(rng, 1_000, MILLION))


def million_events_of_other_channels(data: bytes, rng: Random) -> bytes:
    """A fader, a wheel or a patch change in every tick, none of it drums."""
    event = rng.choice((b"\x01\xe0\x00\x40", b"\x01\xd0\x40", b"\x01\xb0\x07\x64", b"\x01\xc0\x05"))
    return insert_events(data, rng, event * several(rng, 1_000, MILLION))


def every_pitch(data: bytes, rng: Random) -> bytes:
    """A scale over the whole keyboard on the drum channel: percussion, sound effects, and nothing at all."""
    return insert_events(data, rng, b"".join(bytes([0, 0x99, pitch, 100]) for pitch in range(128)))


def other_channels(data: bytes, rng: Random) -> bytes:
    """Every event moved: a drum kit exported on the channel of a piano, or everything on the drums'."""
    to = rng.choice((0, 8, 9, 15))
    return bytes(byte & 0xF0 | to if 0x80 <= byte < 0xA0 else byte for byte in data)


def data_bytes_above_127(data: bytes, rng: Random) -> bytes:
    """Velocities of 128 and more, from programs that count in bytes."""
    return insert_events(data, rng, rng.choice((b"\x00\x99\x24\x80", b"\x00\x99\x80\x40", b"\x00\x99\xff\xff")))


def statuses_of_the_wire(data: bytes, rng: Random) -> bytes:
    """A cable's bytes written to disk as they came: clocks, active sensing, song positions."""
    return insert_events(
        data, rng, b"\x00" + bytes([rng.randrange(0xF1, 0xFF)]) + rng.choice((b"", b"\x00", b"\x00\x00"))
    )


def running_status_across_meta(data: bytes, rng: Random) -> bytes:
    """The standard ends a running status at a meta or exclusive event; many programs go on with it."""
    between = rng.choice((b"\x00\xff\x01\x02hi", b"\x00\xf0\x01\xf7", b"\x00\xf7\x00", b"\x00\xc9\x05\x00\x06"))
    return insert_events(data, rng, KICK + between + b"\x10\x24\x64")


def data_before_any_status(data: bytes, rng: Random) -> bytes:
    """A track whose beginning was lost."""
    return insert_events(data, rng, rng.choice((b"\x00\x24\x64", b"\x00\x24", b"\x00\x7f\x00")), at_start=True)


def deep_meta_events(data: bytes, rng: Random) -> bytes:
    """A file within a text within a text: scores embedded by notation programs."""
    for _ in range(rng.choice((1, 3, 12))):
        if len(data) < MILLION:
            data = insert_events(
                data, rng, b"\x00\xff" + bytes([rng.choice((1, 3, 5, 0x7F))]) + variable_length(len(data)) + data
            )
    return data


def thousands_of_texts(data: bytes, rng: Random) -> bytes:
    """Karaoke, a syllable an event, in the encoding of its country."""
    words = (b"", b"la", "ля".encode("cp1251"), "ラ".encode("shift-jis"), b"\x00\xff\x2f\x00")
    texts = (b"\x00\xff\x05" + variable_length(len(word)) + word for word in rng.choices(words, k=5_000))
    return insert_events(data, rng, b"".join(texts))


def megabytes_of_sysex(data: bytes, rng: Random) -> bytes:
    """The whole memory of a sampler, in one message or thousands, some of them without an end."""
    size, count = rng.choice(((3 * MILLION, 1), (20 * MILLION, 1), (1_000, 3_000), (0, several(rng, 1_000, 500_000))))
    return insert_events(data, rng, (b"\x00\xf0" + variable_length(size) + bytes(size)) * count)


def lying_length_of_an_event(data: bytes, rng: Random) -> bytes:
    """A text or a message that claims to go on after its track."""
    kind = rng.choice((b"\xff\x01", b"\xff\x51", b"\xff\x58", b"\xff\x2f", b"\xf0", b"\xf7"))
    return insert_events(data, rng, b"\x00" + kind + rng.choice((b"\x7f", b"\xff\x7f", LONGEST_DELTA)))


def end_of_track_amiss(data: bytes, rng: Random) -> bytes:
    """No end of track, several, or one with music after it."""
    if rng.random() < 0.5:
        return insert_events(data, rng, END_OF_TRACK * rng.choice((1, 3)))
    return join_chunks([(kind, body.removesuffix(END_OF_TRACK)) for kind, body in split_chunks(data)])


ODDITIES: tuple[Oddity, ...] = (
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
