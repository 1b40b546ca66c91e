"""Runs several jobs at once, each with its own log, and ends them when this process is told to end."""

import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import CHECKOUT

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """A command, under a name.

    Attributes:
        log: gets what it says, after what earlier launches said.
    """

    name: str
    command: tuple[str, ...]
    log: Path


def run_jobs(jobs: Iterable[Job], *, at_once: int) -> Iterator[tuple[str, int]]:
    """Runs jobs in order, `at_once` of them at a time; gives name and exit status of each as it ends.

    Whatever ends the iteration early terminates those that run and waits for them: they save what they have.
    """
    waiting = iter(jobs)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while True:
            ended = [(name, code) for name, process in running.items() if (code := process.poll()) is not None]
            for name, _ in ended:
                del running[name]
            # Before the caller is given what ended, with which it may be busy for minutes.
            while len(running) < at_once and (job := next(waiting, None)):
                running[job.name] = start_job(job)
            yield from ended
            if not running:
                return
            time.sleep(POLL_SECONDS)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def start_job(job: Job) -> subprocess.Popen[bytes]:
    """Starts a job in the checkout."""
    with job.log.open("ab") as log:
        return subprocess.Popen(job.command, cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT)
