"""Removes what submissions have left behind: python -m jobs.clean [SUBMISSION ...] [--yes] [--json]

Runs, shards and grooves are never touched; of a submission that is all done its folder goes: code, scripts, logs.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from cluster.standing import standings
from cluster.submission import Submission
from jobs.command.command_line import console, run_command
from jobs.submission.choice import chosen


def main(
    submissions: Annotated[list[Path] | None, typer.Argument(help="Which. (all in ./submissions)")] = None,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Those that were cancelled too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only named.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """Name the submissions that are all done, or remove them."""
    over = [one for one in chosen(submissions or []) if _is_over(one, cancelled=cancelled)]
    sizes = {one.folder: sum(path.stat().st_size for path in one.folder.rglob("*") if path.is_file()) for one in over}
    if yes:
        for folder in sizes:
            shutil.rmtree(folder)
    if json_:
        print(json.dumps([{"submission": str(path), "bytes": size, "removed": yes} for path, size in sizes.items()]))
        return
    for folder, size in sizes.items():
        console.print(f"{'removed' if yes else 'would remove'} {folder} ({size / 1e6:.1f} MB)", soft_wrap=True)
    if not sizes:
        console.print("nothing to remove: no submission is all done")
    elif not yes:
        console.print("nothing was removed; --yes does it")


def _is_over(submission: Submission, *, cancelled: bool) -> bool:
    states = {standing.state for standing in standings(submission)}
    return states <= ({"done", "cancelled"} if cancelled else {"done"})


if __name__ == "__main__":
    run_command(main)
