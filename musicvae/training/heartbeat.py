"""Each rank's sign of life, and the end of a rank that gives none: nobody waits for hours on a stuck peer."""

import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from types import FrameType

from musicvae.training.rank_records import Category, RankError, RankRecord, RankRecords

PULSE_SECONDS = 2.0
"""Between two signs of life."""
START_FACTOR = 3
"""A rank that starts (imports, rendezvous, compilation) is given so many times the usual allowance."""
SILENT_PULSES = 3
"""A peer that misses so many signs of life does not run at all."""
_WORLD = find_spec("musicvae.training.world")  # its `__file__`, without torch, which it imports
assert _WORLD
assert _WORLD.origin
WAITING_FILES = ("/torch/distributed/", "/torch/nn/parallel/", "/torch/autograd/", _WORLD.origin)
"""Where the main thread stands while it waits for other ranks: in a collective, or in the backward that runs them."""


class Pulse:
    """Tells where this rank is and ends the process when its main thread makes no progress.

    A daemon thread writes `RankRecords` every `PULSE_SECONDS`. After `hang_seconds` without a `beat` it dumps the
    stacks of all threads, finds out which rank the others are waiting for, writes that down and ends the process, so
    that the launch ends or starts again. Should the thread itself be kept from running, by an extension that holds the
    interpreter's lock, `faulthandler` ends the process a little later.

    Args:
        records: where to write.
        rank, world_size: this process among the others.
        launch, attempt: as in `RankRecord`.

    The thread that makes it is the main thread.
    """

    def __init__(self, records: RankRecords, *, rank: int, world_size: int, launch: str, attempt: int) -> None:
        self.records = records
        self.rank, self.world_size = rank, world_size
        self.launch, self.attempt = launch, attempt
        self.step, self.phase, self.beats = 0, "starting", 0
        self._hang_seconds: float | None = None
        self._main = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pulse", daemon=True)
        self._writing = threading.Lock()
        self._suspended = False

    @property
    def started(self) -> bool:
        """Whether it gives signs of life."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Begins to give signs of life; the second call changes nothing."""
        if not self.started:
            self._write(ended=False)
            self._stack = self.records.stack(self.rank).open("w")
            self._thread.start()

    def watch(self, hang_seconds: float) -> None:
        """Begins to watch the main thread."""
        self.beats += 1
        self._hang_seconds = hang_seconds

    def beat(self, step: int, phase: str) -> None:
        """Says that the main thread makes progress; costs nothing."""
        self.step, self.phase = step, phase
        self.beats += 1

    def fail(self, category: Category, message: str, *, traceback: str = "", secondary: bool = False) -> None:
        """Writes down why this rank ends."""
        self._write_error(category, message, traceback=traceback, secondary=secondary, culprit=None)

    def stop(self) -> None:
        """The last sign of life: this process leaves by itself."""
        faulthandler.cancel_dump_traceback_later()
        self._ended.set()
        if self.started:
            self._thread.join()
            self._write(ended=True)
            if not self._stack.tell():
                self.records.stack(self.rank).unlink(missing_ok=True)

    def suspend(self) -> None:
        """Takes the watch off while a user or scheduler stops the whole process; `resume` puts it on again."""
        self._suspended = True
        faulthandler.cancel_dump_traceback_later()

    def resume(self) -> None:
        """The process goes on: time counts from here."""
        self.beats += 1
        self._suspended = False

    def _work(self) -> None:
        seen, since, last = self.beats, time.monotonic(), time.monotonic()
        while not self._ended.wait(self._interval()):
            now = time.monotonic()
            # A process that was stopped as a whole and goes on must not take the pause for a hang.
            was_suspended = now - last > self._interval() + PULSE_SECONDS
            last = now
            if self.beats != seen or was_suspended:
                seen, since = self.beats, now
            with suppress(OSError):  # a full disk is the main thread's to report
                self._write(ended=False)
            self._arm_backstop()
            allowed = self._allowed()
            if allowed is not None and now - since > allowed and not self._suspended:
                self._end_if_stuck(seen, now - since)
                last = time.monotonic()

    def _interval(self) -> float:
        return PULSE_SECONDS if self._hang_seconds is None else min(PULSE_SECONDS, self._hang_seconds / 4)

    def _allowed(self) -> float | None:
        if self._hang_seconds is None:
            return None
        return self._hang_seconds * (START_FACTOR if self.phase == "starting" else 1)

    def _arm_backstop(self) -> None:
        if self._hang_seconds is not None and not self._suspended and not self._ended.is_set():
            # Later than the peers find this rank, who can say more about it.
            seconds = self._hang_seconds + 2 * SILENT_PULSES * PULSE_SECONDS
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._stack)

    def _end_if_stuck(self, seen: int, seconds: float) -> None:
        """Returns only if the main thread goes on after all."""
        faulthandler.dump_traceback(file=self._stack, all_threads=True)
        before = self.records.of(self.launch)
        for _ in range(SILENT_PULSES):
            time.sleep(max(PULSE_SECONDS, self._interval()))
            with suppress(OSError):
                self._write(ended=False)
            if self.beats != seen or self._ended.is_set():
                return
        culprit, why = find_culprit(before, self.records.of(self.launch), own_rank=self.rank)
        where = f"no progress for {seconds:.0f} s in phase {self.phase!r} at step {self.step}"
        if culprit is None or culprit.rank == self.rank:
            own, message = True, f"{where}; the main thread stands at {place(self._frame())}"
        else:
            peer = f"rank {culprit.rank} on {culprit.host} (process {culprit.pid})"
            own, message = False, f"{where}, waiting for {peer}, which {why}"
        with suppress(OSError):
            self._write_error(
                "hang", message, traceback="", secondary=not own, culprit=culprit.rank if culprit else self.rank
            )
        os._exit(1)

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._main or 0)

    def _write(self, *, ended: bool) -> None:
        with self._writing:
            self.records.write(
                RankRecord(
                    launch=self.launch,
                    attempt=self.attempt,
                    rank=self.rank,
                    world_size=self.world_size,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    step=self.step,
                    phase=self.phase,
                    beats=self.beats,
                    waiting=waits_for_others(self._frame()),
                    ended=ended,
                    when=time.time(),
                )
            )

    def _write_error(
        self, category: Category, message: str, *, traceback: str, secondary: bool, culprit: int | None
    ) -> None:
        self.records.write_error(
            RankError(
                launch=self.launch,
                attempt=self.attempt,
                rank=self.rank,
                world_size=self.world_size,
                host=socket.gethostname(),
                pid=os.getpid(),
                step=self.step,
                phase=self.phase,
                category=category,
                message=message,
                traceback=traceback,
                secondary=secondary,
                culprit=culprit,
                when=time.time(),
            )
        )


def waits_for_others(frame: FrameType | None) -> bool:
    """Whether the innermost Python frame of a thread is one in which ranks wait for each other."""
    return frame is not None and any(part in frame.f_code.co_filename for part in WAITING_FILES)


def place(frame: FrameType | None) -> str:
    """The innermost line of a thread, as a person would look it up."""
    if frame is None:
        return "an unknown place"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def find_culprit(
    before: Sequence[RankRecord], after: Sequence[RankRecord], *, own_rank: int
) -> tuple[RankRecord | None, str]:
    """The rank that the others wait for, and how one can tell.

    Args:
        before, after: the signs of life of all ranks, several pulses apart; clocks of machines need not agree.
        own_rank: the rank that asks, which is alive.
    """
    last = {record.rank: record.when for record in before}
    alive = [record for record in after if not record.ended]
    silent = [record for record in alive if last.get(record.rank) == record.when and record.rank != own_rank]
    if silent:
        return silent[0], "gives no sign of life: stopped, or its machine is gone"
    lowest = min((record.step for record in alive), default=0)
    behind = [record for record in alive if record.step == lowest]
    if len(behind) < len(alive):
        return behind[0], f"is still at step {lowest}, in phase {behind[0].phase!r}"
    at_work = [record for record in alive if not record.waiting]
    if at_work:
        return at_work[0], f"waits for nobody and is in phase {at_work[0].phase!r}"
    return None, ""
