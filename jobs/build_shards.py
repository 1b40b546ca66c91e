"""Converts MIDI files to shards, the training data: python -m jobs.build_shards --source groove --out shards/groove"""

import errno
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as ProgressLine
from rich.table import Table

from cluster.ray_jobs import check_ray_address
from cluster.tasks import task_runner
from jobs.command.command_line import (
    SETTINGS,
    WORK,
    compose_settings,
    console,
    end_of_checks,
    run_command,
    settings_text,
    show_next,
)
from jobs.command.provenance import code_for_ray
from musicvae.durable import output_folder
from musicvae.errors import ConfigError, UserError
from musicvae.groove.drum_map import pitch_name
from musicvae.midi.settings import Metre
from preprocess.settings import BuildSettings
from preprocess.sources.open import DEMO_FOLDER, check_source_is_there

if TYPE_CHECKING:  # numpy, which a login node need not have
    from preprocess.build import Progress
    from preprocess.report import BuildReport

LIKELY_CAUSES = {
    errno.ENOSPC: "the disk is full; the build needs the size of the shards and about a fifth more",
    errno.EDQUOT: "your quota is used up; the build needs the size of the shards and about a fifth more",
    errno.EFBIG: "a limit on the size of files (`ulimit -f`)",
}
SECONDS_BETWEEN_LINES = 5.0
PACE_SECONDS = 60.0
"""How far back the pace is measured: a continued build finds much done at once, which says nothing of the rest."""
MOST_PITCHES = 20


def main(
    source: str = typer.Option(
        ...,
        help="A folder, archive (.zip, .tar, .tar.gz) or list (.csv, .jsonl) of MIDI files; `groove`: the Groove MIDI "
        "Dataset; `demo`: a generated corpus.",
    ),
    out: Path = typer.Option(..., metavar="FOLDER", help="The folder for the shards."),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Replace the shards in --out when the new ones are complete."
    ),
    config: Path | None = typer.Option(
        None, metavar="FILE.yaml", help="Settings from a YAML file.", rich_help_panel=SETTINGS
    ),
    print_config: bool = typer.Option(False, "--print-config", help="Show all settings with their values and exit."),
    seed: int | None = typer.Option(None, min=0, help="The seed of the demo corpus; the same as demo.seed=S."),
    workers: int | None = typer.Option(
        None, min=0, help="Ray processes (all CPUs); 0: this process, without Ray.", rich_help_panel=WORK
    ),
    ray_address: str = typer.Option("", metavar="HOST:PORT", help="A running Ray cluster that sees the same files."),
    overrides: list[str] = typer.Argument(
        None, metavar="key.sub=value", help="Settings; they replace those of --config."
    ),
) -> None:
    """Convert MIDI files to shards: the training data, as windows of 4 bars.

    report.json and report.html in the folder of the shards list every file that was accepted, and why others were
    rejected. If the command is interrupted, run it again to resume.

        python -m jobs.build_shards --source my-midi-files --out shards/mine
    """
    seeded = [*(overrides or []), *([] if seed is None else [f"demo.seed={seed}"])]
    settings = compose_settings(BuildSettings, config=config, overrides=seeded)
    if print_config:
        print(settings_text(settings), end="")
        return
    check_source_is_there(source)
    end_of_checks()
    check_ray_address(ray_address)

    from preprocess.build import build, check_rejected_share, check_warnings
    from preprocess.existing import check_replaceable, find_finished_build
    from preprocess.report import PAGE_NAME, REPORT_NAME
    from preprocess.work_folder import remove_leftovers, work_folder_of

    out = output_folder(out)
    started = time.monotonic()
    try:
        if overwrite:
            check_replaceable(source, out)
        elif finished := find_finished_build(source, out, settings):
            remove_leftovers(out)
            console.print(table_of(finished))
            check_rejected_share(finished.rejected, finished.seen, settings, out / REPORT_NAME)
            check_warnings(finished.warnings, settings, out / REPORT_NAME)
            _show_warnings(finished)
            console.print(
                f"{out} already holds these shards, from the same files and settings. Nothing is left to do.",
                soft_wrap=True,
            )
            return
        where = "here" if workers == 0 and not ray_address else "ray"
        with (
            task_runner(where, workers, ray_address=ray_address, code=code_for_ray()) as run,
            progress_line() as on_progress,
        ):
            report = build(source, out, settings, run, overwrite=overwrite, on_progress=on_progress)
    except OSError as error:
        raise _stopped(out, work_folder_of(out), error) from None
    except BaseException as stop:
        if not isinstance(stop, Exception) and work_folder_of(out).exists():
            print(f"the finished part is kept in {work_folder_of(out)}", file=sys.stderr)
        raise

    console.print(table_of(report))
    _show_warnings(report)
    seconds = time.monotonic() - started
    console.print(f"{out}: {sum(report.windows.values())} windows in {seconds:.1f} s", soft_wrap=True)
    console.print(f"report on every file: {out / REPORT_NAME}; as a page: {out / PAGE_NAME}", soft_wrap=True)
    if source == "demo":
        console.print(f"MIDI files of the demo corpus: {out / DEMO_FOLDER}", soft_wrap=True)
    for split in [split for split, windows in report.windows.items() if not windows]:
        cure = "add files or change split.validation_share"
        console.print(f"warning: split {split} has no windows. Training needs train and validation: {cure}")
    show_next("train", "--preset", "demo" if source == "demo" else "generation", "--shards", out, "--run", "runs/first")


def _stopped(out: Path, work: Path, error: OSError) -> UserError:
    if not work.exists():
        return ConfigError(f"cannot write {out}", found=str(error), do="choose a folder that can be created")
    return UserError(
        f"the build of {out} stopped",
        expected="a readable source and a writable output folder until the end",
        found=str(error),
        likely=LIKELY_CAUSES.get(error.errno or 0, "a file system was unmounted, or permissions changed"),
        do=f"fix that and run the same command again; it resumes from {work}",
    )


class Pace:
    """How fast a stage of a build goes, and when it will end at that pace."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = ""
        self._marks: deque[tuple[float, int]] = deque()

    def text(self, progress: "Progress") -> str:
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
def progress_line() -> "Iterator[Callable[[Progress], None]]":
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

        def show(progress: "Progress") -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = line.add_task(progress.stage, total=progress.total, text="")
            line.update(tasks[progress.stage], completed=progress.done, text=pace.text(progress))

        yield show


def _plain_lines(pace: Pace) -> "Callable[[Progress], None]":
    printed = time.monotonic()

    def show(progress: "Progress") -> None:
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


def table_of(report: "BuildReport") -> Table:
    """Files, windows, bars and hits, each row a sum that adds up with those above it."""
    from preprocess.report import READING

    table = Table(title=f"{report.source}, drum map {report.drum_map}", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("files seen", f"{report.seen:,}")
    table.add_row("  accepted", f"{report.accepted:,}")
    _add_rows(table, {f"  rejected: {reason}": count for reason, count in report.rejected.items()})
    if report.unopened_archives:
        table.add_row("archives inside the folder, not opened", f"{report.unopened_archives:,}")
    table.add_section()
    _add_window_rows(table, report)
    table.add_section()
    _add_hit_rows(table, report)
    if report.dropped_bars:
        table.add_section()
        _add_rows(table, {f"bars dropped: {reason}": count for reason, count in report.dropped_bars.items()})
    if report.reading or report.other_metres:
        table.add_section()
        _add_rows(table, {READING[name]: count for name, count in report.reading.items()})
        _add_rows(table, {f"bars in {metre}{_as_4_4(metre)}": n for metre, n in list(report.other_metres.items())[:5]})
    if report.equal_files:
        table.add_section()
        table.add_row("groups of files with the same content, all kept", f"{len(report.equal_files):,}")
    table.add_section()
    table.add_row("fingerprint", report.fingerprint)
    return table


def _as_4_4(metre: str) -> str:
    return f"; reading.metres={metre} reads it as 4/4" if metre in get_args(Metre) else ", not read"


def _show_warnings(report: "BuildReport") -> None:
    for warning in report.warnings:
        console.print(f"warning: {warning['text']}", soft_wrap=True)
        console.print(f"  to do: {warning['remedy']}", soft_wrap=True)


def _add_window_rows(table: Table, report: "BuildReport") -> None:
    table.add_row("windows cut", f"{report.windows_cut:,}")
    _add_rows(table, {f"  left out by filters.{name}": count for name, count in report.filtered.items()})
    for split, windows in report.windows.items():
        table.add_row(f"{split} windows", f"{windows:,}")
        table.add_row("  left out, contained in another split", f"{report.left_out[split]:,}")
        if report.repeated[split]:
            table.add_row("  left out, repeated in this split", f"{report.repeated[split]:,}")
        table.add_row("  from files", f"{report.files[split]:,}")
        table.add_row("  in shards", f"{report.shards[split]:,}")


def _add_hit_rows(table: Table, report: "BuildReport") -> None:
    table.add_row("hits of accepted files", f"{report.hits:,}")
    table.add_row("  left out, another hit has the same step and drum", f"{report.doubled_hits:,}")
    table.add_row("  left out, in dropped bars", f"{report.outside_hits:,}")
    nearest = report.settings["reading"]["unknown_pitch"] == "nearest"
    unknown = "  of unknown pitch, read as the nearest known pitch" if nearest else "  left out, unknown pitch"
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
        table.add_row(name, f"{count:,}")


if __name__ == "__main__":
    run_command(main)
