"""Shows the status of runs and submissions: python -m jobs.status [FOLDER ...] [--watch 5] [--json]

It is read from the folders. SLURM is asked only why a job waits, and why one ended that has not recorded it.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.command.command_line import console, run_command
from jobs.submission.rows import Row, rows_of
from jobs.submission.run_view import RunView
from musicvae.errors import ConfigError
from musicvae.terminal import shown
from musicvae.training.settings import MAIN_FIGURES

DEFAULT = (Path("runs"), Path("submissions"))
STYLES = {"failed": "red", "lost": "red", "diverged": "red", "unknown": "red", "running": "green", "done": "dim"}
SHOWN_FAILURES, SHOWN_NUMBERS = 5, 3
FIGURES = ("step", "windows/s", "ETA", "−ELBO", "restarts", "heartbeat")
WIDE = 120
"""Characters of a terminal that has room for a column for each figure."""


def main(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Runs, submissions, or folders of them (./runs and ./submissions)."),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(min=0.5, metavar="SECONDS", help="Refresh the table every so many seconds, until Ctrl-C."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON list, with all failures.")] = False,
) -> None:
    """Show the status of runs and submissions: state, step, speed, -ELBO, restarts, and why jobs wait or failed.

    python -m jobs.status runs submissions --watch 5
    """
    given = folders or [folder for folder in DEFAULT if folder.is_dir()]
    if not given:
        raise ConfigError(
            "there are no runs or submissions to show",
            expected="a folder ./runs or ./submissions",
            do="give the folder of a run or a submission",
        )
    if watch is not None:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(table_of(list(rows_of(given)), console.width), refresh=True)
                time.sleep(watch)
    rows = list(rows_of(given))
    if json_:
        print(json.dumps([row.to_json() for row in rows]))
        return
    console.print(table_of(rows, console.width))
    summaries = [failure for row in rows for failure in row.failures()]
    for failure in summaries[:SHOWN_FAILURES]:
        print(shown(f"\n{failure}"))
    if len(summaries) > SHOWN_FAILURES:
        console.print(f"\n{len(summaries) - SHOWN_FAILURES} more failure(s); --json shows all of them")


def table_of(rows: list[Row], width: int, now: Callable[[], float] = time.time) -> Table:
    """One row each; on a narrow terminal all figures of a row are in one column, with their names.

    Args:
        width: of the terminal, in characters.
    """
    table = Table("name", "state", *(FIGURES if width >= WIDE else ["progress"]), "why", box=None)
    table.columns[0].no_wrap, table.columns[1].no_wrap = True, width >= WIDE
    for row in rows:
        run, state = row.run, row.state
        if row.elements:
            state = ", ".join(f"{count} {name}" for name, count in row.elements.items())
        figures = {
            "step": f"{run.step:,}/{run.total:,}" if run and run.total else "",
            "windows/s": f"{run.rate:.0f}" if run and run.rate else "",
            "ETA": _duration(run.eta_seconds) if run and run.eta_seconds and row.state == "running" else "",
            "−ELBO": _loss(run) if run else "",
            "restarts": str(row.restarts or ""),
            "heartbeat": f"{_duration(max(0.0, now() - run.heartbeat))} ago" if run and run.heartbeat else "",
        }
        progress = ", ".join(f"{name} {figure}" for name, figure in figures.items() if figure)
        cells = figures.values() if width >= WIDE else [progress]
        jobs = f"job {', '.join(row.numbers[:SHOWN_NUMBERS])}{', ...' * (len(row.numbers) > SHOWN_NUMBERS)}"
        why = "; ".join(filter(None, [jobs * bool(row.numbers), row.why]))
        table.add_row(row.name, Text(shown(state), STYLES.get(row.state, "")), *cells, why)
    return table


def _loss(run: RunView) -> str:
    """The −ELBO without its unit, which the column has; another figure with its own."""
    if run.validation is None or run.figure is None:
        return ""
    name, unit = MAIN_FIGURES[run.figure]
    return f"{run.validation:.2f}" if name == "−ELBO" else f"{run.validation:.3f} {unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


if __name__ == "__main__":
    run_command(main)
