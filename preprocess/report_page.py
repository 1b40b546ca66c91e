"""`report.html`: a build on one self-contained page, for whoever has to judge what became of a million files.

No script, no font and no picture comes from elsewhere; names of files are hostile until they are escaped, so jinja2
escapes every value. The same build gives the same page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from musicvae.window_lookup import FoundWindow
from preprocess.pitch_names import pitch_name
from preprocess.rejection import Reason
from preprocess.report import BuildReport
from preprocess.report_figures import Row, class_shares, histograms, percent, ranking, waterfall
from preprocess.settings import BuildSettings

PAGE_NAME = "report.html"
TEMPLATE = "report_page.html.jinja"
STYLE = Path(__file__).with_name("report_page.css")
MOST_PITCHES = 20
MOST_EQUAL_FILES = 20
MARK_WIDTH, MARK_HEIGHT = 0.78, 0.76
"""Of a hit on a drum grid, in steps and rows."""
SOFTEST = 0.2
"""Opacity of a hit of velocity 0: still to be seen."""
HINTS: Mapping[str, str] = {
    Reason.UNREADABLE: "permissions, broken links, damaged archives",
    Reason.TOO_LARGE: "above limits.max_bytes, max_notes or max_bars",
    Reason.NOT_MIDI: "another format, or damaged",
    Reason.SMPTE: "time in frames of film, without bars",
    Reason.NO_DRUMS: "no known drum pitch; see reading.channels and reading.drum_tracks",
    Reason.UNKNOWN_PITCH: "because reading.unknown_pitch is reject",
    Reason.METRE: "not a bar in 4/4",
    Reason.TOO_SHORT: "no stretch in 4/4 as long as a window",
    Reason.FILTERED: "the filters left no window",
    Reason.DUPLICATE_FILE: "the content of a file that was used",
    Reason.TIMEOUT: "above limits.cpu_seconds or limits.wall_seconds, twice",
    Reason.MEMORY: "above limits.memory_mib, twice",
    Reason.WORKER_DIED: "ended its process, twice",
    Reason.INTERNAL_ERROR: "a bug of this program: please report it",
}
"""What a rejection means or which setting decides it, for the reader of the page."""


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """A setting that is not at its default."""

    name: str
    value: str
    default: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A hit on a drum grid: left edge in steps, upper edge in rows from the top, opacity."""

    x: float
    y: float
    opacity: float


def report_page(report: BuildReport, examples: Sequence[FoundWindow]) -> str:
    """The page as HTML; it can be encoded as UTF-8 whatever the names of the files are.

    Args:
        examples: windows to draw.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["count"] = _count
    environment.filters["marks"] = _marks
    counted = {split: statistics for split, statistics in report.statistics.items() if report.windows[split]}
    pitches = sorted(report.unknown_pitches.items(), key=lambda item: (-item[1], int(item[0])))
    rare = [hits for _, hits in pitches[MOST_PITCHES:]]
    page = environment.get_template(TEMPLATE).render(
        report=report,
        css=Markup(STYLE.read_text()),
        title=f"Drum windows from {report.seen:,} files ({report.source})",
        grid=BuildSettings.model_validate(report.settings).window.grid,
        drums=report.drums,
        tiles=_tiles(report),
        files=_file_rows(report),
        windows=_window_rows(report),
        hits=_hit_rows(report),
        reasons=ranking(report.rejected, report.seen, HINTS),
        dropped_bars=ranking(report.dropped_bars, sum(report.dropped_bars.values()), {}),
        split_table=_split_table(report),
        counted=counted,
        drum_shares=class_shares(counted, report.drums),
        histograms=histograms(counted) if counted else [],
        examples=examples,
        pitches=ranking(
            {f"{pitch} {pitch_name(int(pitch))}".strip(): hits for pitch, hits in pitches[:MOST_PITCHES]},
            sum(report.unknown_pitches.values()),
            {},
        ),
        more_pitches=f"and {len(rare):,} more, {sum(rare):,} hits" if rare else "",
        changed=changed_settings(report.settings),
        equal_files=report.equal_files[:MOST_EQUAL_FILES],
        more_equal=len(report.equal_files[MOST_EQUAL_FILES:]),
        mark_width=MARK_WIDTH,
        mark_height=MARK_HEIGHT,
    )
    return page.encode(errors="backslashreplace").decode()


def changed_settings(settings: Mapping[str, Any]) -> list[ChangedSetting]:
    """The settings, by dotted name, that are not at their defaults."""
    defaults = _dotted(BuildSettings().model_dump(mode="json"))
    return [
        ChangedSetting(name, str(value), str(defaults.get(name, "")))
        for name, value in _dotted(settings).items()
        if value != defaults.get(name, "")
    ]


def _dotted(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    values = {}
    for name, value in settings.items():
        values |= _dotted(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return values


def _tiles(report: BuildReport) -> list[tuple[str, str]]:
    hits = sum(int(statistics.grooves.hits.sum()) for statistics in report.statistics.values())
    return [
        (_count(report.seen), "files seen"),
        (_count(report.accepted), f"accepted, {percent(report.accepted, report.seen) or 'of none'}"),
        (_count(sum(report.windows.values())), "windows"),
        (_count(hits), "hits in them"),
        (percent(_lost_hits(report), report.hits) or "none", "of hits are left out"),
        (_count(sum(report.shards.values())), "shards"),
    ]


def _lost_hits(report: BuildReport) -> int:
    return report.doubled_hits + report.outside_hits + (0 if _to_nearest(report) else report.unknown_hits)


def _to_nearest(report: BuildReport) -> bool:
    """Whether hits of unknown pitch are kept, in the class of the nearest pitch."""
    return report.settings["reading"]["unknown_pitch"] == "nearest"


def _file_rows(report: BuildReport) -> list[Row]:
    rejected = sum(report.rejected.values())
    return waterfall("files seen", report.seen, [("rejected", rejected, "")], "accepted", {"all": report.accepted})


def _window_rows(report: BuildReport) -> list[Row]:
    filtered = [(f"filters.{name}", windows, "") for name, windows in report.filtered.items()]
    left_out = ", ".join(f"{split} {windows:,}" for split, windows in report.left_out.items() if windows)
    repeated = ", ".join(f"{split} {windows:,}" for split, windows in report.repeated.items() if windows)
    losses = [
        *(filtered or [("left out by filters", 0, "")]),
        ("stand in another split", sum(report.left_out.values()), left_out),
        ("repeated in their split", sum(report.repeated.values()), repeated),
    ]
    return waterfall("cut from the files", report.windows_cut, losses, "kept", report.windows)


def _hit_rows(report: BuildReport) -> list[Row]:
    losses = [
        ("share their step and drum", report.doubled_hits, "the loudest of them stays"),
        ("outside stretches in 4/4", report.outside_hits, ""),
        ("unknown pitch", 0 if _to_nearest(report) else report.unknown_hits, ""),
    ]
    return waterfall("read", report.hits, losses, "on the grid", {"all": report.hits - _lost_hits(report)})


def _split_table(report: BuildReport) -> list[tuple[str, list[str]]]:
    """Name and value in each split of what is told in figures."""
    columns = [_split_column(report, split) for split in report.windows]
    return [(name, [column[name] for column in columns]) for name in columns[0]]


def _split_column(report: BuildReport, split: str) -> dict[str, str]:
    statistics = report.statistics[split]
    return {
        "windows": _count(report.windows[split]),
        "files": _count(report.files[split]),
        "shards": _count(report.shards[split]),
        "empty windows": percent(statistics.grooves.empty, statistics.grooves.windows),
        "hits per bar, mean": f"{statistics.grooves.hits_per_bar:.2f}",
        "quantization error, mean": f"{statistics.mean_offset:+.3f} steps",
        "quantization error, deviation": f"{statistics.offset_deviation:.3f} steps",
        "velocity, mean": f"{statistics.mean_velocity:.1f}",
    }


def _marks(window: FoundWindow) -> list[Mark]:
    groove = window.groove
    return [
        Mark(
            x=step + float(groove.offset[step, drum]),
            y=groove.hits.shape[1] - 1 - drum + (1 - MARK_HEIGHT) / 2,
            opacity=SOFTEST + (1 - SOFTEST) * float(groove.velocity[step, drum]),
        )
        for step, drum in np.argwhere(groove.hits).tolist()
    ]


def _count(number: int) -> str:
    return f"{number:,}"
