"""What build_shards shows: a line of progress, and the table of what became of every file."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as ProgressLine
from rich.table import Table

from jobs.command.command_line import console
from musicvae.groove.drum_map import pitch_name
from preprocess.build import Progress
from preprocess.report import BuildReport

SECONDS_BETWEEN_LINES = 5.0
PACE_SECONDS = 60.0
"""How far back the pace is measured: a continued build finds much done at once, which says nothing of the rest."""
MOST_PITCHES = 20


class Pace:
    """How fast a stage of a build goes, and when it will end at that pace."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._marks: deque[tuple[float, int]] = deque()

    def text(self, progress: Progress) -> str:
        """Windows, rejections, pace and time left, once this much is done."""
        now = self._clock()
        if progress.stage != self._stage:
            self._stage = progress.stage
            self._marks.clear()
        self._marks.append((now, progress.done))
        while now - self._marks[0][0] > PACE_SECONDS and len(self._marks) > 2:
            self._marks.popleft()
        (first, done), left = self._marks[0], progress.total - progress.done
        rate = (progress.done - done) / (now - first) if now > first else 0.0
        parts = [f"{progress.windows:,} windows"]
        if progress.rejected:
            parts.append(f"{progress.rejected:,} rejected")
        if rate:
            parts += [f"{rate:,.0f} {progress.stage}/s" if rate >= 10 else f"{rate:.1f} {progress.stage}/s"]
            parts += [f"ETA {_clock_time(left / rate)}"] if left else []
        return "  ".join(parts)


@contextmanager
def progress_line() -> Iterator[Callable[[Progress], None]]:
    """A moving line on a terminal; elsewhere a plain line now and then, and one at the end of each stage."""
    pace = Pace()
    if not console.is_terminal:
        yield _plain_lines(pace)
        return
    columns = [
        TextColumn("{task.description:<7}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
    ]
    with ProgressLine(*columns, console=console, transient=True) as line:
        tasks = {}

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = line.add_task(progress.stage, total=progress.total, text="")
            line.update(tasks[progress.stage], completed=progress.done, text=pace.text(progress))

        yield show


def _plain_lines(pace: Pace) -> Callable[[Progress], None]:
    printed = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal printed
        now = time.monotonic()
        text = pace.text(progress)
        if progress.done == progress.total or now - printed >= SECONDS_BETWEEN_LINES:
            printed = now
            print(f"{progress.stage} {progress.done:,}/{progress.total:,}  {text}", flush=True)

    return show


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def table_of(report: BuildReport) -> Table:
    """Files, windows, bars and hits, each row a sum that adds up with those above it."""
    title = escape(f"{report.source}, drum map {report.drum_map}")
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("files seen", f"{report.seen:,}")
    table.add_row("  accepted", f"{report.accepted:,}")
    _add_rows(table, {f"  rejected: {reason}": count for reason, count in report.rejected.items()})
    if report.unopened_archives:
        table.add_row("archives beside them, not opened", f"{report.unopened_archives:,}")
    table.add_section()
    _add_window_rows(table, report)
    table.add_section()
    _add_hit_rows(table, report)
    if report.dropped_bars:
        table.add_section()
        _add_rows(table, {f"bars dropped: {reason}": count for reason, count in report.dropped_bars.items()})
    if report.equal_files:
        table.add_section()
        table.add_row("groups of files with equal content, all kept", f"{len(report.equal_files):,}")
    table.add_section()
    table.add_row("fingerprint", report.fingerprint)
    return table


def _add_window_rows(table: Table, report: BuildReport) -> None:
    table.add_row("windows cut", f"{report.windows_cut:,}")
    _add_rows(table, {f"  left out by filters.{name}": count for name, count in report.filtered.items()})
    for split, windows in report.windows.items():
        table.add_row(f"{split} windows", f"{windows:,}")
        table.add_row("  left out, stand in another split", f"{report.left_out[split]:,}")
        if report.repeated[split]:
            table.add_row("  left out, repeated in this split", f"{report.repeated[split]:,}")
        table.add_row("  from files", f"{report.files[split]:,}")
        table.add_row("  in shards", f"{report.shards[split]:,}")


def _add_hit_rows(table: Table, report: BuildReport) -> None:
    table.add_row("hits of accepted files", f"{report.hits:,}")
    table.add_row("  left out, another has their step and drum", f"{report.doubled_hits:,}")
    table.add_row("  left out, in bars that are dropped", f"{report.outside_hits:,}")
    nearest = report.settings["reading"]["unknown_pitch"] == "nearest"
    unknown = "  of unknown pitch, given to the nearest" if nearest else "  left out, unknown pitch"
    table.add_row(unknown, f"{report.unknown_hits:,}")
    by_hits = sorted(report.unknown_pitches.items(), key=lambda item: (-item[1], int(item[0])))
    if by_hits:
        table.add_section()
        table.add_row("hits of unknown pitch in all files", f"{sum(report.unknown_pitches.values()):,}")
    for pitch, count in by_hits[:MOST_PITCHES]:
        table.add_row(f"  pitch {pitch} {pitch_name(int(pitch))}".rstrip(), f"{count:,}")
    if rare := by_hits[MOST_PITCHES:]:
        table.add_row(f"  and {len(rare)} more", f"{sum(count for _, count in rare):,}")


def _add_rows(table: Table, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        table.add_row(escape(name), f"{count:,}")
