"""Shows or follows logs: python -m jobs.logs RUN|SUBMISSION ... [-f] [--rank R] [--job NAME]"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cluster.status import LIVE, element_statuses
from cluster.submission import Submission
from jobs.command.command_line import console, run_command
from jobs.submission.rows import chosen
from jobs.submission.run_view import LIVE_STATES, is_run, read_run_view
from jobs.training.rank_logs import log_of, logs_of
from musicvae.errors import ConfigError

LOOK_SECONDS = 0.5
SHOWN_LINES = 50


def main(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN|SUBMISSION", help="The folder of a run, or those of submissions.")
    ],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Print new lines until the run or submission ends.")
    ] = False,
    rank: Annotated[int | None, typer.Option(min=0, help="A rank of the run (0).")] = None,
    job: Annotated[
        str | None, typer.Option(help="A job of the submission (all; without -f the one that wrote last).")
    ] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Number of earlier lines to print.")] = SHOWN_LINES,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object: the file and its last lines.")] = False,
) -> None:
    """Show the end of the log of a run or a submission, or follow it; of several submissions, the log written last.

    python -m jobs.logs runs/first -f
    """
    folder, *more = folders
    if runs := [path for path in folders if is_run(path)]:
        if more:
            raise ConfigError(
                "several folders, and one of them is a run", found=str(runs[0]), do="show one run at a time"
            )
        find, live = partial(_of_run, folder, rank or 0), partial(_run_lives, folder)
    else:
        submissions = chosen(folders)
        find, live = partial(_of_submissions, submissions, job), partial(_any_lives, submissions)
    logs = find()
    if not logs and not follow:
        there = ", ".join(sorted(path.stem for path in logs_of(folder).glob("rank-*.log")))
        raise ConfigError(
            f"{folder} has no log yet",
            found=f"logs of {there}" if there else "no logs",
            likely="the job waits, the rank does not exist, or the run has no --ranks and prints to its terminal",
            do="python -m jobs.status shows why a job waits; -f waits for its log",
        )
    said = logs[-1].read_text(errors="replace", encoding="utf-8").splitlines() if logs else []
    if json_:
        print(json.dumps({"log": str(logs[-1]), "lines": said[-lines:] if lines else []}))
        return
    console.print("".join(f"{line}\n" for line in said[-lines:]) if lines else "", end="", soft_wrap=True)
    if follow:
        _follow(find, live, {log: log.stat().st_size for log in logs})


def _of_run(folder: Path, rank: int) -> list[Path]:
    return [log for log in [log_of(folder, rank)] if log.exists()]


def _of_submissions(submissions: Sequence[Submission], job: str | None) -> list[Path]:
    """Their logs, the one that was written last at the end."""
    submitted = [(submission, part) for submission in submissions for part in submission.jobs]
    names = list(dict.fromkeys(part.name for _, part in submitted))
    if job is not None and job not in names:
        raise ConfigError(
            f"{submissions[0].name} has no job {job}", expected=", ".join(names), do="choose one of these jobs"
        )
    logs = [log for submission, part in submitted if job in (None, part.name) for log in submission.job_logs(part)]
    return sorted(logs, key=lambda path: path.stat().st_mtime)


def _run_lives(folder: Path) -> bool:
    return read_run_view(folder).state in LIVE_STATES


def _any_lives(submissions: Sequence[Submission]) -> bool:
    return any(status.state in LIVE for submission in submissions for status in element_statuses(submission))


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
                console.print(f"==> {log.parents[1].name}/{log.parent.name}/{log.name} <==", soft_wrap=True)
                shown = log
            read[log] = read.get(log, 0) + len(text)
            # A line that another program writes over and over becomes many.
            added = text.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
            console.print(added, end="", soft_wrap=True)
        if not alive:
            return
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    run_command(main)
