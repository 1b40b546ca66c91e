"""What a run or a submission has said: python -m jobs.logs RUN|SUBMISSION [-f] [--rank R] [--job NAME] [--json]"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cluster.standing import LIVE, standings
from cluster.submission import Submission
from jobs.command.command_line import run_command
from jobs.submission.choice import chosen
from jobs.submission.run_view import is_run, read_run_view
from jobs.training.rank_logs import log_of, logs_of
from musicvae.errors import ConfigError

LOOK_SECONDS = 0.5
SHOWN_LINES = 50
LIVE_STATES = ("starting", "running")


def main(
    folder: Annotated[Path, typer.Argument(metavar="RUN|SUBMISSION")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as more is said, until it has ended.")] = False,
    rank: Annotated[int | None, typer.Option(min=0, help="Of a run. (the first)")] = None,
    job: Annotated[str | None, typer.Option(help="Of a submission. (all; without -f the one that spoke last)")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many to begin with.")] = SHOWN_LINES,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object: the file and these lines.")] = False,
) -> None:
    """Show the end of a log, or follow it."""
    if is_run(folder):
        find, live = partial(_of_run, folder, rank or 0), partial(_run_lives, folder)
    else:
        (submission,) = chosen([folder])
        find, live = partial(_of_submission, submission, job), partial(_submission_lives, submission)
    logs = find()
    if not logs and not follow:
        there = ", ".join(sorted(path.stem for path in logs_of(folder).glob("rank-*.log")))
        raise ConfigError(
            f"{folder} has said nothing yet",
            found=f"logs of {there}" if there else "no logs",
            likely="a job that waits, a rank that never was, or a run without --ranks, which prints to its terminal",
            do="python -m jobs.status says what it waits for; -f waits for it",
        )
    said = logs[-1].read_text(errors="replace").splitlines() if logs else []
    if json_:
        print(json.dumps({"log": str(logs[-1]), "lines": said[-lines:] if lines else []}))
        return
    print("".join(f"{line}\n" for line in said[-lines:]) if lines else "", end="")
    if follow:
        _follow(find, live, {log: log.stat().st_size for log in logs})


def _of_run(folder: Path, rank: int) -> list[Path]:
    return [log for log in [log_of(folder, rank)] if log.exists()]


def _of_submission(submission: Submission, job: str | None) -> list[Path]:
    """Its logs, the one that was written last at the end."""
    names = [one.name for one in submission.jobs]
    if job is not None and job not in names:
        raise ConfigError(f"{submission.name} has no job {job}", expected=", ".join(names), do="name one of them")
    logs = [log for one in submission.jobs if job in (None, one.name) for log in submission.job_logs(one)]
    return sorted(logs, key=lambda path: path.stat().st_mtime)


def _run_lives(folder: Path) -> bool:
    return read_run_view(folder).state in LIVE_STATES


def _submission_lives(submission: Submission) -> bool:
    return any(standing.state in LIVE for standing in standings(submission))


def _follow(find: Callable[[], Sequence[Path]], live: Callable[[], bool], read: dict[Path, int]) -> None:
    """Prints what is added to logs, each under its name where there are several, until nothing lives that could add.

    Args:
        read: how many bytes of each log have been shown.
    """
    shown = next(reversed(read), None)
    while True:
        alive = live()  # before the last look, or the last words would be missed
        for log in find():
            with log.open("rb") as file:
                file.seek(read.get(log, 0))
                text = file.read()
            if not text:
                continue
            if log != shown:
                print(f"==> {log.name} <==")
                shown = log
            read[log] = read.get(log, 0) + len(text)
            print(text.decode(errors="replace"), end="", flush=True)
        if not alive:
            return
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    run_command(main)
