"""Submissions made by tests, and what they wait for."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.commands import CHECKOUT, QUIET, job_command, ok

WAIT_SECONDS = 240


def run_in(folder: Path, name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m jobs.<name>` in a folder that is not the checkout, as a user would give it there."""
    return subprocess.run(
        job_command(name, *arguments),
        cwd=folder,
        env={**os.environ, **QUIET, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )


def submit(folder: Path, kind: str, *arguments: object, **environment: str) -> Path:
    """Submits, and gives the folder of the submission."""
    before = {*folder.glob("submissions/[!.]*")}
    ok(run_in(folder, "submit", kind, *arguments, **environment))
    (made,) = {*folder.glob("submissions/[!.]*")} - before
    return made


def rows(folder: Path, *folders: object, **environment: str) -> dict[str, dict[str, Any]]:
    """What `jobs.status --json` says, by the last word of each name: that of the job."""
    told = json.loads(ok(run_in(folder, "status", *folders, "--json", **environment)).stdout)
    return {row["name"].rpartition(" ")[2]: row for row in told}


def attempts(submission: Path, job: str, element: int = 0) -> list[dict[str, Any]]:
    """The events that an element has written down."""
    path = submission / "attempts" / f"{job}-{element:06d}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def verdicts(submission: Path, job: str, element: int = 0) -> list[str]:
    """What followed from each attempt that has ended."""
    return [event["verdict"] for event in attempts(submission, job, element) if event["event"] == "end"]


def wait_for(condition: Callable[[], object], submission: Path, seconds: float = WAIT_SECONDS) -> None:
    """Waits until a condition holds; shows the logs if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        logs = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in submission.glob("logs/*.log"))
        assert time.monotonic() < deadline, logs
        time.sleep(0.3)
