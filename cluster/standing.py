"""How the elements of a submission stand: from what they wrote down, and from SLURM only what it alone knows."""

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from cluster import slurm
from cluster.attempts import Attempt
from cluster.job import Job
from cluster.slurm import SchedulerState
from cluster.submission import Receipt, Submission

State = Literal["not submitted", "waiting", "running", "saved", "done", "failed", "cancelled", "lost"]
UNFINISHED: tuple[State, ...] = ("not submitted", "failed", "cancelled", "lost")
"""States in which an element is over, or never began, and is not done."""
LIVE: tuple[State, ...] = ("waiting", "running", "saved")
CANCELLED_BY_HAND = "CANCELLED"
NEVER = "DependencyNeverSatisfied"


@dataclass(frozen=True, slots=True)
class Standing:
    """One element of a job.

    Attributes:
        why: it waits or failed, as far as the scheduler or its record says.
        receipt: under which it was taken last.
        attempts: at it, since it was submitted first.
    """

    job: Job
    element: int
    state: State
    why: str
    receipt: Receipt | None
    attempts: tuple[Attempt, ...]

    @property
    def restarts(self) -> int:
        """How often it has begun again."""
        return max(0, len(self.attempts) - 1)


def standings(
    submission: Submission, scheduler: Mapping[tuple[str, int], SchedulerState] | None = None
) -> Iterator[Standing]:
    """Every element of every job.

    Args:
        scheduler: what `slurm.states` gave; asked for where it is needed, if not given.
    """
    if scheduler is None:
        scheduler = slurm.states() if submission.target == "slurm" else {}
    taken: dict[tuple[str, int], Receipt] = {}
    for receipt in submission.receipts():
        taken |= {(receipt.job, element): receipt for element in receipt.elements}
    for job in submission.jobs:
        for element in job.elements:
            receipt = taken.get((job.name, element))
            attempts = tuple(submission.attempts(job, element))
            told = scheduler.get((receipt.number, element - receipt.first)) if receipt else None
            state, why = _state(submission, receipt, attempts, told)
            yield Standing(job, element, state, why, receipt, attempts)


def _state(
    submission: Submission, receipt: Receipt | None, attempts: tuple[Attempt, ...], told: SchedulerState | None
) -> tuple[State, str]:
    # What was written before the last receipt is about an earlier submission of the element.
    last = attempts[-1] if attempts and receipt and attempts[-1].began >= receipt.when - 1 else None
    if attempts and attempts[-1].verdict == "done":
        return "done", ""
    if receipt is None:
        return "not submitted", ""
    if last and last.verdict in ("failed", "gave up"):
        return "failed", f"exit status {last.code}" if last.verdict == "failed" else "no progress"
    if submission.cancelled and not (told and told.state in (*slurm.RUNNING, *slurm.WAITING)):
        return "cancelled", ""
    if submission.target == "slurm":
        return _on_slurm(told, last)
    return _on_this_machine(last)


def _on_slurm(told: SchedulerState | None, last: Attempt | None) -> tuple[State, str]:
    if told is None:
        return "lost", "SLURM no longer knows of it, and it did not say how it ended"
    if told.state in slurm.WAITING:
        return ("saved" if last and last.verdict == "again" else "waiting"), told.reason
    if told.state in slurm.RUNNING:
        return "running", ""
    if told.state == CANCELLED_BY_HAND:
        # SLURM cancels by itself what waited for a job that failed.
        return ("cancelled" if last else "not submitted"), "a job before it failed" if not last else ""
    return "failed", told.state.lower().replace("_", " ")


def _on_this_machine(last: Attempt | None) -> tuple[State, str]:
    if last is None:
        return "waiting", ""
    if last.host != socket.gethostname():
        return "running", f"on {last.host}, as far as is known from here"
    if last.ended is None and _alive(last.pid):
        return "running", ""
    if last.verdict == "again":
        return "cancelled", "stopped here; the same command continues it"
    return "lost", "its process ended without a word"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
