"""The launcher behind `jobs.train --ranks`: starts a torchrun agent, watches the ranks' own records, says how it ended.

torchrun ends with 1 whatever its ranks ended with, and restarts what a restart cannot cure. So the truth is read from
the run folder: status.json and RUN/ranks.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.errors import ExitCode
from cluster.local import signal_tree, start_guarded
from cluster.torchrun import JOIN_SECONDS, MEETING_VARIABLE, RENDEZVOUS_LOST, Group, agent_command, agent_environment
from jobs.command.provenance import provenance
from jobs.command.stop_signals import StopSignals, told_of_suspension
from jobs.training import environment, failures, rank_logs
from jobs.training.plan import TrainPlan
from musicvae.training.rank_records import RankError, RankRecord, RankRecords
from musicvae.training.run_folder import RunFolder, disk_full

LOOK_SECONDS = 0.5
OPEN_SECONDS = 20.0
NAMED_SECONDS = 5.0
"""After a failure; ranks start again sooner, unless one does not end or the machines of the launch do not meet."""
GIVE_UP_SECONDS, DEAF_SECONDS = JOIN_SECONDS + 60.0, 2.0
"""After which an agent that still looks for the machine where all meet is killed: after its start, after a signal."""
SAVING_STATES = {"preempted": ExitCode.PREEMPTED, "interrupted": ExitCode.INTERRUPTED}


def launch(run: RunFolder, group: Group, arguments: Sequence[str], signals: StopSignals, *, max_restarts: int) -> int:
    """Runs one launch of `jobs.train` on the ranks of this node and gives what it ended with.

    Args:
        run: opened.
        arguments: of `jobs.train`, for the ranks.
        signals: what this process hears; it is handed on to the agent.
        max_restarts: restarts in a row that may pass without a new checkpoint.
    """
    logs = rank_logs.logs_of(run.path)
    logs.mkdir(exist_ok=True)
    oom_kills = _oom_kills()
    with _store_folder(group) as stores:
        starts, agent_starts = socket.socketpair()
        starts.setblocking(False)
        agent = start_guarded(
            agent_command("jobs.training.torchrun_agent", group, "jobs.train", *arguments),
            {
                **agent_environment(group),
                environment.LAUNCHER_VARIABLE: "elastic" if group.elastic else "fixed",
                environment.LOG_VARIABLE: str(logs / f"torchrun-{socket.gethostname()}.log"),
                environment.STARTS_VARIABLE: str(agent_starts.fileno()),
                environment.STORES_VARIABLE: stores,
            },
            when_orphaned=signal.SIGUSR2,
            pass_fds=[agent_starts.fileno()],
        )
        agent_starts.close()
        watch = LaunchWatch(run, group, max_restarts, starts)
        try:
            with told_of_suspension(
                lambda: signal_tree(agent.pid, signal.SIGTSTP), lambda: signal_tree(agent.pid, signal.SIGCONT)
            ):
                _supervise(agent, signals, watch)
                _await_orphans(watch, group.shutdown_seconds)
        except KeyboardInterrupt:  # the second Ctrl-C
            signal_tree(agent.pid, signal.SIGKILL)
            agent.wait()
            print("interrupted; work that was not saved is lost", file=sys.stderr)
            return ExitCode.INTERRUPTED
    watch.look(everywhere=True)
    return _verdict(run, agent.returncode, signals, watch, killed_for_memory=_oom_kills() > oom_kills)


def _store_folder(group: Group) -> AbstractContextManager[str]:
    """The folder in which the ranks of one machine meet, closed to other users; empty for several machines.

    torch's own store is a port on all interfaces that lets everybody read and write.
    """
    if group.max_nodes > 1:
        return nullcontext("")
    return TemporaryDirectory(prefix="musicvae-ranks-", ignore_cleanup_errors=True)


def open_run(plan: TrainPlan, *, several: bool) -> None:
    """Opens the run folder, so that ranks can write to it from their first moment; the first of several launchers does.

    Raises:
        ConfigError: as `RunFolder.open` does.
    """
    path = plan.folder.path
    if several:
        try:
            path.mkdir(parents=True)
        except OSError:  # another launcher is opening it, or `open` will tell what is wrong
            deadline = time.monotonic() + OPEN_SECONDS
            while not plan.folder.config.exists() and time.monotonic() < deadline and _is_empty(path):
                time.sleep(0.1)
    plan.folder.open(plan.identity, plan.settings.model_dump(mode="json"), provenance())


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


class LaunchWatch:
    """What the ranks' records and the agent tell while they run: failures, restarts, and when to give up.

    Args:
        starts: where the agent of this machine reports each start of its ranks, as `FAILURES FIRST_RANK RANKS`, and
            waits after a failure until it hears that it may; closed once it has ended. Not blocking.

    Attributes:
        failure: of the last attempt that failed.
        over: no restart can help, or too many did not.
        begun: the agent has met those of the other machines and has started its ranks.
        stopped: all ranks agreed to stop and saved; an agent whose peers have gone would wait for them.
    """

    def __init__(self, run: RunFolder, group: Group, max_restarts: int, starts: socket.socket) -> None:
        self.run, self.group = run, group
        self.launch_id = group.identity
        self.elastic = group.elastic
        self.restarts = failures.Restarts(run, max_restarts)
        self.begun = False
        self._starts = starts
        self._failed_here = 0
        self._ranks_here = range(0)
        self._counted: set[RankError] = set()
        self.records: list[RankRecord] = []
        self.errors: list[RankError] = []
        self.failure: failures.Failure | None = None
        self.attempt = 0
        self.stopped = False
        self._failing_since: float | None = None
        self._named: failures.Failure | None = None
        self._first_status = run.read_status()

    @property
    def over(self) -> bool:
        return self._was_last or any(error.category in failures.FINAL and not error.secondary for error in self.errors)

    @property
    def _was_last(self) -> bool:
        """Whether the attempt that ended is not to be followed by another."""
        return self.restarts.used_up or (self.failure is not None and self.failure.category in failures.FINAL)

    def look(self, *, everywhere: bool = False) -> None:
        """Reads the records; tells of a restart.

        Many launchers that read what all ranks write are too much for a shared file system: while nothing fails, each
        looks at the ranks of its own machine.

        Args:
            everywhere: reads the records of all ranks even so.
        """
        failed_here = self._read_starts()  # before the records: those of failed ranks are whole by then
        files = RankRecords(self.run.ranks)
        errors = files.errors_of(self.launch_id)
        records = files.of(self.launch_id, self._ranks_here)
        attempt = max([self.attempt, failed_here, *(record.attempt for record in records)])
        new = any(error.attempt >= self.attempt and error not in self.errors for error in errors)
        fails = new or attempt > self.attempt or failed_here > self._failed_here
        if everywhere or fails:
            records = files.of(self.launch_id)
            attempt = max([attempt, *(record.attempt for record in records)])
        if attempt > self.attempt or failed_here > self._failed_here:
            old = [error for error in errors if error.attempt < attempt] or self.errors
            new_errors = [error for error in old if error not in self._counted]
            self._counted |= set(new_errors)
            # Some ranks may have written over their records since they were last read.
            seen = [*self.records, *(record for record in records if record.attempt == self.attempt)]
            self._attempt_ended(_by_rank(seen), new_errors)
            if failed_here > self._failed_here and not self._was_last:
                with suppress(OSError):  # the agent has ended
                    self._starts.send(environment.START_AGAIN, socket.MSG_NOSIGNAL)
            self.attempt, self._failed_here = attempt, failed_here
        status = self.run.read_status()
        self.stopped = (
            not self.elastic
            and status.get("launch") == self.launch_id
            and status.get("state") in SAVING_STATES
            and status != self._first_status
        )
        now = [record for record in records if self.elastic or record.attempt == attempt]
        self.records = now if everywhere or fails else _by_rank([*self.records, *now])
        self.errors = [error for error in errors if self.elastic or error.attempt == attempt]
        self._name_while_waiting()

    def _name_while_waiting(self) -> None:
        """Says what has failed, once, if the ranks do not start again soon after it."""
        errors = [error for error in self.errors if error not in self._counted]
        if not errors:
            self._failing_since = None
            return
        now = time.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._failing_since > NAMED_SECONDS and self._named is None:
            self._named = failures.first_failure(self.records, errors)
            if self._named:
                wait = _others(self.group) if self.group.max_nodes > 1 else "all ranks to end"
                print(f"{self._named.one_line()}; waiting for {wait}", file=sys.stderr)

    def last_failure(self) -> failures.Failure | None:
        """Of the attempt under way, or else of the one before; what came of giving up is no failure of its own."""
        if self._was_last:
            return self.failure
        failure = failures.first_failure(self.records, self.errors)
        return self._explained(failure) if failure else self.failure

    def _attempt_ended(self, records: Sequence[RankRecord], errors: Sequence[RankError]) -> None:
        failure = failures.first_failure(records, errors)
        if not records and not errors:
            failure = failures.unborn(self.group.ranks * self.group.max_nodes, socket.gethostname())
        if failure is None:
            print("the ranks restart because nodes joined or left", file=sys.stderr)
            return
        self.failure, self._named = self._explained(failure), None
        self.restarts.count_failure()
        if not self._was_last:
            self.restarts.tell(self.failure.one_line())

    def _explained(self, failure: failures.Failure) -> failures.Failure:
        """The same, or that the disk is full: then a rank cannot even write down that it failed, nor why."""
        if failure.category in failures.FINAL or not (full := disk_full(self.run)):
            return failure
        return replace(failure, category="disk", message=str(full), traceback="")

    def _read_starts(self) -> int:
        """How often the agent of this machine has reported failed ranks."""
        failed = self._failed_here
        with suppress(OSError):  # nothing more is there, or the agent was killed
            while report := self._starts.recv(1 << 16):
                if not self.begun and (folder := os.environ.get(MEETING_VARIABLE)):
                    with suppress(OSError):
                        Path(folder, "met").touch()
                failed, first, ranks = map(int, report.splitlines()[-1].split())
                self.begun, self._ranks_here = True, range(first, first + ranks)
        return failed


def _by_rank(records: Sequence[RankRecord]) -> list[RankRecord]:
    """The last of these of each rank."""
    return list({record.rank: record for record in records}.values())


def _supervise(agent: subprocess.Popen[bytes], signals: StopSignals, watch: LaunchWatch) -> None:
    """Hands signals on and ends the agent where it would restart in vain; returns when it has ended."""
    handed_on: set[signal.Signals] = set()
    began = time.monotonic()
    looked, announced, give_up_at = 0.0, watch.group.min_nodes == 1, began + GIVE_UP_SECONDS

    def hand_on(number: signal.Signals) -> None:
        nonlocal give_up_at
        if number not in handed_on and agent.poll() is None:
            handed_on.add(number)
            agent.send_signal(number)
            give_up_at = min(give_up_at, time.monotonic() + DEAF_SECONDS)

    while agent.poll() is None:
        signals.look()
        if signals.user:
            hand_on(signal.SIGINT)
        elif signals.scheduler:
            hand_on(signal.SIGUSR2)
        if time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            watch.look()
        if watch.over or watch.stopped:
            hand_on(signal.SIGUSR2)
        if not announced and not watch.begun and time.monotonic() - began > environment.ANNOUNCE_SECONDS:
            announced = True
            print(f"waiting for {_others(watch.group)}; this launch gives up after {JOIN_SECONDS} s", file=sys.stderr)
        if watch.group.max_nodes > 1 and not watch.begun and time.monotonic() > give_up_at:
            agent.kill()  # it has no ranks yet
        with suppress(subprocess.TimeoutExpired):
            agent.wait(0.1)


def _others(group: Group) -> str:
    others = group.min_nodes - 1
    return f"{others} other machine(s) at {group.endpoint} with --rendezvous-id {group.identity}"


def _await_orphans(watch: LaunchWatch, seconds: float) -> None:
    """Waits for ranks of an agent that died before them: they notice, save and leave."""
    deadline = time.monotonic() + seconds
    here = socket.gethostname()

    def alive() -> bool:
        watch.look(everywhere=True)
        return any(not r.ended and (_runs(r.pid) if r.host == here else watch.stopped) for r in watch.records)

    while alive() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _runs(pid: int) -> bool:
    return b"jobs.train" in _command_line(pid)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _verdict(
    run: RunFolder, agent_code: int, signals: StopSignals, watch: LaunchWatch, *, killed_for_memory: bool
) -> int:
    status = run.read_status()
    state = status.get("state") if status.get("launch") == watch.launch_id else None
    failure = watch.last_failure()
    if agent_code == 0 and state not in SAVING_STATES:
        return ExitCode.SUCCESS
    if not watch.over:
        asked = ExitCode.INTERRUPTED if signals.user else ExitCode.PREEMPTED if signals.scheduler else None
        code = asked or SAVING_STATES.get(str(state))
        if code is not None:
            run.close_status(watch.launch_id, "interrupted" if code == ExitCode.INTERRUPTED else "preempted")
            print(f"stopped at step {status.get('step', 0)}; run the same command again to resume", file=sys.stderr)
            return code
    step = run.saved_step()
    lost = agent_code == RENDEZVOUS_LOST and watch.begun and not watch.over
    if lost and step and state not in ("failed", "diverged"):  # as the launcher there has said
        run.close_status(watch.launch_id, "preempted")
        print(f"{watch.group.endpoint}, where the machines of this launch meet, is lost", file=sys.stderr)
        print(f"run the same command again to resume from step {step}", file=sys.stderr)
        return ExitCode.PREEMPTED
    if failure is None:
        log = rank_logs.logs_of(run.path) / f"torchrun-{socket.gethostname()}.log"
        problem = "the ranks did not start"
        if watch.group.min_nodes > 1 and not watch.begun:
            problem = f"the ranks did not start: no sign of {_others(watch.group)}"
        print(f"error: {problem}\n  log       {log}", file=sys.stderr)
        return ExitCode.UNEXPECTED
    run.close_status(
        watch.launch_id, "diverged" if failure.category == "diverged" else "failed", failure=asdict(failure)
    )
    print(_summary(run, failure, watch, killed_for_memory=killed_for_memory), file=sys.stderr)
    return failure.exit_code


def _summary(run: RunFolder, failure: failures.Failure, watch: LaunchWatch, *, killed_for_memory: bool) -> str:
    """The last thing that a user reads: who failed first, where, why, and where to read on."""
    log = rank_logs.log_of(run.path, failure.rank)
    rows = [
        f"error: {failure.category}: rank {failure.rank} of {failure.world_size} failed first, on {failure.host} "
        f"(process {failure.pid}), at step {failure.step} in phase {failure.phase!r}",
        *(f"  {line}" for line in failure.message.splitlines()),
        *(f"  | {line}" for line in failure.traceback.splitlines()),
    ]
    if failure.category == "killed":
        rows += [f"  | {line}" for line in rank_logs.last_words(log)]
    if failure.category == "killed" and killed_for_memory:
        rows.append("  likely    too little memory: the kernel killed a process of this machine during this launch")
    if (restarts := watch.restarts).used_up:
        rows.append(
            f"  restarts  {restarts.fruitless - 1} without a new checkpoint after step {restarts.step}; "
            f"resources.max_restarts = {restarts.most}"
        )
    others = [record.rank for record in watch.records if record.rank != failure.rank]
    if others:
        rows.append(f"  others    {len(others)} rank(s) ended as a result")
    rows.append(f"  log       {log}")
    stack = RankRecords(run.ranks).stack(failure.rank)
    if failure.category == "hang" and stack.exists() and stack.stat().st_size:
        rows.append(f"  stack     {stack}")
    return "\n".join(rows)


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since this machine started; 0 where it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
