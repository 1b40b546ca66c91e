"""Ends submissions, wherever they run: python -m jobs.cancel SUBMISSION|RUN ... [--json]"""

import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cluster import ray_jobs, slurm
from cluster.local import runner_of
from cluster.standing import LIVE, Standing, standings
from cluster.submission import Submission
from jobs.command.command_line import console, run_command
from jobs.submission.choice import chosen
from musicvae.errors import ConfigError


def main(
    folders: Annotated[list[Path], typer.Argument(metavar="SUBMISSION|RUN...", help="What to end.")],
    json_: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """End what waits and runs, so that nothing of it starts again; what has ended stays as it is."""
    ended = []
    for submission in chosen(folders):
        elements: dict[str, list[int]] = {}
        for one in cancel(submission):
            elements.setdefault(one.job.name, []).append(one.element)
        ended.append({"submission": str(submission.folder), "ended": elements})
    if json_:
        print(json.dumps(ended))
        return
    for one in ended:
        told = "; ".join(f"{name} {slurm.ranges(own)}" for name, own in one["ended"].items())
        console.print(f"{one['submission']}: {told or 'nothing was on its way'}", soft_wrap=True)


def cancel(submission: Submission) -> list[Standing]:
    """Ends a submission; gives what of it was on its way.

    Raises:
        TargetError: SLURM is absent, or refuses.
        ConfigError: it runs on another machine, as a process there.
    """
    live = [standing for standing in standings(submission) if standing.state in LIVE]
    if not live:
        return live
    submission.mark_cancelled(True)  # first, so that nothing comes again in between
    if submission.target == "slurm":
        slurm.cancel(sorted({standing.receipt.number for standing in live if standing.receipt}))
        return live
    if submission.target == "ray":
        for number in sorted({standing.receipt.number for standing in live if standing.receipt}):
            ray_jobs.stop(submission.ray_jobs, number)
        return live
    for host, pid in {(one.receipt.host, runner_of(one.receipt.number)) for one in live if one.receipt}:
        if host != socket.gethostname():
            raise ConfigError(f"{submission.name} runs on {host}", do=f"log in there and give the same command: {host}")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    return live


if __name__ == "__main__":
    run_command(main)
