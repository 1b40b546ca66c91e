"""Which rank failed first, and why: from exceptions to records, and from records to what a user reads."""

import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cluster.errors import ExitCode
from musicvae.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    DivergedError,
    MemoryExhaustedError,
    SupersededError,
    UserError,
)
from musicvae.training.rank_records import Category, RankError, RankRecord

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
FINAL: frozenset[Category] = frozenset({"config", "data", "diverged", "memory", "disk", "superseded"})
"""Failures that come back after a restart."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure that the others follow from."""

    rank: int
    world_size: int
    host: str
    pid: int
    step: int
    phase: str
    category: Category
    message: str
    traceback: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """What the launch ends with."""
        match self.category:
            case "config":
                return ExitCode.USAGE
            case "data":
                return ExitCode.DATA
            case "diverged":
                return ExitCode.DIVERGED
            case _:
                return ExitCode.UNEXPECTED

    def one_line(self) -> str:
        """For a line in passing."""
        problem = self.message.splitlines()[0] if self.message else ""
        return f"rank {self.rank} of {self.world_size} on {self.host}, step {self.step}: {self.category}: {problem}"


def category_of(error: BaseException) -> Category:
    """The category of what a rank raised."""
    match error:
        case ConfigError():
            return "config"
        case DataError():
            return "data"
        case DivergedError():
            return "diverged"
        case MemoryExhaustedError() | MemoryError():
            return "memory"
        case DiskFullError():
            return "disk"
        case SupersededError():
            return "superseded"
        case _:
            # torch's own, by name and words: the class cannot be asked for where torch has not been loaded.
            exhausted = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
            return "memory" if exhausted else "code"


def is_secondary(error: BaseException) -> bool:
    """Whether a rank raised it only because another rank failed before."""
    if isinstance(error, UserError):
        return error.shown_elsewhere
    if type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError"):
        return True
    return isinstance(error, RuntimeError | OSError) and any(text in str(error).lower() for text in LOST_PEER)


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
    if own := [error for error in errors if not error.secondary]:
        return _of_error(min(own, key=lambda error: error.when))
    blamed = [error for error in errors if error.culprit is not None]
    if blamed:
        first = min(blamed, key=lambda error: error.when)
        for record in records:
            if record.rank == first.culprit:
                return _of_record(record, "hang", first.message)
    present = {record.rank for record in records}
    missing = sorted(set(range(max((record.world_size for record in records), default=0))) - present)
    if missing:
        some = records[0]
        message = "ended before it could say why: its Python did not start, or not with this project; see above"
        return Failure(missing[0], some.world_size, "an unknown machine", 0, 0, "starting", "code", message)
    told = {error.rank for error in errors}
    may_be_first = {record.rank for record in records} if failed is None else failed
    silent = [r for r in records if r.rank in may_be_first and r.rank not in told and not r.ended]
    if silent:
        return _of_record(
            min(silent, key=lambda record: record.when),
            "killed",
            "vanished without a word (the kernel's OOM killer, kill -9 by hand, a crash, or its machine is gone)",
        )
    if errors:
        return _of_error(min(errors, key=lambda error: error.when))
    return None


def _of_error(error: RankError) -> Failure:
    return Failure(
        rank=error.rank,
        world_size=error.world_size,
        host=error.host,
        pid=error.pid,
        step=error.step,
        phase=error.phase,
        category=error.category,
        message=error.message,
        traceback=error.traceback,
    )


def _of_record(record: RankRecord, category: Category, message: str) -> Failure:
    return Failure(
        rank=record.rank,
        world_size=record.world_size,
        host=record.host,
        pid=record.pid,
        step=record.step,
        phase=record.phase,
        category=category,
        message=message,
    )
