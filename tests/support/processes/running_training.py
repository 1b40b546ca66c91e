"""A training that runs: started, watched by its own records, hurt, and waited for."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from musicvae.durable import read_lines
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command
from tests.support.processes.process_tree import kill_tree


@dataclass(frozen=True, slots=True)
class RunningTraining:
    """A `jobs.train` process and the run folder that it works in."""

    process: subprocess.Popen[str]
    run: Path

    def steps(self) -> int:
        """How many steps are logged."""
        return len(read_lines(self.run / "metrics.jsonl"))

    def status(self) -> dict:
        """status.json, empty before it is written."""
        path = self.run / "status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def record(self, rank: int) -> dict:
        """The sign of life of a rank, empty before it gives one."""
        path = self.run / "ranks" / f"rank-{rank:05d}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def kill_rank(self, rank: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to the process of a rank."""
        os.kill(self.record(rank)["pid"], number)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Waits until a condition holds while the process lives."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.ended()
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)

    def ended(self, seconds: float = 180) -> tuple[int, str]:
        """Exit status and everything that it said."""
        said, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, said


@contextmanager
def running_training(
    shards: Path,
    run: Path,
    *arguments: object,
    on_machine: Callable[[list[str]], list[str]] = list,
    **environment: str,
) -> Iterator[RunningTraining]:
    """Starts `jobs.train` with a tiny model; kills whatever is left of it.

    Args:
        on_machine: makes the argv that runs another one where the training is to be.
    """
    process = subprocess.Popen(
        on_machine(job_command("train", "--shards", shards, "--run", run, *TINY, *arguments)),
        cwd=CHECKOUT,
        env={**os.environ, **QUIET, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    training = RunningTraining(process, run)
    try:
        yield training
    finally:
        pids = [training.record(rank).get("pid") for rank in range(4)]
        kill_tree(process.pid)
        for pid in pids:
            if pid and f"--run\0{run}\0".encode() in _command_line(pid):
                os.kill(pid, signal.SIGKILL)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
