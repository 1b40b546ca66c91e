"""What musicians and collectors bring: what is read of each file, and which warning it gives."""

from dataclasses import dataclass
from typing import Any

import pytest

from musicvae.groove.drum_map import DrumMap
from musicvae.midi.reading_report import ReadingReport
from preprocess.checks import Sign, file_warnings
from preprocess.convert import convert
from preprocess.existing import build_identity
from preprocess.outcome import convert_file
from preprocess.rejection import Rejection
from preprocess.report import RecordSums
from preprocess.settings import BuildSettings
from preprocess.sources.listing import FilePlace, Source, SourceFile
from tests.support.midi.collected_midi import BEAT, COLLECTED, head, melody, rock, strokes
from tests.support.midi.midi_bytes import hit, midi_file, tempo

MAP = DrumMap.load("general_midi")


@dataclass(frozen=True, slots=True)
class Read:
    """What became of a file: windows or the reason why there are none, and what is said of it."""

    windows: int
    tempos: list[int]
    reason: str
    detail: str
    hits: int
    warnings: list[str]
    remedies: str
    lines: str


def read(name: str, **reading: Any) -> Read:
    settings = BuildSettings.model_validate({"reading": reading})
    conversion = convert(COLLECTED[name](), settings, MAP, source=f"{name}.mid")
    report = conversion.counts.reading
    rejection = conversion.result if isinstance(conversion.result, Rejection) else None
    windows = 0 if rejection else len(conversion.result)  # type: ignore[arg-type]
    tempos = [] if rejection else [round(meta.tempo) for meta in conversion.result.meta]  # type: ignore[union-attr]
    reason, detail = (rejection.reason, rejection.detail) if rejection else ("", "")
    if report is None:
        return Read(windows, tempos, reason, detail, 0, [], "", "")
    warnings = file_warnings(name, report, conversion.counts.signs, accepted=not rejection)
    lines = "\n".join(f"{kind}: {text}" for kind, text in report.lines())
    remedies = "; ".join(warning.remedy for warning in warnings)
    checks = [warning.check for warning in warnings]
    return Read(windows, tempos, reason, detail, report.hits, checks, remedies, lines)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("rock", "hits: 96 found, 96 kept"),
        ("padding", "extra: 77 bytes after the last track are not read"),
        ("foreign", "extra: 205 bytes"),
        ("proprietary", "extra: 17 bytes"),
        ("unannounced", "extra: 12 bytes"),
        ("bad_byte", 'damaged: track 3 "Bass": damaged events that were left out: 1'),
        ("broken_bass", "damaged: track 3 is damaged and was read up to the damage"),
        ("bass_with_a_wrong_length", "damaged: track 2 is damaged"),
        ("late_tempo", "tempo: 90 bpm starts in bar 5 only; before it 120 bpm"),
    ],
)
def test_a_file_with_something_odd_in_it_is_read_and_the_report_says_so(name, line):
    found = read(name)
    assert (found.windows, found.hits, found.reason, found.warnings) == (5, 96, "", [])
    assert line in found.lines


def test_windows_before_a_late_first_tempo_are_at_120():
    assert read("late_tempo").tempos == [120, 120, 120, 120, 90]


def test_salvage_is_a_setting():
    for name in ("bad_byte", "broken_bass", "bass_with_a_wrong_length"):
        assert read(name, salvage=False).reason == "not-midi"
    assert read("padding", salvage="off").windows == 5
    # A hit with a damaged byte is lost, and said so, where all is salvaged.
    assert (read("broken_drums").reason, read("broken_drums").detail) == (
        "not-midi",
        "a hit with a data byte above 127",
    )
    assert (read("broken_drums", salvage="all").windows, read("broken_drums", salvage="all").hits) == (5, 96)


def test_no_drums_says_where_the_notes_are():
    found = read("channel_3")
    assert (found.reason, found.warnings) == ("no-drums", [Sign.NOT_READ])
    assert "channel 3: 96 notes, 100% at drum pitches; to read them: reading.channels=3" in found.detail
    assert "channel 2: 32 notes, 50% at drum pitches" in found.detail
    assert "reading.channels=3" in found.remedies
    assert read("channel_3", channels=3).windows == 5


def test_messages_that_make_channels_drum_parts_are_followed():
    found = read("gs_melodic")
    assert (found.reason, found.hits, found.warnings) == ("no-drums", 0, [Sign.NOT_READ])
    assert "channel 10: a message in the file makes it melodic" in found.detail
    assert 'channel 16 "Drums": 96 notes' in found.detail
    assert (read("gs_melodic", channels="auto").hits, read("gs_melodic", channels=16).windows) == (0, 5)
    for name in ("gs_rhythm", "xg_rhythm"):
        assert read(name).reason == "no-drums"
        assert (read(name, channels="auto").windows, read(name, channels="auto").hits) == (5, 96)
    assert read("rock", channels="auto").hits == 96


@pytest.mark.parametrize(
    ("name", "move", "windows"), [("octaves", -24, 5), ("octaves_unknown", 24, 0)], ids=["up", "down, unknown"]
)
def test_a_kit_that_lies_octaves_off(name, move, windows):
    found = read(name)
    assert (found.windows, found.warnings) == (windows, [Sign.SHIFTED])
    assert found.remedies == f"build these files alone with reading.transpose={move}"
    moved = read(name, transpose=move)
    assert (moved.windows, moved.hits, moved.warnings) == (5, 96, [])


def test_one_drum_and_the_channels_of_the_others():
    found = read("drum_per_channel")
    assert (found.windows, found.hits, found.warnings) == (5, 64, [Sign.ONE_DRUM])
    assert "not read: channel 1: 16 notes, 100% at drum pitches; to read them: reading.channels=1" in found.lines
    assert found.remedies == "reading.channels=[1,2,10] reads the other drums too"
    assert (
        read("drum_per_channel", channels=[1, 2, 10]).hits,
        read("drum_per_channel", channels=[1, 2, 10]).warnings,
    ) == (96, [])


def test_seconds_written_at_120_bpm_are_on_no_grid():
    assert read("seconds").windows > 0
    assert read("seconds").warnings == [Sign.OFF_GRID]


def test_metres_that_can_be_counted_as_four_four():
    found = read("cut_time")
    assert (found.reason, found.warnings) == ("metre", [])
    assert found.detail == "2/2; to read 2/2 as 4/4: reading.metres=[2/2]"
    assert "metre: 8 bars in 2/2 are not read; to read them as 4/4: reading.metres=2/2" in found.lines
    assert read("cut_time", metres="2/2").windows == 5
    assert read("cut_time", metres=["4/2"]).reason == "metre"


def test_a_loop_repeats_a_few_windows():
    assert (read("loop").windows, read("loop").warnings) == (37, [Sign.REPEATS])


def test_triplets_and_makeshift_classes_are_named():
    found = read("shuffle")
    assert "triplets: 100% of the hits off the beat are nearer to triplets than to sixteenths" in found.lines
    assert found.warnings == []
    assert "triplets" not in read("rock").lines
    assert "makeshift: Cowbell as snare (32 hits)" in read("makeshift").lines


def test_a_hint_has_the_form_of_the_command_that_shows_it():
    report = convert(COLLECTED["cut_time"](), BuildSettings(), MAP, source="").counts.reading
    assert isinstance(report, ReadingReport)
    lines = dict(report.lines(lambda setting: f"--reading {setting}"))
    assert lines["metre"].endswith("--reading metres=2/2")


def warned(files: list[bytes], tmp_path) -> list[tuple[str, int, str]]:
    """The check, the number of files and the text and remedy of each warning that a build of the files gives."""
    sums = RecordSums()
    for number, data in enumerate(files):
        path = tmp_path / f"{number}.mid"
        path.write_bytes(data)
        file = SourceFile(path.name, FilePlace(str(path)), split="train")
        sums.add(convert_file(file, BuildSettings(), MAP)[0].record())
    warnings = sums.warnings(sums.seen - sums.reasons.total())
    return [(warning["check"], warning["files"], f"{warning['text']}; {warning['remedy']}") for warning in warnings]


ROCK = midi_file(head(), rock())
HATS = midi_file(head(), strokes(36, 38, bars=1), [e for step in range(320) for e in hit(BEAT // 4 * step, 42)])


@pytest.mark.parametrize(
    ("of_its_kind", "check", "files", "text"),
    [
        ([midi_file(head(), strokes(38, 42))] * 3, "no_drum", 3, "no kick in any of 3 files"),
        ([midi_file(head(), strokes(42), strokes(38, up=13))] * 2, "no_drum", 2, "no kick and no snare in any"),
        ([midi_file([tempo(0, 120)], rock())] * 3, Sign.NO_METRE, 3, "none of 3 files has a metre"),
        ([midi_file(head(), rock(bars=4), melody(0, notes=1000))], Sign.NOT_READ, 0, "(1,000 of 1,048 notes)"),
        ([HATS] * 2, Sign.NEARLY_ONE_DRUM, 2, "one drum has nearly all hits (0.mid: closed hihat 99%"),
    ],
)
def test_what_is_odd_only_if_the_whole_collection_is_so(of_its_kind, check, files, text, tmp_path):
    [(found, concerned, said)] = warned(of_its_kind, tmp_path)
    assert (found, concerned) == (check, files)
    assert text in said
    assert warned([*of_its_kind, *[ROCK] * (len(of_its_kind) + 1)], tmp_path) == []


def test_a_remedy_for_several_files_says_when_some_need_another_value(tmp_path):
    up, down = (COLLECTED[name]() for name in ("octaves", "octaves_unknown"))
    [(_, files, said)] = warned([up, up, down], tmp_path)
    assert files == 3
    assert "reading.transpose=-24; some of them need another value, which python -m jobs.show FILE names" in said
    assert "another value" not in warned([up, up], tmp_path)[0][2]


def test_the_identity_of_a_build_is_that_of_commits_without_the_newer_settings():
    places = (SourceFile("a.mid", FilePlace("/a")), SourceFile("b.mid", FilePlace("/b"), style="rock", tempo=90.0))
    source = Source("folder", places, ("train", "validation"))
    chosen = {"reading": {"channels": [1, 10], "drum_tracks": True}, "filters": {"min_hits": 3}}
    for values, expected in (
        ({}, "5ae9ee30712b94ca085a112772c12e723dde3c0385c75d579f091f661eb41cb5"),
        ({"warnings": {"as_errors": True}}, "5ae9ee30712b94ca085a112772c12e723dde3c0385c75d579f091f661eb41cb5"),
        (chosen, "cea40dba202c3a3a649423fab376b90f02db2231b90d13236ad810c7c9f2dded"),
    ):
        assert build_identity(source, BuildSettings.model_validate(values), MAP, [1, 2]) == expected
    salvaging = BuildSettings.model_validate({"reading": {"salvage": "all"}})
    assert build_identity(source, salvaging, MAP, [1, 2]) != build_identity(source, BuildSettings(), MAP, [1, 2])
