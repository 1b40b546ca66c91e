"""What a job would find on this machine and its cluster: python -m jobs.doctor [--on slurm] [--shared DIR] [--json]

Each line is ok, a warning, or an error with its cure; the exit status is 2 if there is an error.
"""

import json
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from cluster.errors import ExitCode
from cluster.site import read_site
from jobs.command.command_line import console, run_command
from jobs.inspection.clusters import ray_checks, slurm_checks
from jobs.inspection.machine import machine_checks
from jobs.submission.kinds import RAY_VARIABLE, TARGETS
from musicvae.errors import ConfigError

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}
DEFAULT_URL = "http://127.0.0.1:8265"


def main(
    on: Annotated[str, typer.Option(help=f"Which target: {', '.join(TARGETS)}.")] = "local",
    site: Annotated[str | None, typer.Option(help="A cluster's settings, as of jobs.submit.")] = None,
    ray_jobs: Annotated[
        str, typer.Option(metavar="URL", envvar=RAY_VARIABLE, help="Of a Ray cluster's dashboard, with --on ray.")
    ] = DEFAULT_URL,
    shared: Annotated[Path, typer.Option(help="The folder that runs and shards lie in.")] = Path(),
    json_: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """Look for what would stop a job, and say what cures it."""
    if on not in TARGETS:
        raise ConfigError(f"there is no target {on!r}", expected=", ".join(TARGETS), do="name one of them: --on slurm")
    found = []
    settings, folder = read_site(site), shared.absolute()
    looks = [machine_checks(folder)]
    if on == "slurm":
        looks.append(slurm_checks(settings, settings.python or sys.executable, folder))
    if on == "ray":
        looks.append(ray_checks(ray_jobs))
    for check in chain.from_iterable(looks):
        found.append(check)
        if not json_:
            console.print(f"[{STYLES[check.level]}]{check.level:<8}[/] {check.name:<14} ", end="")
            print(check.found + (f"\n{'':23} do: {check.do}" if check.do else ""))
    if json_:
        print(json.dumps([asdict(check) for check in found]))
    if any(check.level == "error" for check in found):
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    run_command(main)
