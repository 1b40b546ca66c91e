"""MIDI files as musicians and collectors bring them: each goes wrong in a way of its own, around the same eight bars.

`rock` is kick on 1 and 3, snare on 2 and 4, hi-hat in eighths: 5 windows, 96 hits.
"""

from collections.abc import Callable

from tests.support.midi.midi_bytes import Event, hit, metre, midi_file, raw_file, tempo, track_name

BEAT = 480
BARS = 8
GS_RESET = (0, b"\xf0\x0a\x41\x10\x42\x12\x40\x00\x7f\x00\x41\xf7")


def gs_part(block: int, use: int) -> Event:
    """The message "use for rhythm part" for a part; block 0 is channel 10."""
    return 10, bytes([0xF0, 0x0A, 0x41, 0x10, 0x42, 0x12, 0x40, 0x10 | block, 0x15, use, 0, 0xF7])


def xg_part(channel: int, mode: int) -> Event:
    """The part mode of a channel, counted from 0."""
    return 10, bytes([0xF0, 0x08, 0x43, 0x10, 0x4C, 0x08, channel, 0x07, mode, 0xF7])


def strokes(*drums: int, channel: int = 9, beat: float = BEAT, up: int = 0, bars: int = BARS) -> list[Event]:
    """The hits of `rock` at some pitches."""
    played = [(36, 0.0), (36, 2.0), (38, 1.0), (38, 3.0), *((42, eighth / 2) for eighth in range(8))]
    return [
        event
        for bar in range(bars)
        for pitch, place in played
        if pitch in drums
        for event in hit(round((4 * bar + place) * beat), pitch + up, channel=channel)
    ]


def rock(channel: int = 9, **changes: float) -> list[Event]:
    return strokes(36, 38, 42, channel=channel, **changes)  # type: ignore[arg-type]


def melody(channel: int, pitches: tuple[int, ...] = (60, 65, 70, 63), notes: int = 64) -> list[Event]:
    return [e for number in range(notes) for e in hit(240 * number, pitches[number % len(pitches)], channel=channel)]


def head(*events: Event) -> list[Event]:
    return [metre(0, 4, 4), tempo(0, 120), *events]


def played_freely() -> list[Event]:
    """Seconds of a performance at 107 to 117 bpm, written at 120."""
    events: list[Event] = []
    tick = 137.0
    for beat in range(4 * 24):
        length = BEAT * 120 / (107 + 10 * ((beat * 0.618) % 1))
        for pitch, place in ((38 if beat % 2 else 36, 0.0), (42, 0.0), (42, 0.5)):
            events += hit(round(tick + place * length), pitch)
        tick += length
    return events


BROKEN_BASS = b"\x00\xff\x03\x04Bass\x00\xb1\x07\xa8\x00\x91\x21\x50\x8f\x00\x91\x21\x50\x00\xff\x2f\x00"


def beside(track: bytes, *tracks: list[Event]) -> bytes:
    """A file with a last track of raw bytes."""
    whole = midi_file(*tracks)
    return whole[:10] + (len(tracks) + 1).to_bytes(2, "big") + whole[12:] + raw_file(track)[14:]


COLLECTED: dict[str, Callable[[], bytes]] = {
    "rock": lambda: midi_file(head(), rock()),
    "padding": lambda: midi_file(head(), rock()) + b"\x1a" * 77,
    "foreign": lambda: midi_file(head(), rock()) + b"\x00JUNK" + bytes(range(200)),
    "proprietary": lambda: midi_file(head(), rock()) + b"MTrk\x00\x01\x00\x00\x00\xff\x7f\x05short",
    "unannounced": lambda: midi_file(head(), rock()) + b"MTrk\x00\x00\x00\x04\x00\x99\x24\xff",
    "bad_byte": lambda: beside(BROKEN_BASS, head(), rock()),
    "broken_bass": lambda: beside(b"\x00\x91\x21\x50\x10\xf4\x01", head(), rock()),
    "bass_with_a_wrong_length": lambda: _with_wrong_length(midi_file(head(), melody(1), rock())),
    "broken_drums": lambda: midi_file(head(), [*rock(), (8 * 4 * BEAT, b"\x99\x24\xc8")]),
    "late_tempo": lambda: midi_file([metre(0, 4, 4), tempo(4 * 4 * BEAT, 90)], rock()),
    "channel_3": lambda: midi_file(head(), melody(1, (33, 34, 35, 36), 32), rock(2)),
    "gs_melodic": lambda: midi_file(head(GS_RESET, gs_part(0, 0)), melody(9), [track_name(b"Drums"), *rock(15)]),
    "gs_rhythm": lambda: midi_file(head(GS_RESET, gs_part(0xA, 1)), [*rock(10)], melody(0)),
    "xg_rhythm": lambda: midi_file(head(xg_part(2, 2)), rock(2)),
    "octaves": lambda: midi_file(head(), rock(up=24)),
    "octaves_unknown": lambda: midi_file(head(), rock(up=-24)),
    "drum_per_channel": lambda: midi_file(head(), strokes(36, channel=0), strokes(38, channel=1), strokes(42)),
    "seconds": lambda: midi_file([tempo(0, 120)], played_freely()),
    "cut_time": lambda: midi_file([metre(0, 2, 2), tempo(0, 120)], rock()),
    "loop": lambda: midi_file(head(), rock(bars=40)),
    "shuffle": lambda: midi_file(head(), [*strokes(36, 38), *_triplets()]),
    "makeshift": lambda: midi_file(head(), rock(), [e for beat in range(32) for e in hit(BEAT * beat, 56)]),
}


def _triplets() -> list[Event]:
    return [event for number in range(3 * 4 * BARS) for event in hit(160 * number, 42)]


def _with_wrong_length(data: bytes) -> bytes:
    """The second of three tracks says that it goes on for ever."""
    start = data.index(b"MTrk", data.index(b"MTrk") + 4)
    return data[: start + 4] + b"\x7f\xff\xff\xff" + data[start + 8 :]
