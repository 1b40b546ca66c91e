"""Submits again what failed, and nothing else: python -m jobs.retry --failed [SUBMISSION ...] [--json]

With the code of the submission, whatever stands in the checkout now; `jobs.submit` again takes the new.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.errors import ExitCode
from cluster.standing import State
from jobs.command.command_line import console, run_command
from jobs.submission.choice import chosen
from jobs.submission.hand_over import hand_over, outstanding
from musicvae.errors import ConfigError

FAILED: tuple[State, ...] = ("failed", "lost", "not submitted")


def main(
    submissions: Annotated[list[Path] | None, typer.Argument(help="Which. (all in ./submissions)")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="What failed or was lost, and what waited for it.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="What was cancelled too.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """Submit what failed again, element by element; what is done, waits or runs stays as it is."""
    if not failed:
        raise ConfigError("what is to be tried again?", expected="--failed", do="add --failed")
    again, codes = [], []
    for submission in chosen(submissions or []):
        missing = outstanding(submission, (*FAILED, "cancelled") if cancelled else FAILED)
        if not any(missing.elements.values()) or (submission.cancelled and not cancelled):
            continue
        again.append({"submission": str(submission.folder), "elements": missing.elements})
        codes.append(hand_over(submission, missing, hold=False, tell=lambda line: console.print(line, soft_wrap=True)))
    if json_:
        print(json.dumps(again))
    elif not again:
        console.print("nothing has failed")
    sys.exit(next((code for code in codes if code != ExitCode.SUCCESS), ExitCode.SUCCESS))


if __name__ == "__main__":
    run_command(main)
