"""Removes the folders of finished submissions: python -m jobs.clean [SUBMISSION ...] [--yes] [--json]"""

import json
import math
import shutil
from pathlib import Path
from typing import Annotated

import typer

from cluster.status import element_statuses
from cluster.submission import MADE, Submission
from jobs.command.command_line import console, run_command
from jobs.submission.rows import chosen
from musicvae.durable import refuse_strangers


def main(
    submissions: Annotated[
        list[Path] | None, typer.Argument(metavar="SUBMISSION", help="Folders of submissions (all in ./submissions).")
    ] = None,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Include cancelled submissions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List or remove the folders of submissions whose jobs are all done: their code, scripts and logs.

    Runs, shards and grooves are never removed. A folder with other files in it is named and stays.

        python -m jobs.clean --yes
    """
    over = [
        submission
        for submission in chosen(submissions or [], to_change=yes)
        if _is_over(submission, cancelled=cancelled)
    ]
    sizes = {
        submission.folder: sum(path.stat().st_size for path in submission.folder.rglob("*") if path.is_file())
        for submission in over
    }
    if yes:
        for folder in sizes:
            refuse_strangers(folder, MADE, math.inf, "jobs.submit")
        for folder in sizes:
            shutil.rmtree(folder)
    if json_:
        print(json.dumps([{"submission": str(path), "bytes": size, "removed": yes} for path, size in sizes.items()]))
        return
    for folder, size in sizes.items():
        console.print(f"{'removed' if yes else 'would remove'} {folder} ({size / 1e6:.1f} MB)", soft_wrap=True)
    if not sizes:
        console.print("nothing to remove: no submission is done")
    elif not yes:
        console.print("nothing was removed; add --yes to remove them")


def _is_over(submission: Submission, *, cancelled: bool) -> bool:
    states = {status.state for status in element_statuses(submission)}
    return states <= ({"done", "cancelled"} if cancelled else {"done"})


if __name__ == "__main__":
    run_command(main)
