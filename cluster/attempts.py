"""What a job writes down about itself each time that it starts and ends, and whether it is to come again.

    python -m cluster.attempts SUBMISSION JOB [--element N] start
    python -m cluster.attempts SUBMISSION JOB [--element N] end --code CODE --asked yes|no

Each prints what follows in a word.

One file for each element of each job, in SUBMISSION/attempts, one JSON line for each event: no two nodes ever write to
the same file. Needs nothing but the standard library, so that a script may call it before anything else.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from cluster.errors import ExitCode
from cluster.job import Job, job_from_json

Opening = Literal["go", "done", "gave up", "cancelled"]
Verdict = Literal["done", "again", "failed", "gave up", "cancelled"]
ATTEMPTS = "attempts"
PLAN = "plan.json"
CANCELLED = "cancelled"
"""A file in a submission that was cancelled."""
LOST = "killed"
"""The category of a status file's `failure` when a process or node vanished: another start may well succeed."""
KILLED = 128 + 9
ENDED_BY_SLURM = re.compile(r"\*\*\* (JOB|STEP) .+ CANCELLED AT (\S+?)(?: DUE TO ([A-Z ]+?)(?:,.*?)?)? \*\*\*")
"""What a node writes into the log of a job that it ends, in its own time; no reason if somebody has cancelled it."""
SLACK_SECONDS = 60.0
"""SLURM tells jobs so much ahead of the notice that was asked for."""
ASKED_VARIABLE = "GROOVES_ASKED_AT"
"""When the job was told to stop, in seconds since the epoch. A variable, as the code of an earlier submission, which
`jobs.retry` runs by a new script, knows no other options."""
TIME_LIMIT = "time limit"
TOO_SHORT = "time limit too short for a start"
"""Why a job was told to stop that had not made a step by then: the limit is what has to change."""
SIGNALLED = (128 + 12, 128 + 15)
"""A command that was told to stop before it could listen: nothing is lost."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of an element, and its end.

    Attributes:
        launch: the scheduler's number of the job, or of the process that runs it here; kept when SLURM requeues.
        restart: how often the scheduler has started it before.
        host, pid: where it runs.
        step: what had been saved at its start.
        began, ended: seconds since the epoch; `ended` is None while it runs, and for ever if its node was lost.
        code: exit status.
        asked: whether the scheduler had told it to stop.
        reason: why it had (`reason_of_signal`).
        verdict: what follows.
        oom_kills: how many processes of its cgroup the kernel had killed for want of memory when it began.
        out_of_memory: whether it has killed some since.
    """

    launch: str
    restart: int
    host: str
    pid: int
    step: int
    began: float
    ended: float | None = None
    code: int | None = None
    asked: bool = False
    reason: str = ""
    verdict: Verdict | None = None
    oom_kills: int = 0
    out_of_memory: bool = False

    @property
    def start(self) -> str:
        """`Word.START` of it, which names what it launched."""
        return f"{self.launch}.{self.restart}"


@dataclass(frozen=True, slots=True)
class Record:
    """The attempts at one element of a job, in a file."""

    path: Path

    @classmethod
    def of(cls, submission: Path, job: str, element: int) -> "Record":
        """The record of an element; that of a job without an array is number 0."""
        return cls(submission / ATTEMPTS / f"{job}-{element:06d}.jsonl")

    def attempts(self) -> list[Attempt]:
        """In order; a torn line, as a lost node leaves it, is ignored."""
        try:
            whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        except OSError:
            return []
        fields_by_attempt: list[dict[str, Any]] = []
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # torn, and written on behind
                continue
            if event.pop("event") == "start":
                fields_by_attempt.append(event)
            elif fields_by_attempt:
                fields_by_attempt[-1] |= event
        return [Attempt(**values) for values in fields_by_attempt]

    def start(self, *, launch_id: str, restart: int, pid: int, step: int) -> None:
        """An attempt begins on this machine."""
        self._append(
            {
                "event": "start",
                "launch": launch_id,
                "restart": restart,
                "host": socket.gethostname(),
                "pid": pid,
                "step": step,
                "began": time.time(),
                "oom_kills": oom_kills(),
            }
        )

    def end(self, *, code: int, asked: bool, verdict: Verdict, out_of_memory: bool = False, reason: str = "") -> None:
        """The attempt that began last has ended."""
        end = {"code": code, "asked": asked, "verdict": verdict, "ended": time.time(), "out_of_memory": out_of_memory}
        self._append({"event": "end", **end, **({"reason": reason} if reason else {})})

    def _append(self, event: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b", buffering=0) as file:
            # After a torn line: on a line of its own.
            torn = file.seek(0, os.SEEK_END) > 0 and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            file.write(b"\n" * torn + json.dumps(event).encode() + b"\n")


def oom_kills(proc: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processes of this job's cgroup the kernel has killed for want of memory; 0 where it does not say."""
    try:
        lines = [line.split(":", 2)[1:] for line in proc.read_text(encoding="utf-8").splitlines()]
        controllers, path = next(line for line in lines if line[0] in ("", "memory") and line[1] != "/")
        folder = mount / controllers / path.lstrip("/")
        # SLURM's steps have cgroups below their job's.
        folder = next((above for above in (folder, *folder.parents) if above.name.startswith("job_")), folder)
        counts = (folder / ("memory.oom_control" if controllers else "memory.events")).read_text(encoding="utf-8")
        return int(next(line.split()[1] for line in counts.splitlines() if line.startswith("oom_kill ")))
    except (OSError, ValueError, StopIteration):
        return 0


def without_progress(attempts: Sequence[Attempt], launch_id: str, step: int) -> int:
    """How many of a launch's last starts in a row found already saved what is saved now."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.launch != launch_id or attempt.step < step:
            break
        count += 1
    return count


def verdict(code: int, *, asked: bool, lost: bool, stalled: int, retries: int) -> Verdict:
    """What follows from the end of an attempt.

    Args:
        code: exit status.
        asked: whether the scheduler had told it to stop.
        lost: whether it failed because a process or node of it was lost.
        stalled: starts in a row that got no further, this one included if it did not.
        retries: how many of them may be.
    """
    if code == ExitCode.SUCCESS:
        return "done"
    if code != ExitCode.PREEMPTED and not (asked and code in SIGNALLED) and not lost:
        return "failed"
    return "again" if stalled <= retries else "gave up"


def read_status(job: Job) -> dict[str, Any]:
    """What a job says of itself in its status file; empty where it does not."""
    try:
        status = json.loads(Path(job.status).read_text(encoding="utf-8")) if job.status else {}
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def saved_step(job: Job) -> int:
    """How far what a job has saved goes; 0 where it does not say."""
    step = read_status(job).get("step", 0)
    return step if isinstance(step, int) else 0


def begin(submission: Path, job: Job, element: int, *, launch_id: str, restart: int, pid: int) -> Opening:
    """Writes the start of an attempt down, unless there is nothing to do or no use in it."""
    record = Record.of(submission, job.name, element)
    attempts, step = record.attempts(), saved_step(job)
    if attempts and attempts[-1].verdict == "done":
        return "done"
    if (submission / CANCELLED).exists():
        return "cancelled"
    if without_progress(attempts, launch_id, step) > job.retries:
        record.end(code=ExitCode.UNEXPECTED, asked=False, verdict="gave up")
        return "gave up"
    record.start(launch_id=launch_id, restart=restart, pid=pid, step=step)
    return "go"


def finish(submission: Path, job: Job, element: int, *, code: int, asked: bool, reason: str = "") -> Verdict:
    """Writes the end of an attempt down and gives what follows."""
    record = Record.of(submission, job.name, element)
    attempts = record.attempts()
    stalled = without_progress(attempts, attempts[-1].launch, saved_step(job)) if attempts else 0
    status = read_status(job)
    failure = status.get("failure")
    its_launch = bool(attempts) and status.get("launch") == attempts[-1].start
    failed = its_launch and status.get("state") == "failed"
    lost = failed and isinstance(failure, dict) and failure.get("category") == LOST
    out_of_memory = bool(attempts) and oom_kills() > attempts[-1].oom_kills
    lost = lost or (code == KILLED and not out_of_memory)
    following = verdict(code, asked=asked, lost=lost, stalled=stalled, retries=job.retries)
    if following != "done" and ((submission / CANCELLED).exists() or reason == "cancelled"):
        following = "cancelled"
    record.end(code=code, asked=asked, verdict=following, out_of_memory=out_of_memory, reason=reason)
    return following


def had_worked(status: Mapping[str, Any], attempt: Attempt, asked_at: float) -> bool:
    """Whether a training had made a step of an attempt by a moment, in seconds since the epoch."""
    first = status.get("first_step_at")
    return status.get("launch") == attempt.start and isinstance(first, int | float) and first < asked_at


def reason_of_signal(number: str, notice: float, began: float) -> str:
    """Why SLURM has told a job to stop, in its own words; empty if it does not say.

    Args:
        notice: so many seconds before its limit a job is told, at most.
        began: seconds since the epoch; what the job's log says of earlier starts does not count.

    Returns:
        "cancelled", "job requeue", "preemption", "time limit" or "node failure".
    """
    try:
        command = ["scontrol", "show", "job", "--oneliner", number]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    fields = dict(word.split("=", 1) for word in shown.split() if "=" in word)
    times = {name: _seconds(fields.get(name, "")) for name in ("StartTime", "EndTime", "PreemptTime")}
    # Of a job that was preempted and has come again, the time of the first one stays.
    if times["PreemptTime"] and times["PreemptTime"] >= times["StartTime"]:
        return "preemption"
    for what, when, reason in ENDED_BY_SLURM.findall(_tail(Path(fields.get("StdOut", "")))):
        if _seconds(when) > began - 1 and (reason or what == "JOB"):
            return reason.lower() or "cancelled"
    is_near = 0 < times["EndTime"] <= time.time() + notice
    return TIME_LIMIT if is_near and fields.get("JobState") == "RUNNING" else ""


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 100_000))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _seconds(when: str) -> float:
    try:
        return datetime.fromisoformat(when).timestamp()
    except ValueError:  # unknown, or none
        return 0.0


def _notice(submission: Path) -> float:
    return json.loads((submission / PLAN).read_text(encoding="utf-8"))["site"]["notice_seconds"]


def read_job(submission: Path, name: str) -> Job:
    """A job of a submission, as its plan has it."""
    jobs = json.loads((submission / PLAN).read_text(encoding="utf-8"))["jobs"]
    return job_from_json(next(values for values in jobs if values["name"] == name))


def main() -> None:
    """What a script calls."""
    parser = argparse.ArgumentParser(prog="python -m cluster.attempts")
    parser.add_argument("submission", type=Path)
    parser.add_argument("job")
    parser.add_argument("event", choices=["start", "end"])
    parser.add_argument("--element", type=int, default=0)
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--asked", choices=["yes", "no"], default="no")
    options = parser.parse_args()
    submission, element = options.submission, options.element
    job = read_job(submission, options.job)
    if options.event == "end":
        asked, number = options.asked == "yes", os.environ.get("SLURM_JOB_ID")
        attempts, reason = Record.of(submission, job.name, element).attempts(), ""
        if asked and number and attempts:
            reason = reason_of_signal(number, _notice(submission) + SLACK_SECONDS, attempts[-1].began)
            asked_at = os.environ.get(ASKED_VARIABLE)
            if reason == TIME_LIMIT and asked_at and job.status:
                worked = had_worked(read_status(job), attempts[-1], float(asked_at))
                reason = reason if worked else TOO_SHORT
        print(finish(submission, job, element, code=options.code, asked=asked, reason=reason))
        return
    launch_id = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID", "by hand")
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    opening = begin(submission, job, element, launch_id=launch_id, restart=restart, pid=os.getppid())
    print(opening)
    if opening == "gave up":
        print(f"error: started more than {job.retries} times without progress", file=sys.stderr)


if __name__ == "__main__":
    main()
