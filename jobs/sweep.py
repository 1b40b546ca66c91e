"""Trains many variants of a preset, on this machine or on Ray; stopped, gone on with, extended and read at any time.

    python -m jobs.sweep run demo --shards SHARDS --out SWEEP
    python -m jobs.sweep status SWEEP
    python -m jobs.sweep report SWEEP
    python -m jobs.sweep best SWEEP

The sweep's folder is the truth: whatever was stopped or killed, the same command goes on.
"""

from pathlib import Path
from typing import Annotated

import typer

from jobs.command.command_line import console, run_command
from jobs.command.stop_signals import StopSignals
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState, read_ledger
from jobs.sweeps.settings import SweepSettings
from musicvae.errors import ConfigError
from musicvae.settings import parse_settings

Folder = Annotated[Path, typer.Argument(metavar="SWEEP", help="The folder of a sweep, in any state.")]


def run(
    sweep: Annotated[str, typer.Argument(help="One of jobs/sweeps (demo, random, ablation, ...), or a YAML file.")],
    shards: Annotated[
        str, typer.Option(metavar="FOLDER|URL", help="What jobs.build_shards made: a folder, or its URL.")
    ],
    out: Annotated[Path, typer.Option(help="Sweep folder: made, gone on with, or extended.")],
    ray_address: Annotated[str, typer.Option(metavar="HOST:PORT", help="A running Ray cluster.")] = "",
    share: Annotated[
        str, typer.Option(metavar="K/M", help="Train one of M shares, without Ray; an array of jobs.submit gives it.")
    ] = "",
    retry: Annotated[str, typer.Option(metavar="failed", help="Try failed trials again, up to `attempts`.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan, start nothing.")] = False,
) -> None:
    """Run a sweep to its end; the same command goes on where it was stopped, with more trials if the file has more."""
    signals = StopSignals()
    signals.listen()
    if retry not in ("", "failed"):
        raise ConfigError(f"--retry {retry}", expected="failed", do="--retry failed")

    if share and ray_address:
        raise ConfigError("--share and --ray-address exclude each other", do="give one of them")

    # They load torch, which takes seconds: signals are heard by now.
    from jobs.sweeps.command import SweepCommand
    from jobs.sweeps.shares import share_of

    own = share_of(share) if share else None
    command = SweepCommand.prepare(sweep, shards, SweepFolder(out.absolute(), own and own.name))
    console.print(command.describe(), soft_wrap=True)
    if dry_run:
        return
    if own:
        command.carry_out_share(own, signals, retry=bool(retry))
    else:
        command.carry_out(ray_address, signals, retry=bool(retry))


def status(folder: Folder) -> None:
    """Show what runs, what waits and why, what has ended, the best so far, and when it will be done."""
    from jobs.sweeps.status import status_text

    console.print(status_text(*_read(folder)), soft_wrap=True)


def report(folder: Folder) -> None:
    """Write the page (report.html) and the tables (trials.csv, trials.parquet) of a sweep in any state."""
    from jobs.sweeps.results import write_report

    for path in write_report(*_read(folder)):
        console.print(f"{path.resolve()}", soft_wrap=True)


def best(folder: Folder) -> None:
    """Write best.yaml, all settings of the winner, and show the command that trains it again."""
    from jobs.sweeps.results import write_winner

    console.print(write_winner(*_read(folder)), soft_wrap=True)


def _read(path: Path) -> tuple[SweepFolder, SweepSettings, SweepState]:
    folder = SweepFolder(path)
    folder.check()
    state = read_ledger(folder.path)
    if state.begun is None:
        raise ConfigError(f"{folder.ledger} is empty", likely="a command that was stopped at its start")
    return folder, parse_settings(SweepSettings, state.begun.sweep), state


if __name__ == "__main__":
    run_command(run, status, report, best)
