"""A build in another process, to be watched and disturbed."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.commands import CHECKOUT, QUIET, job_command

WAIT_SECONDS = 120


@contextmanager
def running_build(*arguments: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`jobs.build_shards` in a session of its own, killed with all its children if it still runs at the end."""
    process = subprocess.Popen(
        job_command("build_shards", *arguments),
        cwd=CHECKOUT,
        env={**os.environ, **QUIET, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def wait_for_parts(out: Path, process: "subprocess.Popen[str]", count: int = 1) -> None:
    """Until so many batches of files of a build are done."""
    wait_for(lambda: len(finished_parts(out)) >= count, process, f"{count} parts of {out}")


def wait_for(condition, process: "subprocess.Popen[str]", what: str) -> None:  # type: ignore[no-untyped-def]
    """Until a condition holds; fails if the build ends before."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, f"the build ended before there were {what}"
        assert time.monotonic() < deadline, f"no {what} after {WAIT_SECONDS} s"
        time.sleep(0.005)


def finished_parts(out: Path) -> list[Path]:
    """The batches that a build has done so far."""
    return sorted(out.with_name(out.name + ".building").glob("parts/[0-9]*.zip"))
