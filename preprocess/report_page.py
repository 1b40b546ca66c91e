"""`report.html`: a build on one self-contained page, for whoever has to judge what became of a million files.

No script, no font and no picture comes from elsewhere; names of files are hostile until they are escaped, so jinja2
escapes every value. The same build gives the same page.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from musicvae.data.store import FoundWindow
from musicvae.groove.drum_map import pitch_name
from preprocess.pages.charts import Row, class_shares, histograms, percent, ranking, waterfall
from preprocess.pages.page import changed_settings, count, page_environment, style
from preprocess.rejection import Reason
from preprocess.report import BuildReport
from preprocess.settings import BuildSettings

PAGE_NAME = "report.html"
TEMPLATE = Path(__file__).with_name("report_page.html.jinja")
STYLE = Path(__file__).with_name("report_page.css")
MOST_PITCHES = 20
MOST_EQUAL_FILES = 20
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


def report_page(report: BuildReport, examples: Sequence[FoundWindow]) -> str:
    """The page as HTML; it can be encoded as UTF-8 whatever the names of the files are.

    Args:
        examples: windows to draw.
    """
    counted = {split: statistics for split, statistics in report.statistics.items() if report.windows[split]}
    pitches = sorted(report.unknown_pitches.items(), key=lambda item: (-item[1], int(item[0])))
    rare = [hits for _, hits in pitches[MOST_PITCHES:]]
    page = (
        page_environment(TEMPLATE.parent)
        .get_template(TEMPLATE.name)
        .render(
            report=report,
            css=style(STYLE),
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
            changed=changed_settings(report.settings, BuildSettings().model_dump(mode="json")),
            equal_files=report.equal_files[:MOST_EQUAL_FILES],
            more_equal=len(report.equal_files[MOST_EQUAL_FILES:]),
        )
    )
    return page.encode(errors="backslashreplace").decode()


def _tiles(report: BuildReport) -> list[tuple[str, str]]:
    hits = sum(int(statistics.grooves.hits.sum()) for statistics in report.statistics.values())
    return [
        (count(report.seen), "files seen"),
        (count(report.accepted), f"accepted, {percent(report.accepted, report.seen) or 'of none'}"),
        (count(sum(report.windows.values())), "windows"),
        (count(hits), "hits in them"),
        (percent(_lost_hits(report), report.hits) or "none", "of hits are left out"),
        (count(sum(report.shards.values())), "shards"),
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
        "windows": count(report.windows[split]),
        "files": count(report.files[split]),
        "shards": count(report.shards[split]),
        "empty windows": percent(statistics.grooves.empty, statistics.grooves.windows),
        "hits per bar, mean": f"{statistics.grooves.hits_per_bar:.2f}",
        "quantization error, mean": f"{statistics.mean_offset:+.3f} steps",
        "quantization error, deviation": f"{statistics.offset_deviation:.3f} steps",
        "velocity, mean": f"{statistics.mean_velocity:.1f}",
    }
