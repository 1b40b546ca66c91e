"""What a run or a submission has said: python -m jobs.logs RUN|SUBMISSION [-f] [--rank R] [--job NAME] [--json]"""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from cluster.standing import LIVE, standings
from cluster.submission import Submission
from jobs.command_line import run_command
from jobs.rank_logs import log_of, logs_of
from jobs.run_view import is_run, read_run_view
from jobs.submission_choice import chosen
from musicvae.errors import ConfigError

LOOK_SECONDS = 0.5
SHOWN_LINES = 50
LIVE_STATES = ("starting", "running")


def main(
    folder: Annotated[Path, typer.Argument(metavar="RUN|SUBMISSION")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it is written, until it has ended.")] = False,
    rank: Annotated[int | None, typer.Option(min=0, help="Of a run. (what the first one says)")] = None,
    job: Annotated[str | None, typer.Option(help="Of a submission. (the one that wrote last)")] = None,
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, help="How many of the last ones to begin with.")
    ] = SHOWN_LINES,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object: the file and these lines.")] = False,
) -> None:
    """Show the end of a log."""
    submission = None if is_run(folder) else chosen([folder])[0]
    log = log_of(folder, rank or 0) if submission is None else _of_submission(submission, job)
    if not log.exists():
        there = (
            ", ".join(sorted(path.stem for path in logs_of(folder).glob("rank-*.log"))) if submission is None else ""
        )
        raise ConfigError(
            f"there is no log {log}",
            found=there or "no logs yet",
            likely="a rank that never was, or a run of one process without --ranks, which prints to its terminal",
            do="name another --rank, or wait",
        )
    said = log.read_text(errors="replace").splitlines()[-lines:] if lines else []
    if json_:
        print(json.dumps({"log": str(log), "lines": said}))
        return
    print(*said, sep="\n")
    if follow:
        _follow(folder, submission, log)


def _of_submission(submission: Submission, job: str | None) -> Path:
    names = [one.name for one in submission.jobs]
    if job is not None and job not in names:
        raise ConfigError(f"{submission.name} has no job {job}", expected=", ".join(names), do="name one of them")
    logs = [log for one in submission.jobs if job in (None, one.name) for log in submission.job_logs(one)]
    if not logs:
        raise ConfigError(f"{submission.name} has said nothing yet", do="python -m jobs.status says what it waits for")
    return max(logs, key=lambda path: path.stat().st_mtime)


def _follow(folder: Path, submission: Submission | None, log: Path) -> None:
    with log.open("rb") as file:
        file.seek(0, 2)
        ended = False
        while True:
            if text := file.read():
                print(text.decode(errors="replace"), end="", flush=True)
            elif ended:
                return
            else:
                ended = _ended(folder, submission)
                time.sleep(LOOK_SECONDS)


def _ended(folder: Path, submission: Submission | None) -> bool:
    if submission is None:
        return read_run_view(folder).state not in LIVE_STATES
    return not any(standing.state in LIVE for standing in standings(submission))


if __name__ == "__main__":
    run_command(main)
