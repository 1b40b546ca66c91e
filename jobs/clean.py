"""Removes the folders of submissions that have ended: python -m jobs.clean [SUBMISSION ...] [--yes] [--json]"""

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from cluster.status import LIVE, element_statuses
from cluster.submission import CODE, MADE, Submission, unused_snapshots
from jobs.command.command_line import console, run_command
from jobs.submission.rows import SUBMISSIONS, chosen
from musicvae.durable import refuse_strangers

WORDS = {"cancelled": "been cancelled", "failed": "jobs that failed"}


def main(
    submissions: Annotated[
        list[Path] | None, typer.Argument(metavar="SUBMISSION", help="Folders of submissions (all in ./submissions).")
    ] = None,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Include cancelled submissions.")] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="Include submissions with jobs that failed, were lost or never began.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List or remove the folders of submissions that have ended, and copies of the code that no submission uses.

    Those whose jobs are not all done are removed on request alone: `jobs.retry` needs the folder. Runs, shards and
    grooves are never removed. A folder with other files in it is named and stays.

        python -m jobs.clean --yes
    """
    kinds = {"done", *(["cancelled"] if cancelled else []), *(["failed"] if failed else [])}
    ends = {submission.folder: _end_of(submission) for submission in chosen(submissions or [], to_change=yes)}
    sizes = {
        folder: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder, end in ends.items()
        if end in kinds
    }
    if yes:
        for folder in sizes:
            # The code of most is a link, and not followed.
            refuse_strangers(folder, MADE, math.inf, "jobs.submit", work=CODE if (folder / CODE).is_symlink() else "")
        for folder in sizes:
            shutil.rmtree(folder)
    unused = [
        path for folder in sorted({SUBMISSIONS, *(path.parent for path in ends)}) for path in unused_snapshots(folder)
    ]
    if yes:
        for snapshot in unused:
            shutil.rmtree(snapshot)
    if json_:
        rows = [{"submission": str(path), "bytes": sizes[path], "removed": yes, "state": ends[path]} for path in sizes]
        rows += [{"code": str(path), "removed": yes} for path in unused]
        print(json.dumps(rows))
        return
    for folder, size in sizes.items():
        verb = "removed" if yes else "would remove"
        console.print(f"{verb} {folder} ({ends[folder]}, {size / 1e6:.1f} MB)", soft_wrap=True)
    for kind, count in sorted(Counter(end for end in ends.values() if end and end not in kinds).items()):
        console.print(f"{count} more {'has' if count == 1 else 'have'} {WORDS[kind]}; --{kind} includes them")
    if unused:
        verb = "removed" if yes else "would remove"
        copies = "1 copy" if len(unused) == 1 else f"{len(unused)} copies"
        console.print(f"{verb} {copies} of the code that no submission uses", soft_wrap=True)
    if not sizes and not unused:
        console.print("nothing to remove")
    elif not yes:
        console.print("nothing was removed; add --yes to remove them")


def _end_of(submission: Submission) -> Literal["done", "cancelled", "failed"] | None:
    """How a submission has ended; None while something of it waits or runs."""
    states = {status.state for status in element_statuses(submission)}
    if states.intersection(LIVE):
        return None
    return "done" if states <= {"done"} else "cancelled" if states <= {"done", "cancelled"} else "failed"


if __name__ == "__main__":
    run_command(main)
