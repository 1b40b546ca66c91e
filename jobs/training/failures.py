"""Which rank failed first, and why: the frame around a rank, from exceptions to records, and from these to readers."""

import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.command.stop_signals import told_of_suspension
from jobs.training.environment import (
    attempt,
    launch_id,
    launched_by,
    local_ranks,
    meeting_place,
    own_rank,
    world_size,
)
from jobs.training.rank_logs import log_to_file
from musicvae.errors import Category, ConfigError, DataError, DivergedError, StoppedError, UserError
from musicvae.training.heartbeat import Heartbeat
from musicvae.training.rank_records import RankError, RankPlace, RankRecord, RankRecords
from musicvae.training.run_folder import FULL, RunFolder

SHOWN_TRACEBACK_LINES = 16
LOST_PEER = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "socket closed",
    "application timeout caused pair closure",
    "remote process exited",
    "failed to recv",
    "failed to send",
    "sendbytes failed",
    "recvvalue failed",
    "connection was likely closed",
    "read error",
    "timed out waiting",
    "nccl communicator was aborted",
    "client has already left",
)
"""What gloo, NCCL and the store say when the other end is gone (seen with torch 2.13)."""
ABSENT_PEER = ("timed out waiting", "wait timeout", "collective operation timeout", "application timeout caused")
"""What they say when the other end has not answered for too long."""
FINAL: frozenset[Category] = frozenset({"config", "data", "diverged", "memory", "disk", "superseded"})
"""Failures that come back after a restart."""


@dataclass(frozen=True, slots=True)
class Failure(RankPlace):
    """The failure that the others follow from."""

    category: Category
    message: str
    traceback: str = ""

    @property
    def exit_code(self) -> int:
        """What the launch ends with."""
        return {kind.category: kind.exit_code for kind in (ConfigError, DataError, DivergedError)}.get(self.category, 1)

    def one_line(self) -> str:
        """For a line in passing."""
        problem = self.message.splitlines()[0] if self.message else ""
        return f"rank {self.rank} of {self.world_size} on {self.host}, step {self.step}: {self.category}: {problem}"


class Restarts:
    """Counts the attempts of a launch that fail in a row without a new checkpoint in between.

    Args:
        most: restarts in a row that may pass so.

    Attributes:
        step: of the newest checkpoint when the last attempt failed.
        fruitless: the attempts, with the one that this series began with.
    """

    def __init__(self, run: RunFolder, most: int) -> None:
        self.run, self.most = run, most
        self.step, self.fruitless = run.saved_step(), 0

    @property
    def used_up(self) -> bool:
        """Whether there is to be no other attempt."""
        return self.fruitless > self.most

    def count_failure(self) -> None:
        """An attempt has failed."""
        step = self.run.saved_step()
        self.step, self.fruitless = step, 1 if step > self.step else self.fruitless + 1

    def tell(self, why: str) -> None:
        """Says that there is another attempt."""
        print(f"{why}; all ranks restart from step {self.step}", file=sys.stderr)


def category_of(error: BaseException) -> Category:
    """The category of what a rank raised."""
    if isinstance(error, UserError) and error.category != "code":
        return error.category
    if isinstance(error, OSError) and error.errno in FULL:
        return "disk"
    # torch's own, by name and words: the class cannot be asked for where torch has not been loaded.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return "memory" if named or "DefaultCPUAllocator" in str(error) else "code"


def is_secondary(error: BaseException) -> bool:
    """Whether a rank raised it only because another rank failed before."""
    if isinstance(error, UserError):
        return error.shown_elsewhere
    if type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return True
    return isinstance(error, RuntimeError | OSError) and any(text in str(error).lower() for text in LOST_PEER)


def gave_up_waiting(error: BaseException) -> bool:
    """Whether a rank raised it because another has not come in time, as one that is stopped."""
    return any(text in str(error).lower() for text in ABSENT_PEER)


def message_of(error: BaseException) -> tuple[str, str]:
    """What a user reads, and the last lines of the traceback where that is not enough."""
    if isinstance(error, UserError):
        return str(error), ""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return f"{type(error).__name__}: {error}", "\n".join(lines[-SHOWN_TRACEBACK_LINES:])


def first_failure(
    records: Sequence[RankRecord], errors: Sequence[RankError], *, failed: Collection[int] | None = None
) -> Failure | None:
    """The failure of one attempt that the others follow from; None if every rank left by itself.

    A rank that says why it failed by its own fault comes first; then one that others waited for in vain; then one that
    never gave a sign of life; then one that ended without a word, as only SIGKILL and crashes of the interpreter do.

    Args:
        records: of all ranks that gave a sign of life.
        failed: the ranks that are known to have failed, where somebody else ended the others and these, too, ended
            without a word; None if nobody did.
    """
    if failed is not None:
        errors = [error for error in errors if error.rank in failed]
    if primary := [error for error in errors if not error.secondary]:
        return _of_error(min(primary, key=lambda error: error.when))
    blamed = [error for error in errors if error.culprit is not None]
    if blamed:
        first = min(blamed, key=lambda error: error.when)
        for record in records:
            if record.rank == first.culprit:
                return _failure(_at_latest(record, errors), "hang", first.message)
    present = {record.rank for record in records}
    missing = sorted(set(range(max((record.world_size for record in records), default=0))) - present)
    if missing:
        message = "ended before it could report why; its Python, or the import of this project, failed (see above)"
        unborn = replace(records[0], rank=missing[0], host="an unknown machine", pid=0, step=0, phase="starting")
        return _failure(unborn, "code", message)
    ranks_with_errors = {error.rank for error in errors}
    may_be_first = {record.rank for record in records} if failed is None else failed
    silent = [r for r in records if r.rank in may_be_first and r.rank not in ranks_with_errors and not r.ended]
    if silent:
        return _failure(
            _at_latest(min(silent, key=lambda record: record.when), errors),
            "killed",
            "ended without a report (the OOM killer of the kernel, kill -9, a crash, or a lost machine)",
        )
    if errors:
        return _of_error(min(errors, key=lambda error: error.when))
    return None


def _at_latest(record: RankRecord, errors: Sequence[RankError]) -> RankRecord:
    """The record of a rank that others waited for, where they waited: ranks go in step, and its own may be older."""
    waited = max((error for error in errors if error.secondary), key=lambda error: error.step, default=None)
    if waited is None or waited.step <= record.step:
        return record
    return replace(record, step=waited.step, phase=waited.phase)


def unborn(world_size: int, host: str) -> Failure:
    """The failure of an attempt of which no rank has left a record."""
    return Failure(
        rank=0,
        world_size=world_size,
        host=host,
        pid=0,
        step=0,
        phase="starting",
        category="code",
        message="ended before it could report why, like all others; its Python, or the import of this project, failed "
        "(see above)",
    )


def _failure(rank: RankPlace, category: Category, message: str, traceback: str = "") -> Failure:
    return Failure(**rank.place(), category=category, message=message, traceback=traceback)


def _of_error(error: RankError) -> Failure:
    return _failure(error, error.category, error.message, error.traceback)


@contextmanager
def rank_life(run: Path | None) -> Iterator[Heartbeat]:
    """Gives the rank's heartbeat; writes down what ends the block by an error.

    It starts at once where our launcher has opened the run folder, so that what happens before the ranks have
    met is known too; otherwise when the run is held: a command that is refused leaves a run folder as it was.
    """
    folder = RunFolder(run or Path())
    heartbeat = Heartbeat(
        RankRecords(folder.ranks),
        rank=own_rank(),
        world_size=world_size(),
        launch_id=launch_id(),
        attempt=attempt(),
        neighbours=local_ranks(),
        meeting=meeting_place(),
    )
    if launched_by() and folder.config.exists():
        log_to_file(folder.path, rank=heartbeat.rank, launch_id=heartbeat.launch_id, attempt=heartbeat.attempt)
        heartbeat.start()
    with told_of_suspension(heartbeat.suspend, heartbeat.resume), failures_recorded(heartbeat, folder):
        yield heartbeat


@contextmanager
def failures_recorded(heartbeat: Heartbeat, folder: RunFolder) -> Iterator[None]:
    """Writes down what ends the block by an error, and ends the heartbeat."""
    try:
        yield
    except (StoppedError, SystemExit):
        raise
    except BaseException as error:
        if heartbeat.started:
            message, traceback = message_of(error)
            secondary = is_secondary(error)
            gave_up = secondary and gave_up_waiting(error)
            heartbeat.fail(category_of(error), message, traceback=traceback, secondary=secondary, gave_up=gave_up)
        raise
    finally:
        heartbeat.stop()
