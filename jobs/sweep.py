"""Trains many variants of a preset, on this machine or on Ray.

A sweep can be stopped, resumed and extended at any time: run the same command again.

    python -m jobs.sweep run demo --shards SHARDS --out SWEEP
    python -m jobs.sweep status SWEEP
    python -m jobs.sweep report SWEEP
    python -m jobs.sweep best SWEEP
    python -m jobs.sweep compare SWEEP SWEEP ...
    python -m jobs.sweep dashboard SWEEP

`python -m jobs.sweep run --help` shows the options of `run`.
"""

import gc
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any
from wsgiref.simple_server import make_server

import typer

from cluster.ray_jobs import check_ray_address
from jobs.command.command_line import WORK, console, end_of_checks, error_console, run_command
from jobs.command.mirror import ResumeFrom, SyncTo, check_urls, fetch, mirrored
from jobs.command.paths import check_new_folder
from jobs.command.stop_signals import StopSignals
from jobs.command.streams import outlive_terminal
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState
from jobs.sweeps.settings import SweepSettings
from musicvae.errors import ConfigError

Folder = Annotated[Path, typer.Argument(metavar="SWEEP", help="The folder of a sweep.")]


def run(
    sweep: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.yaml", help="A sweep of jobs/sweeps (demo, random, ablation, ...), or a YAML file."
        ),
    ],
    shards: Annotated[str, typer.Option(metavar="FOLDER|URL", help="The shards that jobs.build_shards wrote.")],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder of the sweep: a new one, or one to resume or extend.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan and exit.")] = False,
    retry: Annotated[
        str, typer.Option(metavar="failed", help="Train failed trials again, up to `attempts` of the sweep.")
    ] = "",
    notify: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="Run a shell command when the sweep is done or fails, with SWEEP_FOLDER, SWEEP_STATE, SWEEP_MESSAGE.",
        ),
    ] = "",
    ray_address: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="A running Ray cluster (this machine alone).", rich_help_panel=WORK),
    ] = "",
    share: Annotated[
        str,
        typer.Option(metavar="K/M", help="Run as element K, from 0, of M, without Ray; jobs.submit --array sets it."),
    ] = "",
    sync_to: SyncTo = None,
    resume_from: ResumeFrom = None,
) -> None:
    """Run a sweep to its end. To resume it, run the same command again.

    To extend a sweep, add trials or steps to its file and run the same command again.

        python -m jobs.sweep run demo --shards shards/demo --out sweeps/demo
    """
    signals = StopSignals()
    signals.listen()
    if retry not in ("", "failed"):
        raise ConfigError(f"--retry {retry} cannot be used", expected="failed", do="--retry failed")

    if share and ray_address:
        raise ConfigError("--share and --ray-address exclude each other", do="give only one of them")

    from jobs.sweeps.elements import element_of
    from jobs.sweeps.trials import prepare

    check_new_folder(out, "--out")
    check_urls(sync_to=sync_to, resume_from=resume_from)
    sweep_folder = SweepFolder(out.absolute(), element_of(share) if share else None)
    factory, plan = prepare(sweep, shards, sweep_folder)
    if share and (elements := int(share.partition("/")[2])) > plan.numbers:
        error_console.print(
            f"warning: {elements} elements for {plan.numbers} trials; those without a trial leave after ten minutes",
            soft_wrap=True,
        )
    end_of_checks()
    check_ray_address(ray_address)

    from jobs.sweeps.command import SweepCommand  # loads torch, which takes seconds: signals are heard by now

    if not dry_run and fetch(resume_from, out):
        factory, plan = prepare(sweep, shards, sweep_folder)
    command = SweepCommand.of(factory, plan, shards, sweep_folder, notify)
    console.print(command.describe(), soft_wrap=True)
    if dry_run:
        return
    outlive_terminal()
    gc.freeze()  # a garbage collection amid a decision would visit all that is loaded by now, for .2 s
    with mirrored(sweep_folder.path, sync_to, skipped=("ranks",)):
        if share:
            command.carry_out_element(signals, retry=bool(retry))
        else:
            command.carry_out(ray_address, signals, retry=bool(retry))


def status(folder: Folder) -> None:
    """Show the status of a sweep.

    It lists running and failed trials, why others wait, the best result so far and the time left.

        python -m jobs.sweep status sweeps/demo
    """
    from jobs.sweeps.status import status_text

    console.print(status_text(*_read(folder)), soft_wrap=True)


def compare(folders: Annotated[list[Path], typer.Argument(metavar="SWEEP", help="The folders of sweeps.")]) -> None:
    """Compare sweeps in a table.

    It has the metric, its best value, trials, hours of training and the best settings of each.

        python -m jobs.sweep compare sweeps/demo sweeps/mine
    """
    from jobs.sweeps.status import comparison

    console.print(comparison([_read(folder) for folder in folders]))


def report(folder: Folder) -> None:
    """Write the page and the tables of a sweep.

    The files are report.html, trials.csv, trials.parquet and study.journal (for Optuna), in the folder of the sweep.

        python -m jobs.sweep report sweeps/demo
    """
    from jobs.sweeps.results import write_report
    from jobs.sweeps.study import write_journal

    sweep = _read(folder)
    for path in (*write_report(*sweep), write_journal(sweep[0])):
        console.print(f"{path.resolve()}", soft_wrap=True)


def dashboard(
    folder: Folder, port: Annotated[int, typer.Option(help="A port of this machine; 0: any free port.")] = 8080
) -> None:
    """Show a sweep in optuna-dashboard.

    Only browsers on this machine can open it. The sweep cannot be changed there.

        python -m jobs.sweep dashboard sweeps/demo
    """
    from jobs.sweeps.study import LedgerStorage

    storage = LedgerStorage(SweepFolder(folder))
    try:
        app = import_module("optuna_dashboard").wsgi(storage)
    except ImportError as error:
        do = "pip install 'musicvae-grooves[sweeps]'"
        raise ConfigError("optuna-dashboard is not installed", found=str(error), do=do) from None

    def reading(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        return [b'{"reason": "the study is computed from the ledger of the sweep and cannot be changed"}']

    try:
        server = make_server("127.0.0.1", port, reading)
    except OSError as error:
        raise ConfigError(f"port {port} cannot be used", found=str(error), do="choose another one: --port N") from None
    # In a thread: wsgiref takes a KeyboardInterrupt during a request for an error of that request.
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with suppress(KeyboardInterrupt):
        console.print(f"http://127.0.0.1:{server.server_port}/ until Ctrl-C", soft_wrap=True)
        signal.pause()


def best(folder: Folder) -> None:
    """Write all settings of the best trial.

    The file is best.yaml in the folder of the sweep. The command that trains it again is shown.

        python -m jobs.sweep best sweeps/demo
    """
    from jobs.sweeps.results import write_winner

    console.print(write_winner(*_read(folder)), soft_wrap=True)


def _read(path: Path) -> tuple[SweepFolder, SweepSettings, SweepState]:
    return SweepFolder(path), *SweepFolder(path).read()


if __name__ == "__main__":
    run_command(run, status, compare, report, best, dashboard)
