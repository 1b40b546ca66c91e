"""Cancels submissions: python -m jobs.cancel SUBMISSION|RUN ... [--json]"""

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
from cluster.status import LIVE, ElementStatus, element_statuses
from cluster.submission import Submission
from jobs.command.command_line import console, run_command
from jobs.submission.rows import chosen
from musicvae.errors import ConfigError


def main(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="SUBMISSION|RUN", help="Submissions, or runs of submissions in ./submissions."),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Cancel the jobs of a submission that wait or run, on any target.

    Jobs that have ended keep their state and their files. Cancelled jobs are not restarted.

        python -m jobs.cancel submissions/train-1a2b3c4d
    """
    ended = []
    for submission in chosen(folders, to_change=True):
        elements: dict[str, list[int]] = {}
        for status in cancel(submission):
            elements.setdefault(status.job.name, []).append(status.element)
        ended.append({"submission": str(submission.folder), "ended": elements})
    if json_:
        print(json.dumps(ended))
        return
    for cancelled in ended:
        job_ranges = "; ".join(f"{name} {slurm.ranges(numbers)}" for name, numbers in cancelled["ended"].items())
        console.print(f"{cancelled['submission']}: {job_ranges or 'nothing waited or ran'}", soft_wrap=True)


def cancel(submission: Submission) -> list[ElementStatus]:
    """Ends a submission; gives what of it was on its way.

    Raises:
        TargetError: SLURM is absent, or refuses.
        ConfigError: it runs on another machine, as a process there.
    """
    live = [status for status in element_statuses(submission) if status.state in LIVE]
    if not live:
        return live
    submission.mark_cancelled(True)  # first, so that nothing comes again in between
    if submission.target == "slurm":
        slurm.cancel(sorted({n for status in live for n in status.numbers}), patience=submission.site.notice_seconds)
        return live
    if submission.target == "ray":
        for number in sorted({number for status in live for number in status.numbers}):
            ray_jobs.stop(submission.ray_jobs, number)
        return live
    for host, number in {(status.receipt.host, status.receipt.number) for status in live if status.receipt}:
        if host != socket.gethostname():
            raise ConfigError(f"{submission.name} runs on {host}", do=f"run the same command on {host}")
        if pid := runner_of(number):
            # It may end just now; and the numbers of earlier versions may be those of somebody else's processes by now.
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
    return live


if __name__ == "__main__":
    run_command(main)
