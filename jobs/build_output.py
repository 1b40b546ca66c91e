"""What build_shards shows: a line of progress, and the table of what became of every file."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressLine
from rich.table import Table

from jobs.command_line import console
from preprocess.build import Progress
from preprocess.report import BuildReport

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress_line() -> Iterator[Callable[[Progress], None]]:
    """A moving line on a terminal; elsewhere a plain line now and then, and one at the end of each stage."""
    if not console.is_terminal:
        yield _plain_lines()
        return
    columns = [
        TextColumn("{task.description:<7}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[counts]}"),
    ]
    with ProgressLine(*columns, TimeRemainingColumn(), console=console, transient=True) as line:
        tasks = {}

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = line.add_task(progress.stage, total=progress.total, counts="")
            line.update(tasks[progress.stage], completed=progress.done, counts=_counts(progress))

        yield show


def _plain_lines() -> Callable[[Progress], None]:
    started = printed = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal printed
        now = time.monotonic()
        if progress.done == progress.total or now - printed >= SECONDS_BETWEEN_LINES:
            printed = now
            rate = progress.done / max(now - started, 1e-9)
            line = (
                f"{progress.stage} {progress.done}/{progress.total}  {_counts(progress)}  {rate:.0f} {progress.stage}/s"
            )
            print(line, flush=True)

    return show


def _counts(progress: Progress) -> str:
    return f"{progress.windows} windows" + (f"  {progress.rejected} rejected" if progress.rejected else "")


def table_of(report: BuildReport) -> Table:
    """Files, windows and hits, each row a sum that adds up with those above it."""
    table = Table(title=f"{report.source}, drum map {report.drum_map}", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("files seen", f"{report.seen:,}")
    table.add_row("  accepted", f"{report.accepted:,}")
    for reason, count in report.rejected.items():
        table.add_row(f"  rejected: {reason}", f"{count:,}")
    table.add_section()
    for split, windows in report.windows.items():
        table.add_row(f"{split} windows", f"{windows:,}")
        table.add_row("  left out, stand in another split", f"{report.left_out[split]:,}")
        table.add_row("  from files", f"{report.files[split]:,}")
        table.add_row("  in shards", f"{report.shards[split]:,}")
    table.add_section()
    table.add_row("hits of accepted files", f"{report.hits:,}")
    table.add_row("  left out, another has their step and drum", f"{report.doubled_hits:,}")
    table.add_row("  left out, unknown pitch", f"{sum(report.unknown_pitches.values()):,}")
    for pitch, count in report.unknown_pitches.items():
        table.add_row(f"    pitch {pitch}", f"{count:,}")
    table.add_section()
    table.add_row("fingerprint", report.fingerprint)
    return table
