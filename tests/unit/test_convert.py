"""One file's bytes -> windows or the reason why there are none."""

import pytest

from musicvae.drum_map import DrumMap
from preprocess.convert import convert
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings, LimitSettings, WindowSettings
from tests.midi_bytes import Event, hit, metre, midi_file, tempo

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


def test_windows_carry_where_they_come_from():
    conversion = convert(
        midi_file([tempo(0, 93), metre(0, 4, 4)], beat(6)), SETTINGS, GENERAL_MIDI, source="a/b.mid", style="rock"
    )
    assert not isinstance(conversion.result, Rejection)
    assert [meta.bar for meta in conversion.result.meta] == [0, 1, 2]
    assert conversion.result.meta[0].source == "a/b.mid"
    assert conversion.result.meta[0].style == "rock"
    assert conversion.result.meta[0].tempo == pytest.approx(93, abs=0.001)
    assert conversion.hits.read == 24


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
        (midi_file([metre(0, 4, 4), metre(4 * BAR, 7, 8)], beat(8)), Reason.METRE, "7/8"),
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
    assert (conversion.hits.read, conversion.hits.doubled, conversion.hits.unknown_pitches) == (3, 1, {5: 1})
