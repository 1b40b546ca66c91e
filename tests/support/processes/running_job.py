"""A command in another process, to be watched and disturbed."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.commands import CHECKOUT, QUIET, job_command
from tests.support.processes.process_tree import kill_tree

WAIT_SECONDS = 120


@contextmanager
def running_job(
    name: str, *arguments: object, folder: Path = CHECKOUT, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A command in a session of its own, killed with all its children if it still runs at the end.

    Args:
        folder: that it is given in.
    """
    process = subprocess.Popen(
        job_command(name, *arguments),
        cwd=folder,
        env={**os.environ, **QUIET, "PYTHONPATH": str(CHECKOUT), **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.communicate()


def wait_for(condition: Callable[[], object], process: "subprocess.Popen[Any]", what: str) -> None:
    """Until a condition holds; fails if the command ends before."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, f"it ended before there were {what}"
        assert time.monotonic() < deadline, f"no {what} after {WAIT_SECONDS} s"
        time.sleep(0.005)
