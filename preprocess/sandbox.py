"""Runs work on untrusted input in a child process, so that an input that kills, fills or hangs it costs only itself.

The child is started once and kept. What it is doing stands in a page of shared memory, so an item costs no message;
CPU time and memory are limited by the kernel, item by item. A failure counts only if it comes back when the item is
tried alone, in a fresh child, twice: a busy machine or a lost process never decides.
"""

import mmap
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Generic, Protocol, TypeVar

from preprocess.rejection import Reason

Item = TypeVar("Item", contravariant=True)
Packed = TypeVar("Packed", covariant=True)

ALONE_TRIES = 2
START_TRIES = 3
PLACE = struct.Struct("q")
"""What the shared page holds: the number of the item that is being worked on."""
LENGTH = struct.Struct("Q")
OUT_OF_MEMORY = 90
"""Exit status of a child that ran out of its memory."""
PIPE_BYTES = 2**20


class Work(Protocol[Item, Packed]):
    """What a child does. It is sent there pickled, and its answers come back pickled."""

    def do(self, item: Item) -> bool:
        """Works on one item; true if enough has gathered to be handed over."""
        ...

    def hand_over(self) -> Packed:
        """The results of the items since the last time, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one item may take: seconds of CPU time, seconds by the clock, bytes of memory on top of the process's."""

    cpu_seconds: int
    wall_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a child is sent."""

    work: Work[Any, Any]
    items: Sequence[Any]
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class Failure(Generic[Item]):
    """An item that cannot be worked on, and why; the detail is the same whenever and wherever it is tried."""

    item: Item
    reason: Reason
    detail: str


class SandboxError(RuntimeError):
    """The child does not start, or does not end its work although every item is well: not the fault of an item."""


class Sandbox:
    """A child process, started when it is first needed and again after each death."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    def run(self, work: Work[Item, Packed], items: Sequence[Item], allowance: Allowance) -> Iterator[Any]:
        """Answers of `work` over items in their order: what it handed over, and a `Failure` for each item it cannot do.

        Raises:
            SandboxError: the child cannot be started.
            Exception: what `work` itself raised.
        """
        done = 0
        while done < len(items):
            for packed, upto in self._attempt(work, items[done:], allowance):
                if isinstance(packed, Failure):
                    # The items before the one that failed went down with it; they are done first, without it.
                    suspect = done + upto
                    yield from self.run(work, items[done:suspect], allowance)
                    yield from self._alone(work, items[suspect], allowance)
                    done = suspect + 1
                else:
                    yield packed
                    done += upto

    def close(self) -> None:
        """Ends the child, if there is one."""
        if self._child:
            self._child.end()
            self._child = None

    def _alone(self, work: Work[Item, Packed], item: Item, allowance: Allowance) -> Iterator[Any]:
        failure: Any = None
        for _ in range(ALONE_TRIES):
            self.close()
            [(failure, _)] = self._attempt(work, [item], allowance)
            if not isinstance(failure, Failure):
                break
        yield failure

    def _attempt(self, work: Any, items: Sequence[Any], allowance: Allowance) -> Iterator[tuple[Any, int]]:
        """(answer, items that it covers) until all are done; after a death a `Failure` and the number of its item."""
        done = 0
        try:
            for packed, upto in self._started(Job(work, items, allowance)):
                yield packed, upto - done
                done = upto
        except _DiedError as death:
            self.close()
            yield Failure(items[death.item], death.reason, death.detail), death.item - done
        except BaseException:
            self.close()
            raise

    def _started(self, job: Job) -> Iterator[tuple[Any, int]]:
        """A child's answers. One that died before it began, as a kept child may between two jobs, is replaced."""
        for last in (False,) * (START_TRIES - 1) + (True,):
            if self._child is None:
                self._child = _Child()
            try:
                yield from self._child.run(job)
                return
            except SandboxError:
                self.close()
                if last:
                    raise


class _DiedError(Exception):
    def __init__(self, item: int, reason: Reason, detail: str) -> None:
        self.item, self.reason, self.detail = item, reason, detail
        super().__init__(detail)


class _Child:
    def __init__(self) -> None:
        place: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the mapping
        place.truncate(PLACE.size)
        self.place = mmap.mmap(place.fileno(), PLACE.size)
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - read when the child is gone
        paths = [path for path in sys.path if path]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "preprocess.sandbox_child", str(place.fileno()), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            pass_fds=[place.fileno()],
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        place.close()

    def run(self, job: Job) -> Iterator[tuple[Any, int]]:
        """(answer, items done so far) until all are done."""
        self._send(job)
        done = 0
        while done < len(job.items):
            size = LENGTH.unpack(self._receive(LENGTH.size, job.allowance))[0]
            answer = pickle.loads(self._receive(size, job.allowance))
            if isinstance(answer, BaseException):
                raise answer
            packed, done = answer
            yield packed, done

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            assert pipe is not None, "both ends are pipes"
            pipe.close()
        self.place.close()

    def _send(self, job: Job) -> None:
        self.place[:] = PLACE.pack(-1)
        data = pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
        assert self.process.stdin is not None, "stdin is a pipe"
        try:
            for piece in (LENGTH.pack(len(data)), data):
                view = memoryview(piece)
                while view:
                    view = view[self.process.stdin.write(view) :]
        except BrokenPipeError:
            raise self._never_began() from None

    def _receive(self, size: int, allowance: Allowance) -> bytes:
        """Bytes from the child, while each item takes no longer than it may."""
        assert self.process.stdout is not None, "stdout is a pipe"
        handle = self.process.stdout.fileno()
        pieces, missing = [], size
        item, since = self._item(), time.monotonic()
        wall = allowance.wall_seconds
        while missing:
            if not select.select([handle], [], [], min(1.0, wall / 4))[0]:
                if (now := self._item()) != item:
                    item, since = now, time.monotonic()
                elif item >= 0 and time.monotonic() - since > wall:
                    raise _DiedError(item, Reason.TIMEOUT, f"more than {wall:g} s, limits.wall_seconds")
                continue
            piece = os.read(handle, min(missing, PIPE_BYTES))
            if not piece:
                raise self._death(allowance)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _item(self) -> int:
        return PLACE.unpack(self.place)[0]

    def _death(self, allowance: Allowance) -> Exception:
        status = self.process.wait()
        item = self._item()
        if item < 0:
            return self._never_began()
        if status == -signal.SIGXCPU:
            reason, detail = Reason.TIMEOUT, f"more than {allowance.cpu_seconds} s of CPU time, limits.cpu_seconds"
        elif status == OUT_OF_MEMORY:
            reason, detail = Reason.MEMORY, f"more than {allowance.memory_bytes >> 20} MiB, limits.memory_mib"
        elif status < 0:
            reason, detail = Reason.WORKER_DIED, f"killed by {signal.Signals(-status).name}"
        else:
            reason, detail = Reason.WORKER_DIED, f"ended with status {status}"
        return _DiedError(item, reason, detail)

    def _never_began(self) -> SandboxError:
        status = self.process.wait()
        self.errors.seek(0)
        output = self.errors.read().decode(errors="replace").strip()
        return SandboxError(f"the process that converts files ended with status {status} at once\n{output[-2000:]}")
