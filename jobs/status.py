"""How runs and submissions stand: python -m jobs.status [FOLDER ...] [--watch 5] [--json]

Told from the folders; SLURM is asked only why a job waits, and what ended one that could not say so itself.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from jobs.command.command_line import console, run_command
from jobs.submission.rows import Row, rows_of
from musicvae.errors import ConfigError

DEFAULT = (Path("runs"), Path("submissions"))
STYLES = {"failed": "red", "lost": "red", "diverged": "red", "unknown": "red", "running": "green", "done": "dim"}
SHOWN_FAILURES = 5


def main(
    folders: Annotated[list[Path] | None, typer.Argument(help="Runs, submissions, or folders of them.")] = None,
    watch: Annotated[float | None, typer.Option(min=0.5, metavar="SECONDS", help="Show it anew, until Ctrl-C.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON list, failures included.")] = False,
) -> None:
    """Show states, steps, rates, validation figures, restarts, and why jobs wait or failed."""
    given = folders or [folder for folder in DEFAULT if folder.is_dir()]
    if not given:
        raise ConfigError("there is nothing to show", expected="./runs or ./submissions", do="name a folder")
    if watch is not None:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(table_of(list(rows_of(given))), refresh=True)
                time.sleep(watch)
    rows = list(rows_of(given))
    if json_:
        print(json.dumps([row.to_json() for row in rows]))
        return
    console.print(table_of(rows))
    summaries = [failure for row in rows for failure in row.failures()]
    for failure in summaries[:SHOWN_FAILURES]:
        print(f"\n{failure}")
    if len(summaries) > SHOWN_FAILURES:
        console.print(f"\n{len(summaries) - SHOWN_FAILURES} more failure(s): --json has them all")


def table_of(rows: list[Row], now: Callable[[], float] = time.time) -> Table:
    """One row each."""
    table = Table("name", "state", "step", "windows/s", "ETA", "−ELBO", "restarts", "heartbeat", "why", box=None)
    for column in table.columns[:2]:
        column.no_wrap = True
    for row in rows:
        run, state = row.run, row.state
        if row.elements:
            state = ", ".join(f"{count} {name}" for name, count in row.elements.items())
        table.add_row(
            escape(row.name),
            f"[{STYLES.get(row.state, 'default')}]{state}[/]",
            f"{run.step:,}/{run.total:,}" if run and run.total else "",
            f"{run.rate:.0f}" if run and run.rate else "",
            _duration(run.eta_seconds) if run and run.eta_seconds and row.state == "running" else "",
            f"{run.validation:.2f}" if run and run.validation is not None else "",
            str(row.restarts or ""),
            f"{_duration(max(0.0, now() - run.heartbeat))} ago" if run and run.heartbeat else "",
            escape(row.why),
        )
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


if __name__ == "__main__":
    run_command(main)
