"""How far a build in another process has come."""

import subprocess
from pathlib import Path

from tests.support.processes.running_job import wait_for


def wait_for_parts(out: Path, process: "subprocess.Popen[str]", count: int = 1) -> None:
    """Until so many batches of files of a build are done."""
    wait_for(lambda: len(finished_parts(out)) >= count, process, f"{count} parts of {out}")


def finished_parts(out: Path) -> list[Path]:
    """The batches that a build has done so far."""
    return sorted(out.with_name(out.name + ".building").glob("parts/[0-9]*.zip"))
