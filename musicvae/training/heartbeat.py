"""The heartbeat of each rank, and the end of a rank that hangs: nobody waits for hours on a stuck peer."""

import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from musicvae.errors import Category
from musicvae.training.rank_records import RankError, RankRecord, RankRecords

HEARTBEAT_SECONDS = 2.0
"""Between two heartbeats."""
START_FACTOR = 3
"""A rank that starts (imports, rendezvous, compilation) is given so many times the usual allowance."""
MISSED_HEARTBEATS = 3
"""A peer that misses so many heartbeats does not run at all."""
LEAST_GROUP_SECONDS = 600.0
LOST_SECONDS = 4.0
"""Without progress, after which a rank looks whether one that it waits for was killed."""
_WORLD = find_spec("musicvae.training.world")  # its `__file__`, without torch, which it imports
assert _WORLD
assert _WORLD.origin
WAITING_FILES = ("/torch/distributed/", "/torch/nn/parallel/", "/torch/autograd/", "/torch/cuda/", _WORLD.origin)
"""Where the main thread stands while it waits for other ranks: in a collective, in the backward that runs them, or for
an event of a device that runs them."""


class Heartbeat:
    """Writes where this rank is and ends the process when its main thread makes no progress.

    A daemon thread writes `RankRecords` every `HEARTBEAT_SECONDS`. After `hang_seconds` without a `beat` it dumps the
    stacks of all threads, finds out which rank the others are waiting for, writes that down and ends the process, so
    that the launch ends or starts again. Should the thread itself be kept from running, by an extension that holds the
    interpreter's lock, `faulthandler` ends the process a little later.

    Args:
        records: where to write.
        rank, world_size: this process among the others.
        launch_id, attempt: `launch` and `attempt` of `RankRecord`.
        neighbours: the ranks of this machine; None where that is not known.
        meeting: (host, port) at the machine of rank 0, where ranks of several machines have met.

    The thread that makes it is the main thread.
    """

    def __init__(
        self,
        records: RankRecords,
        *,
        rank: int,
        world_size: int,
        launch_id: str,
        attempt: int,
        neighbours: Iterable[int] | None = None,
        meeting: tuple[str, int] | None = None,
    ) -> None:
        self.records, self._neighbours, self._meeting = records, neighbours, meeting
        self.rank, self.world_size = rank, world_size
        self.launch_id, self.attempt = launch_id, attempt
        self.step, self.phase, self.beats = 0, "starting", 0
        self._hang_seconds: float | None = None
        self._main = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)
        self._writing = threading.Lock()
        self._suspended = False
        self._gave_up, self._cut_off = False, False

    @property
    def started(self) -> bool:
        """Whether heartbeats are written."""
        return self._thread.ident is not None

    def start(self) -> None:
        """Begins to write heartbeats; the second call changes nothing. What cannot be written is left out."""
        if not self.started:
            self._write(ended=False)
            self._stack = _open_to_write(self.records.stack(self.rank))
            self._thread.start()

    def watch(self, hang_seconds: float) -> None:
        """Begins to watch the main thread."""
        self.beats += 1
        self._hang_seconds = hang_seconds

    def beat(self, step: int, phase: str) -> None:
        """Says that the main thread makes progress; costs nothing."""
        self.step, self.phase = step, phase
        self.beats += 1

    def fail(
        self, category: Category, message: str, *, traceback: str = "", secondary: bool = False, gave_up: bool = False
    ) -> None:
        """Writes down why this rank ends.

        Args:
            gave_up: whether it has waited in vain for another rank; which one is found out first.
        """
        culprit = None
        if gave_up:
            self._gave_up, self._cut_off = True, is_cut_off(self._meeting)
            before = self.records.of(self.launch_id)
            time.sleep(MISSED_HEARTBEATS * HEARTBEAT_SECONDS)
            peer, why = find_culprit(before, self.records.of(self.launch_id), own_rank=self.rank)
            if peer and peer.rank != self.rank:
                culprit = peer.rank
                message = f"rank {self.rank} waited in vain for {_name(peer)}, which {why}\n{message}"
        self._write_error(category, message, traceback=traceback, secondary=secondary, culprit=culprit)

    def stop(self) -> None:
        """Writes the last heartbeat: this process leaves by itself."""
        faulthandler.cancel_dump_traceback_later()
        self._ended.set()
        if self.started:
            self._thread.join()
            self._write(ended=True)
            with suppress(OSError):
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
        heard: dict[int, float] = {}
        while not self._ended.wait(self._interval()):
            now = time.monotonic()
            # A process that was stopped as a whole and goes on must not take the pause for a hang.
            was_suspended = now - last > self._interval() + HEARTBEAT_SECONDS
            last = now
            if self.beats != seen or was_suspended:
                seen, since = self.beats, now
            self._write(ended=False)
            self._arm_backstop()
            heard = self._leave_if_a_peer_died(heard) if now - since > LOST_SECONDS else {}
            allowed = self._allowed()
            if allowed is not None and now - since > allowed and not self._suspended:
                self._end_if_stuck(seen, now - since)
                last = time.monotonic()

    def _interval(self) -> float:
        return HEARTBEAT_SECONDS if self._hang_seconds is None else min(HEARTBEAT_SECONDS, self._hang_seconds / 4)

    def _allowed(self) -> float | None:
        if self._hang_seconds is None:
            return None
        return self._hang_seconds * (START_FACTOR if self.phase == "starting" else 1)

    def _arm_backstop(self) -> None:
        if self._hang_seconds is not None and not self._suspended and not self._ended.is_set():
            # Later than the peers find this rank, who can say more about it.
            seconds = self._hang_seconds + 2 * MISSED_HEARTBEATS * HEARTBEAT_SECONDS
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._stack)

    def _end_if_stuck(self, seen: int, seconds: float) -> None:
        """Returns only if the main thread goes on after all."""
        faulthandler.dump_traceback(file=self._stack, all_threads=True)
        before = self.records.of(self.launch_id)
        self._cut_off = is_cut_off(self._meeting)
        for _ in range(MISSED_HEARTBEATS):
            time.sleep(max(HEARTBEAT_SECONDS, self._interval()))
            self._write(ended=False)
            if self.beats != seen or self._ended.is_set():
                return
        culprit, why = find_culprit(before, self.records.of(self.launch_id), own_rank=self.rank)
        where = f"no progress for {seconds:.0f} s in phase {self.phase!r} at step {self.step}"
        if culprit is None or culprit.rank == self.rank:
            reason = f"this rank {why}; " if why else ""
            is_culprit, message = True, f"{where}; {reason}the main thread is at {place(self._frame())}"
        else:
            is_culprit, message = False, f"{where}, waiting for {_name(culprit)}, which {why}"
        culprit_rank = culprit.rank if culprit else self.rank
        self._write_error("hang", message, traceback="", secondary=not is_culprit, culprit=culprit_rank)
        os._exit(1)

    def _leave_if_a_peer_died(self, heard: Mapping[int, float]) -> dict[int, float]:
        """Ends the process if its main thread waits for a rank of this machine that was killed.

        Backends notice that late, if at all, and a rank that waits inside one hears no signal either.

        Args:
            heard: when each rank had last sent a heartbeat, at the last look.

        Returns:
            The same, now.
        """
        if self.phase == "starting" or not self._waits():
            return {}
        peers = self.records.of(self.launch_id, self._neighbours)
        for peer in peers:
            if heard.get(peer.rank) == peer.when and not peer.ended and self._knows_dead(peer):
                message = f"{_name(peer)} has died, and this rank waited for it"
                self._write_error("code", message, traceback="", secondary=True, culprit=None)
                os._exit(1)
        return {peer.rank: peer.when for peer in peers}

    def _knows_dead(self, peer: RankRecord) -> bool:
        if peer.host != socket.gethostname() or peer.attempt != self.attempt:
            return False
        try:
            os.kill(peer.pid, 0)
        except OSError as error:
            return isinstance(error, ProcessLookupError)
        return False

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._main or 0)

    def _waits(self) -> bool:
        return self._gave_up or waits_for_others(self._frame())

    def _write(self, *, ended: bool) -> None:
        with self._writing, suppress(OSError):  # a full disk is reported where something that counts cannot be written
            more = {"beats": self.beats, "waiting": self._waits(), "ended": ended, "cut_off": self._cut_off}
            self.records.write(RankRecord(**self._word(), **more))

    def _write_error(
        self, category: Category, message: str, *, traceback: str, secondary: bool, culprit: int | None
    ) -> None:
        error = RankError(
            **self._word(),
            category=category,
            message=message,
            traceback=traceback,
            secondary=secondary,
            culprit=culprit,
        )
        with suppress(OSError):
            self.records.write_error(error)

    def _word(self) -> dict[str, Any]:
        """The arguments of a `RankWord`, as of now."""
        return {
            "launch": self.launch_id,
            "attempt": self.attempt,
            "rank": self.rank,
            "world_size": self.world_size,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "step": self.step,
            "phase": self.phase,
            "when": time.time(),
        }


def group_seconds(hang_seconds: float) -> float:
    """After how long a collective gives up: the heartbeats have named the rank that does not come long before."""
    return max(LEAST_GROUP_SECONDS, START_FACTOR * hang_seconds + 4 * MISSED_HEARTBEATS * HEARTBEAT_SECONDS)


def _open_to_write(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError:  # as on a full disk
        return Path(os.devnull).open("w", encoding="utf-8")


def is_cut_off(meeting: tuple[str, int] | None) -> bool:
    """Whether nothing answers where the ranks have met; False where ranks of one machine meet."""
    if meeting is None:
        return False
    try:
        socket.create_connection(meeting, timeout=HEARTBEAT_SECONDS).close()
    except OSError:
        return True
    return False


def _name(record: RankRecord) -> str:
    return f"rank {record.rank} on {record.host} (process {record.pid})"


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

    Where a network is cut, all ranks wait for each other. Those that do not reach the machine of rank 0 are cut off;
    if no other machine reaches it, of several, it is that machine.

    Args:
        before, after: the heartbeats of all ranks, several intervals apart; clocks of machines need not agree.
        own_rank: the rank that asks, which is alive.
    """
    last = {record.rank: record.when for record in before}
    alive = [record for record in after if not record.ended]
    silent = [record for record in alive if last.get(record.rank) == record.when and record.rank != own_rank]
    if silent:
        return silent[0], "sends no heartbeat: it is stopped, or its machine is down"
    first = min(after, key=lambda record: record.rank, default=None)
    cut_off = [record for record in alive if record.cut_off]
    if cut_off and first and not first.ended:
        others = {record.host for record in alive if record.host != first.host}
        if 1 < len(others) == len({record.host for record in cut_off}):
            return first, "is reached from no other machine: the network of its machine is cut"
        return cut_off[0], f"does not reach rank 0 on {first.host}: the network between their machines is cut"
    lowest = min((record.step for record in alive), default=0)
    behind = [record for record in alive if record.step == lowest]
    if len(behind) < len(alive):
        return behind[0], f"is still at step {lowest}, in phase {behind[0].phase!r}"
    at_work = [record for record in alive if not record.waiting]
    if at_work:
        return at_work[0], f"waits for no other rank and is in phase {at_work[0].phase!r}"
    return None, ""
