"""A MIDI file that somebody names gives the same groove, or the same error, whichever command reads it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.inspection.midi_file import show_file
from jobs.sampler.inputs import window_of, windows_of
from jobs.sampler.settings import SampleSettings
from musicvae.command_line import main
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError, DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.midi.groove_file import read_midi, read_windows
from musicvae.midi.reading_report import DroppedBars
from musicvae.settings import parse_settings
from preprocess.settings import BuildSettings
from tests.support.midi.midi_bytes import Event, hit, metre, midi_file

GRID, DRUMS = GridSpec(), DrumMap.load("roland")
BAR = 4 * 480
Reader = Callable[[Path], np.ndarray]


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> np.ndarray:
    capsys.readouterr()
    try:
        show_file(path, BuildSettings.model_validate({"drum_map": "roland"}), 0, as_json=True)
    finally:
        printed = capsys.readouterr().out
    return np.array(json.loads(printed)["windows"][0]["tokens"])


@pytest.fixture(params=["--like", "--from", "from_midi", "jobs.show"])
def reader(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Reader:
    """The tokens of a file's first window, as a command reads it; --continue and --interpolate read as --from does."""
    match request.param:
        case "--like":
            return lambda path: windows_of(path, GRID, DRUMS).tokens[0]
        case "--from":
            return lambda path: window_of(path, GRID, DRUMS).tokens[0]
        case "from_midi":
            return lambda path: DrumGroove.from_midi(path).tokens
        case _:
            return lambda path: shown(path, capsys)


def beat(bars: int, first: int = 0) -> list[Event]:
    """A kick on one and three, a snare on two and four."""
    return [event for beat in range(4 * bars) for event in hit(first + 480 * beat, 38 if beat % 2 else 36)]


def midi(folder: Path, *tracks: list[Event], kind: int = 1) -> Path:
    path = folder / "a.mid"
    path.write_bytes(midi_file(*tracks, kind=kind))
    return path


WALTZ = [metre(0, 3, 4), metre(2 * 1440, 4, 4)]


@pytest.mark.parametrize(
    ("tracks", "kind"),
    [
        ([beat(4)], 1),
        ([beat(6), hit(0, 3)], 1),
        ([WALTZ, hit(0, 36), beat(5, 2 * 1440)], 1),
        ([hit(0, 60, channel=0), beat(4), beat(5)], 2),
    ],
    ids=["window", "longer", "waltz-before", "several-pieces"],
)
def test_a_file_gives_the_same_groove(reader: Reader, tmp_path: Path, tracks: list[list[Event]], kind: int):
    tokens = reader(midi(tmp_path, *tracks, kind=kind))
    np.testing.assert_array_equal(tokens, np.tile([1, 0, 0, 0, 2, 0, 0, 0], 8))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"no MIDI", "not-midi: no MIDI header"),
        (midi_file(hit(0, 60, channel=0)), "no-drums: no hits on channel 10"),
        (midi_file(hit(0, 3)), "no-drums: drum map 'roland' does not know pitch 3 (1), no other hits"),
        (midi_file([metre(0, 3, 4)], beat(8)), "metre: 3/4"),
    ],
    ids=["text", "melody", "unknown-pitch", "waltz"],
)
def test_a_bad_file_gives_the_same_error(reader: Reader, tmp_path: Path, content: bytes, found: str):
    path = tmp_path / "a.mid"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        reader(path)
    assert refused.value.problem == f"{path} has no usable groove"
    assert refused.value.details["found"].startswith(found)
    assert refused.value.details["do"]


@pytest.mark.parametrize("read", [window_of, windows_of])
def test_a_short_loop_is_repeated_by_every_mode_of_sampling(read: Callable[..., WindowBlock], tmp_path: Path):
    path = midi(tmp_path, beat(1), hit(BAR, 49))
    groove = read(path, GRID, DRUMS).groove(0, GRID)
    one = np.tile([1, 0, 0, 0, 2, 0, 0, 0], 2)
    crash = np.zeros(16, dtype=np.int64)
    crash[0] = 1 << DRUMS.classes.index("crash")
    np.testing.assert_array_equal(groove.tokens, np.tile([*one, *crash], 2))
    np.testing.assert_array_equal(groove.hits, DrumGroove.from_midi(path, short="repeat").hits)


def test_windows_before_the_first_hit_are_left_out(tmp_path: Path):
    late = midi(tmp_path, beat(4, 4 * BAR))
    assert window_of(late, GRID, DRUMS).tokens.any()
    assert [meta.bar for meta in windows_of(late, GRID, DRUMS).meta] == [4]
    assert not DrumGroove.from_midi(late, bar=0).hits.any()
    ends_late = midi(tmp_path, beat(2, 4 * BAR))
    windows, _ = read_windows(ends_late, GRID, DRUMS)
    assert [meta.bar for meta in windows.meta] == [2]


def test_a_window_begins_at_the_first_bar_with_hits_or_at_the_bar_that_is_named(tmp_path: Path):
    path = midi(tmp_path, beat(5, 6 * BAR), hit(10 * BAR, 49))
    given = DrumGroove.from_midi(path)
    np.testing.assert_array_equal(given.tokens, np.tile([1, 0, 0, 0, 2, 0, 0, 0], 8))
    assert "11, the first hit is in bar 7; bars 7 to 10 are used" in given.reading_report
    for read in (window_of, windows_of):
        windows = read(path, GRID, DRUMS)
        assert [meta.bar for meta in windows.meta] == [6]
        np.testing.assert_array_equal(windows.tokens[0], given.tokens)
        later = read(path, GRID, DRUMS, bar=7)
        np.testing.assert_array_equal(later.tokens, DrumGroove.from_midi(path, bar=7).tokens[None])
        assert [meta.bar for meta in later.meta] == [7]
    last = DrumGroove.from_midi(path, bar=10, short="repeat")
    assert "; bar 11 is used" in last.reading_report
    with pytest.raises(DataError) as refused:
        window_of(path, GRID, DRUMS, bar=11)
    found = "no-such-bar: the window begins at bar 12; the file has bars 1 to 11 (counted from 1)"
    assert refused.value.details["found"] == found


def test_hits_that_are_all_in_a_bar_that_is_cut_make_no_silent_groove(tmp_path: Path):
    path = midi(tmp_path, [metre(0, 4, 4), metre(4 * BAR + 960, 3, 4)], hit(4 * BAR, 36))
    with pytest.raises(DataError) as refused:
        DrumGroove.from_midi(path)
    assert refused.value.details["found"].startswith("metre: no hit is in a whole bar in 4/4")


def test_the_setting_that_a_refusal_names_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = midi(tmp_path, *(hit(tick, 36, channel=0) for tick in range(0, 4 * BAR, 480)))
    with pytest.raises(DataError, match="no usable groove") as refused:
        window_of(path, GRID, DRUMS)
    assert "to read them: --reading channels=1" in refused.value.details["found"]
    sampling = SampleSettings(count=1, like=str(path), reading=("channels=1",))
    assert window_of(path, GRID, DRUMS, sampling.reading_settings).tokens.any()
    with pytest.raises(DataError, match="no usable groove") as refused:
        DrumGroove.from_midi(path)
    assert "to read them: reading={'channels': 1}" in refused.value.details["found"]
    assert DrumGroove.from_midi(path, reading={"channels": 1}).hits.any()
    with pytest.raises(ConfigError, match="unknown setting chanels"):
        DrumGroove.from_midi(path, reading={"chanels": 1})
    assert main(["show", "--reading", "channels=1", str(path)]) == 0
    assert "from bar 1" in capsys.readouterr().out


def test_how_files_are_read_is_on_record_where_it_was_said(tmp_path: Path):
    sampling = SampleSettings(count=1, reading=("channels=1",))
    assert SampleSettings.of_record(sampling.record()) == sampling
    assert "reading" not in SampleSettings(count=1).record()
    with pytest.raises(ConfigError, match="unknown setting chanels"):
        parse_settings(SampleSettings, {"count": 1, "reading": ("chanels=1",)})


def test_the_report_says_what_was_read_and_what_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = midi(tmp_path, WALTZ, hit(0, 36), beat(5, 2 * 1440), hit(2 * 1440, 3), hit(2 * 1440 + 5, 36))
    _, report = read_windows(path, GRID, DRUMS)
    assert (report.hits, report.merged, report.outside, dict(report.unknown)) == (23, 1, 1, {3: 1})
    assert read_midi(path.read_bytes(), GRID, DRUMS, source="").dropped_bars == {
        DroppedBars.METRE: 1,
        DroppedBars.HOP: 1,
    }
    window_of(path, GRID, DRUMS)
    printed = capsys.readouterr().out
    for kind, text in report.lines():
        assert f"{kind:<12}{text}" in printed
