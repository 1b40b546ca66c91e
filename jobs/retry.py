"""Submits failed jobs again: python -m jobs.retry --failed [SUBMISSION ...] [--json]"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cluster.errors import ExitCode, TargetError
from cluster.status import State
from jobs.command.command_line import console, run_command, show_error
from jobs.submission.hand_over import hand_over, outstanding
from jobs.submission.rows import chosen
from musicvae.errors import ConfigError

FAILED: tuple[State, ...] = ("failed", "lost", "not submitted")


def main(
    submissions: Annotated[
        list[Path] | None, typer.Argument(metavar="SUBMISSION", help="Folders of submissions (all in ./submissions).")
    ] = None,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Submit jobs again that failed or were lost, and those that waited for them."),
    ] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Include cancelled jobs.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Submit the failed elements of submissions again. Elements that are done, wait or run are left alone.

    The jobs run with the code that the submission has stored. To run the code of the checkout, run `jobs.submit` again.

        python -m jobs.retry --failed submissions/train-1a2b3c4d
    """
    if not failed:
        raise ConfigError("--failed is missing", expected="--failed", do="add --failed")
    again, codes = [], list[int]()
    for submission in chosen(submissions or [], to_change=True):
        missing = outstanding(submission, (*FAILED, "cancelled") if cancelled else FAILED)
        if not any(missing.elements.values()) or (submission.cancelled and not cancelled):
            continue
        try:
            code = hand_over(submission, missing, hold=False, tell=partial(_tell, submission.name))
        except TargetError as error:  # its cluster is gone, which is no reason to leave the others alone
            show_error(error, about=f"{submission.folder}: ")
            codes.append(error.exit_code)
            continue
        again.append({"submission": str(submission.folder), "elements": missing.elements})
        codes.append(code)
    if json_:
        print(json.dumps(again))
    elif not codes:
        console.print("no job has failed")
    sys.exit(next((code for code in codes if code != ExitCode.SUCCESS), ExitCode.SUCCESS))


def _tell(submission: str, line: str) -> None:
    console.print(f"{submission} {line}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
