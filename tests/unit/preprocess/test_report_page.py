"""The report page: every figure on it, nothing of a hostile name alive in it, nothing loaded from elsewhere."""

import re

import pytest

from musicvae.data.statistics import WindowStatistics, count_windows
from musicvae.data.store import FoundWindow
from musicvae.data.windows import WindowBlock
from musicvae.groove.drum_map import pitch_name
from preprocess.pages.page import changed_settings
from preprocess.rejection import Reason
from preprocess.report import HINTS, report_page
from preprocess.settings import BuildSettings, FilterSettings, ReadingSettings
from tests.support.pages.parsed_page import Page
from tests.support.shards.report_fixtures import HOSTILE, build_report
from tests.support.shards.shard_fixtures import GRID, patterned_windows


def example(block: WindowBlock, source: str = "a.mid") -> FoundWindow:
    meta = type(block.meta[0])(source, 7, 93.0, "<b>rock</b>")
    return FoundWindow("train", 5, meta, block.groove(0, GRID))


def page(**changed: object) -> Page:
    return Page(report_page(build_report(**changed), [example(patterned_windows(1, seed=1))]))


def test_every_count_is_on_the_page():
    text = page().text
    for number in ("1,234,567", "1,234,000", "500", "67", "1,066", "11", "22", "33", "900", "100", "7,001", "5,002"):
        assert number in text
    for words in ("filters.min_hits", "other metre", "general_midi", "0123456789abcdef", "ab" * 32, "no-drums"):
        assert words in text


def test_the_twenty_most_frequent_unknown_pitches_and_how_many_more():
    text = page().text
    assert "56 Cowbell 2,000" in text
    assert "108" in text
    assert "109 " not in text
    hits = sum(1000 - pitch for pitch in range(109, 120))
    assert f"and 11 more, {hits:,} hits" in text


def test_hostile_names_are_text():
    html = report_page(build_report(drum_map=HOSTILE), [example(patterned_windows(1, seed=1), HOSTILE)])
    parsed = Page(html)
    assert "script" not in parsed.tags
    assert parsed.tags.count("b") == parsed.attributes.count(("class", "tile"))
    assert html.count("<script") == 0
    assert HOSTILE in " ".join(parsed.words)
    assert "<b>rock</b>" in parsed.text


def test_a_name_that_utf8_cannot_hold_can_still_be_written():
    html = report_page(build_report(), [example(patterned_windows(1, seed=1), "caf\udce9.mid")])
    assert "caf\\udce9.mid" in html.encode().decode()


def test_nothing_comes_from_elsewhere():
    html = report_page(build_report(), [])
    parsed = Page(html)
    assert parsed.loads_nothing()
    assert parsed.links == ["report.json", "manifest.json"]
    assert not re.search(r"url\(|@import|https?:", html)


def test_the_same_build_gives_the_same_page():
    assert page().text == page().text


def test_bars_stay_within_their_space():
    parsed = page()
    spans = [
        re.fullmatch(r"left:min\(([\d.]+)%, calc\(100% - 2px\)\);width:([\d.]+)%", value)
        for name, value in parsed.attributes
    ]
    found = [(float(span[1]), float(span[2])) for span in spans if span]
    assert len(found) > 20
    assert all(start + width <= 100.01 for start, width in found)
    assert "nan" not in report_page(build_report(), []).lower().replace("nance", "")


def test_a_hit_is_drawn_in_its_place():
    block = patterned_windows(1, seed=1)
    html = report_page(build_report(), [example(block)])
    drawn = re.findall(r'class="hit" x="([-\d.]+)" y="([\d.]+)"', html)
    assert len(drawn) == int((block.velocity > 0).sum())
    first = (block.velocity[0] > 0).nonzero()
    step, drum = int(first[0][0]), int(first[1][0])
    assert float(drawn[0][0]) == pytest.approx(step + block.offset[0, step, drum] / 65536, abs=0.006)
    assert int(float(drawn[0][1])) == 8 - drum


def test_a_build_where_almost_nothing_happened():
    text = page(
        rejected={},
        accepted=1_234_567,
        dropped_bars={},
        unknown_pitches={},
        filtered={},
        equal_files=(),
        windows={"train": 1011, "validation": 0},
        statistics={
            "train": count_windows(patterned_windows(1011, seed=0), GRID),
            "validation": WindowStatistics.zero(9),
        },
    ).text
    assert "None. Every file has windows." in text
    assert "None. Every pitch is in drum map" in text
    assert "All settings have their default values." in text


def test_hits_that_were_given_to_the_nearest_pitch_are_not_lost():
    nearest = BuildSettings(reading=ReadingSettings(unknown_pitch="nearest")).model_dump(mode="json")
    assert "kept 84,994 85.0%" in page().text
    assert "kept 89,996 90.0%" in page(settings=nearest).text


def test_settings_that_differ_from_their_defaults():
    settings = BuildSettings(filters=FilterSettings(min_hits=8, styles=("rock", "jazz")), drum_map="roland")
    changed = changed_settings(settings.model_dump(mode="json"), BuildSettings().model_dump(mode="json"))
    assert [(setting.name, setting.value, setting.default) for setting in changed] == [
        ("drum_map", "roland", "auto"),
        ("filters.min_hits", "8", "0"),
        ("filters.styles", "['rock', 'jazz']", "[]"),
    ]
    defaults = BuildSettings().model_dump(mode="json")
    assert changed_settings(defaults, defaults) == []


def test_every_reason_is_explained():
    assert set(HINTS) == set(Reason)


@pytest.mark.parametrize(("pitch", "name"), [(26, ""), (27, "High Q"), (36, "Bass Drum 1"), (49, "Crash Cymbal 1")])
def test_pitch_names(pitch, name):
    assert pitch_name(pitch) == name


def test_pitch_names_are_those_of_pretty_midi():
    import pretty_midi

    for pitch in range(35, 82):
        theirs = pretty_midi.note_number_to_drum_name(pitch).replace("-", " ").lower()
        assert pitch_name(pitch).replace("-", " ").lower().split()[0][:2] == theirs.split()[0][:2], pitch
    assert (pitch_name(87), pitch_name(88)) == ("Open Surdo", "")
