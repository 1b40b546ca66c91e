"""What build_shards shows: sums that can be checked by eye, a pace that a continued build does not spoil."""

import io

import pytest

from jobs.build_shards import Pace, table_of
from jobs.command.command_line import PlainConsole
from preprocess.build import Progress
from preprocess.report import BuildReport
from preprocess.settings import BuildSettings, ReadingSettings
from tests.support.shards.report_fixtures import build_report


def rows(report: BuildReport) -> list[str]:
    """The table's rows as words."""
    output = io.StringIO()
    PlainConsole(file=output, width=120).print(table_of(report))
    return [" ".join(line.replace("│", " ").split()) for line in output.getvalue().splitlines()]


def files(done: int, windows: int = 0, rejected: int = 0) -> Progress:
    return Progress("files", done, 1000, windows, rejected)


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "row",
    [
        "files seen 1,234,567",
        "accepted 1,234,000",
        "rejected: no-drums 500",
        "windows cut 1,066",
        "left out by filters.min_hits 11",
        "train windows 900",
        "left out, contained in another split 22",
        "left out, repeated in this split 33",
        "hits of accepted files 100,000",
        "left out, another hit has the same step and drum 7,001",
        "left out, in dropped bars 3,003",
        "left out, unknown pitch 5,002",
        "pitch 56 Cowbell 2,000",
        "pitch 108 892",
        "and 11 more 9,746",
        "bars dropped: other metre 44",
        "groups of files with the same content, all kept 1",
        "fingerprint 0123456789abcdef",
    ],
)
def test_every_count_has_a_row(row):
    assert row in rows(build_report())


def test_no_more_than_twenty_pitches_are_named():
    assert sum(row.startswith("pitch ") for row in rows(build_report())) == 20


def test_names_are_not_markup():
    assert any("[red]my map[/red]" in row for row in rows(build_report(drum_map="[red]my map[/red]")))


def test_hits_of_unknown_pitch_that_were_kept_are_not_called_left_out():
    nearest = BuildSettings(reading=ReadingSettings(unknown_pitch="nearest")).model_dump(mode="json")
    assert "of unknown pitch, read as the nearest known pitch 5,002" in rows(build_report(settings=nearest))


def test_pace_and_time_left():
    clock = Clock()
    pace = Pace(clock)
    assert pace.text(files(0)) == "0 windows"
    clock.now = 2.0
    assert pace.text(files(100, 1234, 5)) == "1,234 windows  5 rejected  50 files/s  ETA 0:00:18"
    clock.now = 20.0
    assert pace.text(files(1000, 9999)) == "9,999 windows  50 files/s"


def test_what_an_earlier_build_has_done_is_soon_forgotten():
    clock = Clock()
    pace = Pace(clock)
    pace.text(files(0))
    clock.now = 1.0
    pace.text(files(900))
    for second in range(1, 100):
        clock.now = second
        text = pace.text(files(900 + second // 2))
    assert "0.5 files/s  ETA 0:01:4" in text


def test_each_stage_has_a_pace_of_its_own():
    clock = Clock()
    pace = Pace(clock)
    pace.text(files(0))
    clock.now = 100.0
    pace.text(files(1000))
    assert "/s" not in pace.text(Progress("shards", 0, 40, 0, 0))
    clock.now = 101.0
    assert pace.text(Progress("shards", 20, 40, 0, 0)) == "0 windows  20 shards/s  ETA 0:00:01"


def test_a_clock_that_stands_still_gives_no_pace():
    pace = Pace(lambda: 5.0)
    pace.text(files(0))
    assert pace.text(files(10)) == "0 windows"
