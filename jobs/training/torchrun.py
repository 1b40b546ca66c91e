"""The launcher behind `jobs.train --ranks`: starts a torchrun agent, watches the ranks' own records, says how it ended.

torchrun ends with 1 whatever its ranks ended with, and restarts what a restart cannot cure. So the truth is read from
the run folder: status.json and RUN/ranks.
"""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from cluster.errors import ExitCode
from cluster.local import signal_tree, start_guarded
from cluster.torchrun import Group, agent_command, agent_environment
from jobs.command.provenance import provenance
from jobs.command.stop_signals import StopSignals, told_of_suspension
from jobs.training.environment import LAUNCHER_VARIABLE, LOG_VARIABLE
from jobs.training.failures import FINAL, Failure, first_failure
from jobs.training.plan import TrainPlan
from jobs.training.rank_logs import last_words, log_of, logs_of
from musicvae.training.rank_records import RankError, RankRecord, RankRecords
from musicvae.training.run_folder import RunFolder, checkpoints, step_of

LOOK_SECONDS = 0.5
OPEN_SECONDS = 20.0
SAVING_STATES = {"preempted": ExitCode.PREEMPTED, "interrupted": ExitCode.INTERRUPTED}


def launch(
    run: RunFolder, group: Group, arguments: Sequence[str], signals: StopSignals, *, max_restarts: int
) -> ExitCode:
    """Runs one launch of `jobs.train` on the ranks of this node and gives what it ended with.

    Args:
        run: opened.
        arguments: of `jobs.train`, for the ranks.
        signals: what this process hears; it is handed on to the agent.
        max_restarts: restarts in a row that may pass without a new checkpoint.
    """
    logs = logs_of(run.path)
    logs.mkdir(exist_ok=True)
    oom_kills = _oom_kills()
    agent = start_guarded(
        agent_command("jobs.training.torchrun_agent", group, "jobs.train", *arguments),
        {
            **agent_environment(group),
            LAUNCHER_VARIABLE: "elastic" if group.elastic else "fixed",
            LOG_VARIABLE: str(logs / f"torchrun-{socket.gethostname()}.log"),
        },
        when_orphaned=signal.SIGUSR2,
    )
    watch = LaunchWatch(run, group, max_restarts)
    try:
        with told_of_suspension(
            lambda: signal_tree(agent.pid, signal.SIGTSTP), lambda: signal_tree(agent.pid, signal.SIGCONT)
        ):
            _supervise(agent, signals, watch)
            _await_orphans(watch, group.shutdown_seconds)
    except KeyboardInterrupt:  # the second Ctrl-C
        signal_tree(agent.pid, signal.SIGKILL)
        agent.wait()
        print("interrupted at once; what was not saved is lost", file=sys.stderr)
        return ExitCode.INTERRUPTED
    watch.look()
    return _verdict(run, agent.returncode, signals, watch, killed_for_memory=_oom_kills() > oom_kills)


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
    """What the ranks' records tell while they run: failures, restarts, and when to give up.

    Attributes:
        failure: of the last attempt that failed.
        over: no restart can help, or too many did not.
        stopped: all ranks agreed to stop and saved; an agent whose peers have gone would wait for them.
    """

    def __init__(self, run: RunFolder, group: Group, max_restarts: int) -> None:
        self.run = run
        self.launch = group.identity
        self.elastic = group.elastic
        self.max_restarts = max_restarts
        self.records: list[RankRecord] = []
        self.errors: list[RankError] = []
        self.failure: Failure | None = None
        self.attempt = 0
        self.without_progress = 0
        self.step = self._saved_step()
        self.gave_up = False
        self.stopped = False
        self._first_status = run.read_status()

    @property
    def over(self) -> bool:
        return self.gave_up or any(error.category in FINAL and not error.secondary for error in self.errors)

    def look(self) -> None:
        """Reads the records; tells of a restart."""
        files = RankRecords(self.run.ranks)
        records, errors = files.of(self.launch), files.errors_of(self.launch)
        attempt = max((record.attempt for record in records), default=self.attempt)
        if attempt > self.attempt:
            old = [error for error in errors if error.attempt < attempt]
            self._attempt_ended(first_failure(self.records, old or self.errors))
            self.attempt = attempt
        status = self.run.read_status()
        self.stopped = (
            not self.elastic
            and status.get("launch") == self.launch
            and status.get("state") in SAVING_STATES
            and status != self._first_status
        )
        self.records = [record for record in records if self.elastic or record.attempt == attempt]
        self.errors = [error for error in errors if self.elastic or error.attempt == attempt]

    def last_failure(self) -> Failure | None:
        """Of the attempt under way, or else of the one before; what came of giving up is no failure of its own."""
        if self.gave_up:
            return self.failure
        return first_failure(self.records, self.errors) or self.failure

    def _attempt_ended(self, failure: Failure | None) -> None:
        if failure is None:
            print("the ranks start again: nodes joined or left", file=sys.stderr)
            return
        self.failure = failure
        step = self._saved_step()
        self.without_progress = 1 if step > self.step else self.without_progress + 1
        self.step = step
        self.gave_up = self.without_progress > self.max_restarts
        if not self.gave_up:
            print(f"{failure.one_line()}; all ranks start again from step {step}", file=sys.stderr)

    def _saved_step(self) -> int:
        newest = checkpoints(self.run.checkpoints)
        return step_of(newest[-1]) if newest else 0


def _supervise(agent: subprocess.Popen[bytes], signals: StopSignals, watch: LaunchWatch) -> None:
    """Hands signals on and ends the agent where it would restart in vain; returns when it has ended."""
    handed_on: set[signal.Signals] = set()

    def hand_on(number: signal.Signals) -> None:
        if number not in handed_on and agent.poll() is None:
            handed_on.add(number)
            agent.send_signal(number)

    looked = 0.0
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
        with suppress(subprocess.TimeoutExpired):
            agent.wait(0.1)


def _await_orphans(watch: LaunchWatch, seconds: float) -> None:
    """Waits for ranks of an agent that died before them: they notice, save and leave."""
    deadline = time.monotonic() + seconds
    here = socket.gethostname()

    def alive() -> bool:
        watch.look()
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
) -> ExitCode:
    status = run.read_status()
    state = status.get("state") if status.get("launch") == watch.launch else None
    failure = watch.last_failure()
    if agent_code == 0 and state not in SAVING_STATES:
        return ExitCode.SUCCESS
    if not watch.over:
        asked = ExitCode.INTERRUPTED if signals.user else ExitCode.PREEMPTED if signals.scheduler else None
        code = asked or SAVING_STATES.get(str(state))
        if code is not None:
            run.close_status(watch.launch, "interrupted" if code == ExitCode.INTERRUPTED else "preempted")
            print(f"stopped at step {status.get('step', 0)}; the same command continues from there", file=sys.stderr)
            return code
    if failure is None:
        log = logs_of(run.path) / f"torchrun-{socket.gethostname()}.log"
        print(f"error: the ranks did not start\n  log       {log}", file=sys.stderr)
        return ExitCode.UNEXPECTED
    run.close_status(watch.launch, "diverged" if failure.category == "diverged" else "failed", failure=asdict(failure))
    print(_summary(run, failure, watch, killed_for_memory=killed_for_memory), file=sys.stderr)
    return failure.exit_code


def _summary(run: RunFolder, failure: Failure, watch: LaunchWatch, *, killed_for_memory: bool) -> str:
    """The last thing that a user reads: who failed first, where, why, and where to read on."""
    log = log_of(run.path, failure.rank)
    rows = [
        f"error: {failure.category}: rank {failure.rank} of {failure.world_size} failed first, on {failure.host} "
        f"(process {failure.pid}), at step {failure.step} in phase {failure.phase!r}",
        *(f"  {line}" for line in failure.message.splitlines()),
        *(f"  | {line}" for line in failure.traceback.splitlines()),
    ]
    if failure.category == "killed":
        rows += [f"  | {line}" for line in last_words(log)]
    if failure.category == "killed" and killed_for_memory:
        rows.append("  likely    memory: the kernel's OOM killer has killed a process here during this launch")
    if watch.gave_up:
        rows.append(
            f"  restarts  {watch.without_progress - 1} without a new checkpoint after step {watch.step}; "
            f"resources.max_restarts = {watch.max_restarts}"
        )
    others = [record.rank for record in watch.records if record.rank != failure.rank]
    if others:
        rows.append(f"  others    {len(others)} rank(s) ended because of it")
    rows.append(f"  log       {log}")
    stack = RankRecords(run.ranks).stack(failure.rank)
    if failure.category == "hang" and stack.exists() and stack.stat().st_size:
        rows.append(f"  stack     {stack}")
    return "\n".join(rows)


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since this machine started; 0 where it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
