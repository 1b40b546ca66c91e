"""Why a job failed, on one screen: from what its ranks wrote down, what SLURM says, its exit status, and its log."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from cluster.attempts import KILLED, SIGNALLED, TOO_SHORT
from cluster.errors import ExitCode
from cluster.sbatch import ALONE, SETUP_FAILED
from cluster.status import ElementStatus
from cluster.submission import Submission, log_name
from jobs.submission.run_view import RunView
from jobs.training.failures import Failure, first_failure
from jobs.training.rank_logs import log_of
from musicvae.errors import Category as RankCategory
from musicvae.training.rank_records import RankRecords

Category: TypeAlias = Literal[
    "out of memory", "preempted", "time limit", "data", "configuration", "code", "node", "diverged", "disk", "hang",
    "in use", "interrupted", "setup",
]  # fmt: skip
CURES: dict[Category, str] = {
    "out of memory": "use more --mem, a larger train.accumulation (same result), or fewer ranks on a node",
    "preempted": "submit it again, with more --retries if it is stopped often before it can save",
    "time limit": "use a longer --time; if it had no time to save, raise notice_seconds of the site",
    "data": "check the shards (python -m jobs.show SHARDS), then copy or build them again",
    "configuration": "correct the arguments and submit again",
    "code": "fix the code where the traceback points, then submit again",
    "node": "python -m jobs.retry --failed SUBMISSION; if it fails again, ask the administrators about the node",
    "diverged": "use a lower optimizer.learning_rate, or train.on_nonfinite=skip",
    "disk": "free some space, or ask for a larger quota; the last complete checkpoint is kept",
    "hang": "read the stacks of the hanging rank in RUN/ranks; if it was only slow, raise resources.hang_seconds",
    "in use": "wait for the other one, or cancel it; then python -m jobs.retry --failed SUBMISSION",
    "interrupted": "submit it again to resume",
    "setup": "correct modules, setup, container or python in the site file, then submit again",
}
OF_RANK: dict[RankCategory, Category] = {
    "config": "configuration",
    "data": "data",
    "diverged": "diverged",
    "memory": "out of memory",
    "disk": "disk",
    "hang": "hang",
    "killed": "node",
    "code": "code",
    "superseded": "configuration",
    "preempted": "preempted",
    "interrupted": "interrupted",
}
OF_SLURM: dict[str, Category] = {
    "out of memory": "out of memory",
    "timeout": "time limit",
    TOO_SHORT: "time limit",
    "deadline": "time limit",
    "node fail": "node",
    "boot fail": "node",
    "preempted": "preempted",
}
OF_LOG: tuple[tuple[str, Category], ...] = (
    (f"^{SETUP_FAILED}", "setup"),
    (r"oom[-_ ]kill|OOM killer has killed|MemoryError|out of memory|Cannot allocate memory", "out of memory"),
    (r"No space left on device|Disk quota exceeded", "disk"),
    (r"DUE TO TIME LIMIT", "time limit"),
    (r"DUE TO NODE FAILURE|Node failure on", "node"),
    (r"DUE TO PREEMPTION", "preempted"),
    (r"^Traceback \(most recent call last\)", "code"),
)
LOG_BYTES = 100_000
SHOWN_LINES = 16


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """What a user needs to know of one that failed.

    Attributes:
        name: of the job or run.
        where: rank, host, step and phase, as far as known.
        cause: in one or a few lines.
        lines: of the traceback, or the last that it said.
    """

    name: str
    category: Category
    where: str
    cause: str
    lines: tuple[str, ...]
    log: Path | None
    do: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "log": self.log and str(self.log)}

    def __str__(self) -> str:
        first, *rest = self.cause.splitlines() or [""]
        rows = [f"{self.name} failed: {self.category}: {first}", *(f"  {line.strip()}" for line in rest)]
        rows += [f"  where     {self.where}"] if self.where else []
        rows += [f"  | {line}" for line in self.lines]
        rows += [f"  log       {self.log}"] if self.log else []
        return "\n".join([*rows, f"  do        {self.do}"])


def failures_of_run(run: RunView) -> Iterator[FailureSummary]:
    """The failure of a run that was trained without a submission, if it failed."""
    if run.state in ("failed", "diverged") and (failure := _rank_failure(run, run.launch)):
        yield _of_rank(str(run.path), run.path, failure)


def failures_of(
    submission: Submission, statuses: tuple[ElementStatus, ...], run: RunView | None
) -> Iterator[FailureSummary]:
    """The failures of one job of a submission, one for each element that failed.

    Args:
        run: what the job trains, if anything.
    """
    for status in statuses:
        if status.state in ("failed", "lost"):
            summary = _of_status(submission, status, run)
            yield replace(summary, do=summary.do.replace("SUBMISSION", str(submission.folder)))


def _of_status(submission: Submission, status: ElementStatus, run: RunView | None) -> FailureSummary:
    job = status.job
    name = f"{job.name} of {submission.name}" + (f", element {status.element}" if job.array else "")
    log, text = log_of_element(submission, status)
    last = status.attempts[-1] if status.attempts else None
    if (
        (slurm_category := OF_SLURM.get(status.why)) is None
        and run
        and last
        and (failure := _rank_failure(run, last.start))
    ):
        summary = _of_rank(name, run.path, failure)
        category = _category_of_log(text)
        if failure.category != "killed" or category not in ("out of memory", "disk"):
            return summary
        # Of which no rank can tell: it is killed, or cannot write anything down.
        return replace(summary, category=category, cause=_cause_in_log(text)[0] or summary.cause, do=CURES[category])
    category = slurm_category or _category(last.code if last else None, status, text)
    cause, lines = _cause_in_log(text)
    where = f"{last.host}, exit status {last.code}" if last and last.code is not None else last.host if last else ""
    if gone := re.findall(rf"^(\S+) ended with status (\d+) {ALONE}$", text, re.MULTILINE):
        node, code = gone[-1]
        where, cause = f"{node}, exit status {code}", cause or f"{node} ended {ALONE}"
    if status.why == TOO_SHORT:  # what its command made of being told to stop says less
        cause = status.why
    return FailureSummary(name, category, where, cause or status.why, lines, log, CURES[category])


def log_of_element(submission: Submission, status: ElementStatus) -> tuple[Path | None, str]:
    """The log of the last submission of an element, and its end."""
    if status.receipt is None:
        return None, ""
    log = submission.logs / log_name(status.job, status.receipt.number, status.element - status.receipt.first)
    return log, _tail(log)


def _category(code: int | None, status: ElementStatus, text: str) -> Category:
    match code:
        case ExitCode.USAGE:
            return "in use" if " is in use by " in _cause_in_log(text)[0] else "configuration"
        case ExitCode.DATA:
            return "data"
        case ExitCode.DIVERGED:
            return "diverged"
        case ExitCode.PREEMPTED:
            return "preempted"
        case ExitCode.INTERRUPTED:
            return "interrupted"
    if log_category := _category_of_log(text):
        return log_category
    if status.attempts and status.attempts[-1].out_of_memory:
        return "out of memory"
    return "node" if status.state == "lost" or code is None or code in (*SIGNALLED, KILLED) else "code"


def _category_of_log(text: str) -> Category | None:
    return next((category for pattern, category in OF_LOG if re.search(pattern, text, re.MULTILINE)), None)


def _cause_in_log(text: str) -> tuple[str, tuple[str, ...]]:
    """The cause in the words of the command: its `error:` block, or the end of its traceback; and lines to look at."""
    lines = text.splitlines()
    for number in reversed(range(len(lines))):
        if lines[number].startswith("error: "):
            block = [lines[number].removeprefix("error: ")]
            for line in lines[number + 1 :]:
                if not line.startswith("  "):
                    break
                block.append(line)
            return "\n".join(block), ()
        if lines[number].startswith("Traceback (most recent call last)"):
            end = next((n for n in range(number + 1, len(lines)) if lines[n][:1] not in (" ", "")), len(lines) - 1)
            return lines[end], tuple(lines[number:end][-SHOWN_LINES:])
    return "", tuple(lines[-SHOWN_LINES // 2 :])


def _of_rank(name: str, run: Path, failure: Failure) -> FailureSummary:
    category = OF_RANK[failure.category]
    where = f"rank {failure.rank} of {failure.world_size} on {failure.host}, step {failure.step}, phase {failure.phase}"
    lines = tuple(failure.traceback.splitlines()[-SHOWN_LINES:])
    return FailureSummary(name, category, where, failure.message, lines, log_of(run, failure.rank), CURES[category])


def _rank_failure(run: RunView, launch: str | None) -> Failure | None:
    """What the launcher of a launch found; without one, what its ranks say, if any of them failed."""
    if launch is None:
        return None
    if run.failure is not None and run.launch == launch:
        with suppress(TypeError):  # another version of its fields
            return Failure(**run.failure)
    records = RankRecords(run.path / "ranks")
    return first_failure(records.of(launch), records.errors_of(launch))


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
