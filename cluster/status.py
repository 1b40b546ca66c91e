"""How the elements of a submission stand: from what they wrote down, and from SLURM only what it alone knows."""

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Literal, assert_never

from cluster import ray_jobs, slurm
from cluster.attempts import ENDED_BY_SLURM, TOO_SHORT, Attempt, read_status
from cluster.job import Job, SchedulerState, SchedulerStates
from cluster.local import runner_of
from cluster.submission import Receipt, Submission

State = Literal["not submitted", "waiting", "running", "saved", "done", "failed", "cancelled", "lost"]
UNFINISHED: tuple[State, ...] = ("not submitted", "failed", "cancelled", "lost")
"""States in which an element is over, or never began, and is not done."""
LIVE: tuple[State, ...] = ("waiting", "running", "saved")
CANCELLED_BY_HAND = "CANCELLED"
NEVER = "DependencyNeverSatisfied"
BEFORE_IT = "a job before it failed"
FRESH_SECONDS = 30.0
"""What has sent no heartbeat for so long does not run; others take its run folder over after this time, too."""


@dataclass(frozen=True, slots=True)
class ElementStatus:
    """One element of a job.

    Attributes:
        why: it waits or failed, as far as the scheduler or its record says.
        receipt: under which it waits or runs, or was taken last.
        numbers: the target's, under which it waits or runs; several where it was submitted beside a copy of itself.
        attempts: at it, since it was submitted first.
    """

    job: Job
    element: int
    state: State
    why: str
    receipt: Receipt | None
    numbers: tuple[str, ...]
    attempts: tuple[Attempt, ...]

    @property
    def restarts(self) -> int:
        """How often it has begun again."""
        return max(0, len(self.attempts) - 1)

    def restart_causes(self, log: str) -> Iterator[str]:
        """What each start came to that its target has followed by another.

        Args:
            log: of the element, in which SLURM says why it ended a start.
        """
        # A job that has saved its work requeues itself.
        said = [(when, why.lower()) for _, when, why in ENDED_BY_SLURM.findall(log) if why and why != "JOB REQUEUE"]
        ends = [(datetime.fromisoformat(when).timestamp(), reason) for when, reason in said]
        for attempt, following in pairwise(self.attempts):
            if attempt.launch != following.launch:  # it was submitted again
                continue
            if reasons := [reason for when, reason in ends if attempt.began - 1 < when < following.began]:
                yield reasons[0]
            elif attempt.ended is None:
                yield "lost node or requeue"
            else:
                yield attempt.reason or ("signal from SLURM" if attempt.asked else "lost process")


def element_statuses(submission: Submission) -> Iterator[ElementStatus]:
    """Every element of every job, with what its scheduler says now."""
    return statuses_from(submission, scheduler_says([submission]))


def scheduler_says(submissions: Sequence[Submission]) -> SchedulerStates:
    """What the scheduler of submissions to one target says of their jobs; None where there is none, or no answer."""
    match submissions[0].target:
        case "slurm":
            receipts = (receipt for submission in submissions for receipt in submission.receipts())
            return slurm.states(list(dict.fromkeys(receipt.number for receipt in receipts)))
        case "ray":
            return ray_jobs.states(submissions[0].ray_jobs)
        case "local":
            return None
        case _:
            assert_never(submissions[0].target)


def statuses_from(submission: Submission, scheduler: SchedulerStates) -> Iterator[ElementStatus]:
    """Every element of every job.

    Args:
        scheduler: what `scheduler_says` gave.
    """
    if submission.target != "slurm" or scheduler is None:
        yield from _statuses(submission, scheduler)
        return
    remembered = partial(submission.remember_ends, live=(*slurm.RUNNING, *slurm.WAITING))
    scheduler = remembered(scheduler)
    statuses = list(_statuses(submission, scheduler))
    lost = {status.receipt.number for status in statuses if status.state == "lost" and status.receipt}
    ends = slurm.ends_accounted(sorted(lost)) if lost else {}
    yield from _statuses(submission, remembered({**scheduler, **ends})) if ends else statuses


def _statuses(submission: Submission, scheduler: SchedulerStates) -> Iterator[ElementStatus]:
    taken: dict[tuple[str, int], list[Receipt]] = {}
    for receipt in submission.receipts():
        for element in receipt.elements:
            taken.setdefault((receipt.job, element), []).append(receipt)
    undone: set[str] = set()
    for job in submission.jobs:
        for element in job.elements:
            receipts = taken.get((job.name, element), [])
            live = [receipt for receipt in receipts if _is_live(receipt, element, scheduler)]
            # An earlier one that lives again, since SLURM has requeued it, stands above a later one that has ended.
            receipt = (live or receipts or [None])[-1]
            attempts = tuple(submission.attempts(job, element))
            state, why = _state(submission, receipt, element, attempts, scheduler)
            if state == "lost" and not attempts and undone.intersection(job.after):
                state, why = "not submitted", BEFORE_IT
            if state == "lost" and submission.target != "local" and _sends_heartbeats(job, attempts):
                state, why = "running", f"it sends heartbeats, but {why}"
            if state != "done":
                undone.add(job.name)
            numbers = tuple(taken_as.number for taken_as in live or receipts[-1:]) if state in LIVE else ()
            yield ElementStatus(job, element, state, why, receipt, numbers, attempts)


def _sends_heartbeats(job: Job, attempts: Sequence[Attempt]) -> bool:
    """Whether what began last lives, whatever the scheduler says: it may show jobs to their owner alone."""
    status = read_status(job)
    heartbeat = status.get("heartbeat")
    if not attempts or status.get("launch") != attempts[-1].start or not isinstance(heartbeat, int | float):
        return False
    return time.time() - heartbeat < FRESH_SECONDS


def _is_live(receipt: Receipt, element: int, scheduler: SchedulerStates) -> bool:
    state = scheduler.get((receipt.number, element - receipt.first)) if scheduler else None
    return state is not None and state.state in (*slurm.RUNNING, *slurm.WAITING)


def _state(
    submission: Submission,
    receipt: Receipt | None,
    element: int,
    attempts: tuple[Attempt, ...],
    scheduler: SchedulerStates,
) -> tuple[State, str]:
    if attempts and attempts[-1].verdict == "done":
        return "done", ""
    if receipt is None:
        return "not submitted", ""
    # What was written before the last receipt is about an earlier submission of the element.
    last = attempts[-1] if attempts and attempts[-1].launch == receipt.number else None
    scheduler_state = scheduler.get((receipt.number, element - receipt.first)) if scheduler else None
    alive = _is_live(receipt, element, scheduler)
    # What SLURM has requeued lives, whatever its last start wrote down. One that is completing does not come again.
    completing = scheduler_state is not None and scheduler_state.state == "COMPLETING"
    requeued = submission.target == "slurm" and alive and not completing
    by_hand = scheduler_state is not None and scheduler_state.state == CANCELLED_BY_HAND
    if submission.target == "slurm" and by_hand:
        return _on_slurm(scheduler_state, last)  # whatever its command made of being killed
    if last and last.verdict in ("failed", "gave up") and not requeued:
        if last.verdict == "failed":
            return "failed", f"exit status {last.code}"
        return "failed", TOO_SHORT if last.reason == TOO_SHORT else "no progress"
    if (submission.cancelled or (last and last.verdict == "cancelled")) and not alive:
        return "cancelled", ""
    if submission.target == "local":
        return _on_this_machine(receipt, last)
    if submission.target == "ray":
        return _on_ray(submission.ray_jobs, scheduler is not None, scheduler_state, last)
    if scheduler is None:
        return ("running" if last and last.ended is None else "saved" if last else "waiting"), "SLURM does not answer"
    return _on_slurm(scheduler_state, last)


def _on_slurm(scheduler_state: SchedulerState | None, last: Attempt | None) -> tuple[State, str]:
    if scheduler_state is None:
        return "lost", "SLURM no longer knows the job, and the job did not record how it ended"
    if scheduler_state.state in slurm.WAITING:
        return ("saved" if last and last.verdict == "again" else "waiting"), scheduler_state.reason
    if scheduler_state.state in slurm.RUNNING:
        return "running", ""
    if scheduler_state.state == CANCELLED_BY_HAND:
        # SLURM cancels by itself what waited for a job that failed.
        return ("not submitted", BEFORE_IT) if scheduler_state.reason == NEVER else ("cancelled", "")
    return "failed", scheduler_state.state.lower().replace("_", " ")


def _on_ray(url: str, answers: bool, scheduler_state: SchedulerState | None, last: Attempt | None) -> tuple[State, str]:
    if not answers:
        return "lost", f"no Ray cluster answers at {url}"
    if scheduler_state is None:
        return "lost", f"the Ray cluster at {url} does not know the job; the cluster was restarted"
    if scheduler_state.state in ("PENDING", "RUNNING"):
        return ("running" if last else "waiting"), ("" if last else scheduler_state.reason)
    if scheduler_state.state == "STOPPED":
        return "cancelled", ""
    return ("lost", "its driver ended without a result") if last else ("not submitted", BEFORE_IT)


def _on_this_machine(receipt: Receipt, last: Attempt | None) -> tuple[State, str]:
    if receipt.host != socket.gethostname():
        return ("running" if last else "waiting"), f"on {receipt.host}, its state there is not known"
    alive = runner_of(receipt.number) is not None
    if last is None:
        return ("waiting", "") if alive else ("not submitted", "it had not started when the submission ended")
    if last.ended is None or last.verdict == "again":
        return ("running", "") if alive else ("lost", "its process ended without a result")
    return "failed", f"exit status {last.code}"
