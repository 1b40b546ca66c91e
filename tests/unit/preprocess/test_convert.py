"""One file's bytes -> windows or the reason why there are none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.data.windows import WindowBlock
from musicvae.groove.drum_map import DrumMap
from musicvae.midi.reading_report import DroppedBars, ReadingReport
from preprocess.convert import Conversion, convert
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings, FilterSettings, LimitSettings, ReadingSettings, WindowSettings
from tests.support.midi.midi_bytes import Event, hit, metre, midi_file, raw_file, tempo, track_name

BAR = 4 * 480
GENERAL_MIDI = DrumMap.load("general_midi")
SETTINGS = BuildSettings()


def beat(bars: int) -> list[Event]:
    """A kick on every quarter, a snare on two and four."""
    return [event for beat in range(4 * bars) for event in hit(480 * beat, 38 if beat % 2 else 36)]


def rejection(data: bytes, settings: BuildSettings = SETTINGS) -> Rejection:
    conversion = convert(data, settings, GENERAL_MIDI, source="a.mid")
    assert isinstance(conversion.result, Rejection)
    assert conversion.result.source == "a.mid"
    return conversion.result


def reading(conversion: Conversion) -> ReadingReport:
    assert conversion.counts.reading is not None
    return conversion.counts.reading


def test_windows_carry_where_they_come_from():
    conversion = convert(
        midi_file([tempo(0, 93), metre(0, 4, 4)], beat(6)), SETTINGS, GENERAL_MIDI, source="a/b.mid", style="rock"
    )
    assert not isinstance(conversion.result, Rejection)
    assert [meta.bar for meta in conversion.result.meta] == [0, 1, 2]
    assert conversion.result.meta[0].source == "a/b.mid"
    assert conversion.result.meta[0].style == "rock"
    assert conversion.result.meta[0].tempo == pytest.approx(93, abs=0.001)
    assert reading(conversion).hits == 24


def test_a_file_without_a_metre_is_in_four_four():
    assert len(convert(midi_file(beat(4)), SETTINGS, GENERAL_MIDI, source="").result) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", Reason.NOT_MIDI, "the file is empty"),
        (b"hello, world", Reason.NOT_MIDI, "hell"),
        (midi_file(beat(4))[:60], Reason.NOT_MIDI, ""),
        (midi_file([]), Reason.NO_DRUMS, "no hits on channel 10"),
        (midi_file([e for i in range(9) for e in hit(i * BAR, 36, channel=0)]), Reason.NO_DRUMS, "channel 10"),
        (midi_file([e for i in range(9) for e in hit(i * BAR, 5)]), Reason.NO_DRUMS, "general_midi"),
        (midi_file([metre(0, 3, 4)], beat(8)), Reason.METRE, "3/4"),
        (midi_file([metre(0, 7, 8), metre(2 * BAR, 3, 4)], beat(8)), Reason.METRE, "3/4, 7/8"),
        (midi_file([metre(0, 4, 4), metre(3 * BAR, 7, 8)], beat(8)), Reason.TOO_SHORT, "3 bars"),
        (midi_file(beat(4), division=0xE728), Reason.SMPTE, "SMPTE"),
        (midi_file(beat(3)), Reason.TOO_SHORT, "3 bars"),
        (midi_file(beat(4), hit(20_000 * BAR, 36)), Reason.TOO_LARGE, "20001 bars"),
    ],
)
def test_every_reason(data, reason, detail):
    found = rejection(data)
    assert found.reason == reason
    assert detail in found.detail


def test_limits_and_windows_are_settings():
    assert rejection(midi_file(beat(9)), SETTINGS.model_copy(update={"limits": LimitSettings(max_bars=8)})).reason == (
        Reason.TOO_LARGE
    )
    two_bars = SETTINGS.model_copy(update={"window": WindowSettings(bars=2, hop_bars=2)})
    windows = convert(midi_file(beat(6)), two_bars, GENERAL_MIDI, source="").result
    assert not isinstance(windows, Rejection)
    assert windows.tokens.shape == (3, 32)


def test_hits_are_counted_for_rejected_files_too():
    conversion = convert(midi_file(hit(0, 36), hit(1, 36), hit(2, 5)), SETTINGS, GENERAL_MIDI, source="")
    assert isinstance(conversion.result, Rejection)
    counts = reading(conversion)
    assert (counts.hits, counts.merged, counts.unknown) == (3, 1, {5: 1})


def test_each_piece_of_a_format_two_file_gives_windows_under_its_own_name():
    tracks = [[tempo(0, 90), *beat(4)], hit(0, 36), [tempo(0, 150), *beat(5)], [metre(0, 3, 4), *beat(6)]]
    conversion = convert(midi_file(*tracks, kind=2), SETTINGS, GENERAL_MIDI, source="a.mid", style="funk")
    assert isinstance(conversion.result, WindowBlock)
    metas = [(meta.source, meta.bar, round(meta.tempo), meta.style) for meta in conversion.result.meta]
    assert metas == [("a.mid#1", 0, 90, "funk"), ("a.mid#3", 0, 150, "funk"), ("a.mid#3", 1, 150, "funk")]
    assert conversion.counts.dropped_bars == {DroppedBars.METRE: 8, DroppedBars.SHORT: 1}
    assert reading(conversion).outside == 24
    assert rejection(midi_file(hit(0, 36), hit(0, 36), kind=2)).detail == "1 bars, a window has 4"


def test_a_known_tempo_replaces_the_map_of_the_file():
    data = midi_file([tempo(0, 90), tempo(BAR, 200), *beat(5)])
    conversion = convert(data, SETTINGS, GENERAL_MIDI, source="", tempo=77.5)
    assert isinstance(conversion.result, WindowBlock)
    assert [meta.tempo for meta in conversion.result.meta] == [77.5, 77.5]


def test_channels_and_tracks_named_like_drums_are_settings():
    data = midi_file([track_name(b"Drum Kit"), *(event for tick, _ in beat(4) for event in hit(tick, 36, channel=0))])
    where = '"Drum Kit": 32 notes, 100% at drum pitches; to read them: reading.channels=1'
    assert rejection(data).detail == f"no hits on channel 10; channel 1 {where}"
    for chosen in (ReadingSettings(channels=(1,)), ReadingSettings(drum_tracks=True)):
        settings = SETTINGS.model_copy(update={"reading": chosen})
        assert isinstance(convert(data, settings, GENERAL_MIDI, source="").result, WindowBlock)
    both = SETTINGS.model_copy(update={"reading": ReadingSettings(channels=(2, 3), drum_tracks=True)})
    where = "channels 2, 3 or tracks named like drums"
    assert rejection(midi_file([]), both).detail == f"no hits on {where}; the file has no notes at all"


@pytest.mark.parametrize(("policy", "kicks", "snares"), [("drop", 0, 16), ("nearest", 16, 16)])
def test_unknown_pitches_are_dropped_or_mapped_and_counted_in_both_cases(policy, kicks, snares):
    narrow = DrumMap("narrow", {"kick": (30,), "snare": (38, 40)})
    events = [event for quarter in range(16) for event in hit(480 * quarter, 38) + hit(480 * quarter, 34)]
    settings = SETTINGS.model_copy(update={"reading": ReadingSettings(unknown_pitch=policy)})
    conversion = convert(midi_file(events), settings, narrow, source="")
    assert isinstance(conversion.result, WindowBlock)
    assert reading(conversion).unknown == {34: 16}
    assert (conversion.result.velocity[0] > 0).sum(axis=0).tolist() == [kicks, snares]


def test_a_file_with_unknown_pitches_is_rejected_if_asked_and_the_pitches_are_named():
    settings = SETTINGS.model_copy(update={"reading": ReadingSettings(unknown_pitch="reject")})
    found = rejection(midi_file(beat(4), hit(0, 5), hit(1, 120), hit(2, 120)), settings)
    assert found.reason == Reason.UNKNOWN_PITCH
    assert found.detail == "drum map 'general_midi' does not know pitch 120 (2), 5 (1)"
    assert isinstance(convert(midi_file(beat(4)), settings, GENERAL_MIDI, source="").result, WindowBlock)


def test_bars_in_no_window_are_counted_with_the_reason():
    window = WindowSettings(hop_bars=4, pad_last_bar=False)
    # 6 bars of 4/4, half a bar cut off, 2 of 3/4, 3 of 4/4 of which the last is not finished.
    waltz = 6 * BAR + 960
    end = waltz + 2 * 1440
    metres = [metre(0, 4, 4), metre(waltz, 3, 4), metre(end, 4, 4)]
    hits = [event for quarter in range(2 * 13 + 6 + 9) for event in hit(480 * quarter, 36, length=1)]
    conversion = convert(
        midi_file(metres, hits), SETTINGS.model_copy(update={"window": window}), GENERAL_MIDI, source=""
    )
    assert isinstance(conversion.result, WindowBlock)
    assert [meta.bar for meta in conversion.result.meta] == [0]
    assert conversion.counts.dropped_bars == {
        DroppedBars.METRE: 2,
        DroppedBars.PARTIAL: 1,
        DroppedBars.UNFINISHED: 1,
        DroppedBars.SHORT: 2,
        DroppedBars.HOP: 2,
    }


def test_bars_between_hops_are_counted():
    settings = SETTINGS.model_copy(update={"window": WindowSettings(bars=2, hop_bars=3)})
    conversion = convert(midi_file(beat(9)), settings, GENERAL_MIDI, source="")
    assert len(conversion.result) == 3  # type: ignore[arg-type]
    assert conversion.counts.dropped_bars == {DroppedBars.HOP: 3}


def test_filters_leave_windows_out_and_a_file_without_any_left_is_rejected():
    filters = FilterSettings(min_hits=9, max_empty_bars=0)
    settings = SETTINGS.model_copy(update={"filters": filters})
    hits = beat(5) + [event for bar in range(6, 12) for event in hit(bar * BAR, 36)]
    conversion = convert(midi_file(hits), settings, GENERAL_MIDI, source="")
    assert isinstance(conversion.result, WindowBlock)
    assert [meta.bar for meta in conversion.result.meta] == [0, 1]
    assert conversion.counts.filtered == {"min_hits": 5, "max_empty_bars": 2}
    sparse = midi_file([event for bar in range(5) for event in hit(bar * BAR, 36)])
    found = convert(sparse, settings, GENERAL_MIDI, source="")
    assert found.result == Rejection("", Reason.FILTERED, "all 2 windows: min_hits 2")
    assert found.counts.filtered == {"min_hits": 2, "max_empty_bars": 0}


HUGE = BuildSettings(limits=LimitSettings(max_notes=10**7))
MANY = b"\x00\x99\x24\x40" + b"\x00\x24\x40" * 999_999
ABSURD = b"\xff\xff\xff\x7f"
"""A delta of 2**28 - 1 ticks."""


@pytest.mark.parametrize(
    ("data", "settings", "reason", "detail"),
    [
        (raw_file(MANY), SETTINGS, Reason.TOO_LARGE, "1000000 drum hits, more than limits.max_notes = 200000"),
        (raw_file(MANY), HUGE, Reason.TOO_SHORT, "1 bars"),
        (raw_file(b"\x00\x99\x24\x40" + (ABSURD + b"\x24\x40") * 200_000), HUGE, Reason.TOO_LARGE, "bars"),
        (raw_file(ABSURD + b"\x99\x24\x40"), SETTINGS, Reason.TOO_LARGE, "139811 bars"),
        # Silence in 4/4, then one hit in a stretch far away.
        (midi_file([metre(10**8, 3, 4)], hit(10**8, 36)), SETTINGS, Reason.TOO_LARGE, "52085 bars"),
        (midi_file([metre(0, 3, 4)], hit(10**8, 36)), SETTINGS, Reason.TOO_LARGE, "69445 bars"),
        # A bar of 1/2**200 is shorter than a tick by far.
        (raw_file(b"\x00\xff\x58\x04\x01\xc8\x18\x08\x60\x99\x24\x40"), SETTINGS, Reason.TOO_LARGE, "bars"),
        (
            raw_file(b"\x01\xff\x58\x04\x04\x02\x18\x08" * 20_000 + b"\0\x99\x24\x40"),
            SETTINGS,
            Reason.TOO_LARGE,
            "bars",
        ),
        (raw_file(*[b""] * 65_535), SETTINGS, Reason.NO_DRUMS, "no hits"),
        (raw_file(*[b"\x00\x99\x24\x40"] * 900, kind=2), SETTINGS, Reason.TOO_SHORT, "1 bars"),
        (raw_file(*[b""] * 3_000, kind=2), SETTINGS, Reason.NO_DRUMS, "no hits"),
        (raw_file(b"\x00\xff\x01\xff\xff\xff\x7f"), SETTINGS, Reason.NOT_MIDI, "ends within an event"),
        (midi_file(beat(4), division=1), SETTINGS, Reason.TOO_LARGE, "1801 bars"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_made_to_be_expensive_is_not(data, settings, reason, detail):
    limits = settings.limits.model_copy(update={"max_bars": 1_000})
    found = rejection(data, settings.model_copy(update={"limits": limits}))
    assert found.reason == reason
    assert detail in found.detail


def test_megabytes_of_sysex_and_text_change_nothing():
    long = bytes([0x81, 0x80, 0x80, 0x00])  # 2**21 bytes
    filler = b"\x00\xf0" + long + b"\x99" * 2**21 + b"\x00\xff\x01" + long + b"\x24" * 2**21
    track = midi_file(beat(5))[22:]
    conversion = convert(raw_file(filler + track), SETTINGS, GENERAL_MIDI, source="")
    assert isinstance(conversion.result, WindowBlock)
    assert len(conversion.result) == 2


HIT = st.tuples(st.integers(0, 40 * 480), st.sampled_from([36, 38, 42, 3, 100]))
METRE = st.tuples(st.integers(0, 40), st.sampled_from([(4, 4), (3, 4), (7, 8)]))


@given(
    st.lists(st.lists(HIT, max_size=40), min_size=1, max_size=2),
    st.lists(METRE, max_size=3),
    st.sampled_from(["drop", "nearest", "reject"]),
    st.booleans(),
    st.sampled_from([1, 2]),
)
@settings(max_examples=150, deadline=None)
def test_every_hit_is_accounted_for(tracks, metres, policy, pad, kind):
    """With windows of a bar side by side, a hit on the grid stands in one window, and every other one in a count."""
    chosen = BuildSettings(
        reading=ReadingSettings(unknown_pitch=policy), window=WindowSettings(bars=1, pad_last_bar=pad)
    )
    changes = [metre(beat * 480, *signature) for beat, signature in metres]
    data = midi_file(*[changes + [e for tick, pitch in track for e in hit(tick, pitch)] for track in tracks], kind=kind)
    conversion = convert(data, chosen, GENERAL_MIDI, source="")
    if isinstance(conversion.result, Rejection):
        assert conversion.result.reason in {Reason.NO_DRUMS, Reason.UNKNOWN_PITCH, Reason.METRE, Reason.TOO_SHORT}
        return
    counts = reading(conversion)
    dropped = sum(counts.unknown.values()) if policy == "drop" else 0
    assert counts.hits == sum(map(len, tracks))
    assert counts.hits == counts.merged + counts.outside + dropped + (conversion.result.velocity > 0).sum()


SOME = midi_file([tempo(0, 93), metre(0, 4, 4), track_name(b"kit")], beat(5))


@given(st.lists(st.tuples(st.integers(0, len(SOME) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(SOME)))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_it_raise(changes, length):
    data = bytearray(SOME)
    for place, byte in changes:
        data[place] = byte
    for given_bytes in (bytes(data), bytes(data[:length])):
        conversion = convert(given_bytes, SETTINGS, GENERAL_MIDI, source="")
        assert isinstance(conversion.result, (WindowBlock, Rejection))
