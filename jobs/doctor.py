"""Checks whether this machine or a cluster can run jobs: python -m jobs.doctor [--on slurm] [--shared DIR]"""

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
from jobs.inspection import clusters, machine
from jobs.submission.kinds import RAY_VARIABLE, TARGETS
from musicvae.errors import ConfigError
from musicvae.settings import load_yaml
from musicvae.terminal import shown

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}
DEFAULT_URL = "http://127.0.0.1:8265"


def main(
    on: Annotated[str, typer.Option(help=f"The target to check: {', '.join(TARGETS)}.")] = "local",
    site: Annotated[str | None, typer.Option(help="Settings of a cluster, as for jobs.submit.")] = None,
    ray_jobs: Annotated[
        str, typer.Option(metavar="URL", envvar=RAY_VARIABLE, help="With --on ray: the dashboard of the Ray cluster.")
    ] = DEFAULT_URL,
    shared: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder of runs and shards.")] = Path(),
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Check everything that a job needs on this machine, on SLURM or on a Ray cluster.

    Each line is ok, a warning or an error, with what to do. The exit status is 2 if there is an error.

        python -m jobs.doctor --on slurm --shared /shared/me
    """
    if on not in TARGETS:
        raise ConfigError(
            f"there is no target {on!r}", expected=", ".join(TARGETS), do="choose one of them, such as --on slurm"
        )
    checks = []
    settings, folder = read_site(site, load_yaml), shared.absolute()
    looks = [machine.machine_checks(folder)]
    if on == "slurm":
        looks.append(clusters.slurm_checks(settings, settings.python or sys.executable, folder))
    if on == "ray":
        looks.append(clusters.ray_checks(ray_jobs))
    for check in chain.from_iterable(looks):
        checks.append(check)
        if not json_:
            console.print(f"{check.level:<8}", style=STYLES[check.level], end="")
            print(shown(f" {check.name:<14} {check.found}" + (f"\n{'':23} do: {check.do}" if check.do else "")))
    if json_:
        print(json.dumps([asdict(check) for check in checks]))
    if any(check.level == "error" for check in checks):
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":
    run_command(main)
