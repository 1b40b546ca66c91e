"""What one rank does from its settings to its end: under `jobs.train`, in Ray Train, or in a trial of a sweep."""

import io
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TextIO

import torch

from cluster.errors import ExitCode
from cluster.local import usable_cpus
from jobs.command.command_line import console, show_next
from jobs.command.provenance import provenance
from jobs.command.stop_signals import StopSignals
from jobs.training.environment import (
    attempt,
    cpus_of_rank,
    launch_id,
    launched_by,
    launched_by_torchrun,
    local_rank,
    local_ranks,
    local_size,
    meeting_place,
    only_main_speaks,
    store_file,
    waiting_for_others,
    wrong_cpus,
)
from jobs.training.failures import failures_recorded
from jobs.training.messages import RankJob, Stopped, StopRequest
from jobs.training.plan import TrainPlan, TrainRequest, describe, plan_for, prepare
from jobs.training.rank_logs import log_of
from jobs.training.same_everywhere import RankVersion, check_same_everywhere, version_of_rank
from jobs.training.settings import ResourceSettings, TrainConfig
from jobs.training.tracking import TerminalTracker, WandbTracker
from musicvae.errors import ConfigError, DivergedError, StoppedError, SupersededError
from musicvae.kept_memory import keep_freed_memory
from musicvae.model.model import MusicVAE
from musicvae.pretrained.model import TrainedModel
from musicvae.settings import parse_settings
from musicvae.training.fit import fit
from musicvae.training.heartbeat import Heartbeat, group_seconds
from musicvae.training.progress import Tracker, Trackers
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder, State, checkpoints, disk_full_explained
from musicvae.training.state import matching_components, start_from
from musicvae.training.stopping import Stop
from musicvae.training.world import Meeting, World


class StopSource(Protocol):
    """What may ask a training to stop."""

    def stop(self) -> Stop:
        """What this process asks of all."""
        ...

    def state_after(self, stopped: StoppedError, world: World) -> State | None:
        """The state of a run after an agreed stop, None where it goes on at once; called on every rank."""
        ...


@dataclass(slots=True)
class StopsBySignal:
    """Stops of a rank under torchrun, or of one alone.

    Attributes:
        starts_again: whether torchrun is to start the ranks again: where it stopped them itself, or where only some of
            the nodes of an elastic launch are leaving.
    """

    signals: StopSignals
    starts_again: bool = False

    def stop(self) -> Stop:
        if not self.signals.any:
            return Stop.GO_ON
        return Stop.STOP_FOR_USER if self.signals.user else Stop.STOP_FOR_SCHEDULER

    def state_after(self, stopped: StoppedError, world: World) -> State | None:
        stop_signals = world.gather((self.signals.scheduler, self.signals.restart))
        asked = [scheduler for scheduler, _ in stop_signals]
        if stopped.by_user:
            return "interrupted"
        if any(restart for _, restart in stop_signals) and not any(asked):
            self.starts_again = True
            return None
        self.starts_again = launched_by() == "elastic" and any(asked) and not all(asked)
        return "preempted"


@dataclass(slots=True)
class StopsByDriver:
    """Stops that a driver asks for.

    Args:
        asked: what was asked so far.

    Attributes:
        again: whether all ranks are to start again.
    """

    asked: Callable[[], StopRequest]
    again: bool = False

    def stop(self) -> Stop:
        return self.asked().stop

    def state_after(self, stopped: StoppedError, world: World) -> State | None:
        requests = world.gather(self.asked())
        leave = max(request.leave for request in requests)
        self.again = leave == Stop.GO_ON and any(request.again for request in requests)
        return None if self.again else "interrupted" if stopped.by_user else "preempted"


def train_rank(
    request: TrainRequest, signals: StopSignals, heartbeat: Heartbeat, stop_before: float | None
) -> ExitCode:
    """Trains as one rank among those that torchrun's variables describe, or alone; gives what the process ends with."""
    with only_main_speaks():
        plan = prepare(request)
    resources = plan.settings.resources
    if not launched_by_torchrun():
        signals.stop_ahead(stop_before, resources.stop_margin_seconds)
    elif stop_before is not None:
        signals.stop_at(stop_before - resources.stop_margin_seconds)
    heartbeat.watch(resources.hang_seconds)
    with signals.ending_at_once() if launched_by_torchrun() else nullcontext():
        world = join_world(plan)
    settings = plan.settings.model_dump(mode="json")
    world.on_main(lambda: plan.folder.open(plan.identity, settings, provenance()))
    heartbeat.launch_id = world.on_main(launch_id)
    is_restart = launched_by_torchrun() and not launched_by() and attempt() > 0
    if is_restart and was_preempted(plan.folder, heartbeat.launch_id):
        refusal = StoppedError(plan.folder.read_status().get("step", 0), by_user=False)
        refusal.shown_elsewhere = not world.is_main
        raise refusal
    stops = StopsBySignal(signals)
    try:
        with ExitStack() as held:
            if not launched_by():
                world.on_main(lambda: held.enter_context(plan.folder.launching(heartbeat.launch_id)))
            train_in_world(plan, world, heartbeat, stops, ends_launch=not launched_by())
    except StoppedError:
        if launched_by() and not stops.starts_again:
            return ExitCode.SUCCESS  # torchrun would start again what ends otherwise; the launcher reads the state
        raise
    return ExitCode.SUCCESS


def was_preempted(folder: RunFolder, launch_id: str) -> bool:
    """Whether this very launch was told to leave: plain torchrun starts ranks again that left by themselves."""
    status = folder.read_status()
    return status.get("state") == "preempted" and status.get("launch") == launch_id


def join_world(plan: TrainPlan) -> World:
    """The world that torchrun describes, or a world of one; sets this process's CPU threads and keeps its memory.

    Raises:
        ConfigError: there are fewer CUDA devices than ranks; ranks differ in what has to agree; or the other ranks do
            not come, and nobody else would notice.
    """
    resources = plan.settings.resources
    torch.set_num_threads(resources.threads or max(1, usable_cpus() // local_size()))
    device = _device(resources, local_rank(), local_size())
    if device.type == "cpu":
        keep_freed_memory()
    if not launched_by_torchrun():
        return World.single(device)
    timeout = timedelta(seconds=group_seconds(resources.hang_seconds))
    if path := store_file():
        meeting = Meeting.in_file(path, timeout)
    elif launched_by():  # the launcher starts the ranks again where some of them do not come
        meeting = Meeting.at_master(timeout)
    else:
        with waiting_for_others(resources.join_seconds):
            meeting = Meeting.at_master(timeout, patience=timedelta(seconds=resources.join_seconds))
    # Before a backend starts: one of two kinds of devices would wait for the other until the timeout.
    check_same_everywhere(meeting.exchange, version_of(plan, device), rank=meeting.rank)
    return World.join(meeting, device=device, timeout=timeout)


def version_of(plan: TrainPlan, device: torch.device) -> RankVersion:
    """What this rank tells the others before they begin."""
    return version_of_rank(device, manifest=plan.manifest.fingerprint, run=plan.identity.run_id)


def _device(resources: ResourceSettings, local_rank: int, local_size: int) -> torch.device:
    count = torch.cuda.device_count()
    wanted = resources.device == "cuda" or (resources.device == "auto" and count > 0)
    if wanted and count < local_size:
        raise ConfigError(
            "not enough CUDA devices",
            expected=f"one for each of the {local_size} rank(s) on this machine",
            found=str(count),
            likely="a CPU build of torch, or fewer GPUs than --ranks",
            do="use fewer ranks or resources.device=cpu, or install a CUDA build (make install TORCH_INDEX=...)",
        )
    return torch.device("cuda", local_rank) if wanted else torch.device("cpu")


def train_as_rank(
    job: RankJob,
    *,
    rank: int,
    world_size: int,
    device: torch.device,
    cpus: int,
    asked: Callable[[], StopRequest],
    emit: Callable[[str], object],
) -> Stopped | DivergedError | None:
    """Trains as one rank of those that Ray Train has started; None where the run was finished.

    What all ranks end with alike is returned, so that none of them is killed while rank 0 still writes.

    Args:
        cpus: the share of the machine that Ray gives this rank.
        asked: what was asked so far.
        emit: shows a line to the user; called on rank 0 alone.

    Raises:
        ConfigError: this node does not see the run or the shards; it is named.
        UserError: as `fit` raises.
    """
    folder = RunFolder(job.run)
    check_sees_run(job)
    heartbeat = Heartbeat(
        RankRecords(folder.ranks),
        rank=rank,
        world_size=world_size,
        launch_id=job.launch_id,
        attempt=job.attempt,
        neighbours=local_ranks(),
        meeting=meeting_place(),
    )
    with speaking(job, rank, emit if rank == 0 else None):
        try:
            with failures_recorded(heartbeat, folder):
                heartbeat.start()
                return _train(job, heartbeat, device, cpus, asked)
        except DivergedError as diverged:
            return diverged


def _train(
    job: RankJob, heartbeat: Heartbeat, device: torch.device, cpus: int, asked: Callable[[], StopRequest]
) -> Stopped | None:
    settings = parse_settings(TrainConfig, job.settings)
    try:
        plan = plan_for(settings, job.shards, job.run, job.init_from)
    except (ConfigError, OSError) as error:
        raise ConfigError(
            f"node {socket.gethostname()} cannot train in {job.run}",
            expected="the files that the driver has checked",
            found=str(error).replace("\n", "; "),
            likely="shards or weights on the local disk of one machine",
            do="put them on a file system that all nodes share under the same paths",
        ) from None
    torch.set_num_threads(settings.resources.threads or cpus)
    hang_seconds = settings.resources.hang_seconds
    heartbeat.watch(hang_seconds)
    timeout = timedelta(seconds=group_seconds(hang_seconds))
    if path := store_file():
        world = World.join(Meeting.in_file(path, timeout), device=device, timeout=timeout)
    else:
        world = World.joined(device=device, timeout=timeout)
    check_same_everywhere(world.gather, version_of(plan, device), rank=world.rank)
    stops = StopsByDriver(asked)
    try:
        train_in_world(plan, world, heartbeat, stops, ends_launch=False)
    except StoppedError as stopped:
        return Stopped(stopped.step, stopped.by_user, stops.again)
    return None


def train_in_world(
    plan: TrainPlan,
    world: World,
    heartbeat: Heartbeat,
    stops: StopSource,
    *,
    ends_launch: bool,
) -> None:
    """Trains to the end of the plan, leaves the final state in status.json, and leaves the world.

    Args:
        plan: with an opened run folder.
        heartbeat: of this rank; begins once the folder is held.
        ends_launch: whether a failure is the end of the launch; otherwise whoever launched it knows and says.

    Raises:
        StoppedError, UserError: as `fit` does; where all ranks raise alike, rank 0's own is the one to show.
    """
    rank_cpus = world.gather(cpus_of_rank())
    if not ends_launch:  # and it has a log
        print(f"rank {world.rank} may use {rank_cpus[world.rank]}", file=sys.stderr)
    with disk_full_explained(plan.folder), ExitStack() as held:
        held_folder = world.on_main(lambda: held.enter_context(plan.folder.held(heartbeat.launch_id)))
        folder = held_folder if world.is_main else plan.folder
        if world.is_main:
            heartbeat.records.forget_all_but({(rank.host, rank.pid) for rank in rank_cpus})
        heartbeat.start()
        tracker = main_tracker(plan, folder, world, list(wrong_cpus(rank_cpus))) if world.is_main else Trackers([])
        state: State | None = "failed"
        initial = plan.initial
        try:
            fit(
                plan.settings,
                plan.source,
                folder,
                world,
                tracker,
                initial_weights=(lambda model: _start(model, initial, plan, tracker)) if initial else None,
                stop_requested=stops.stop,
                beat=heartbeat.beat,
            )
            state = "finished"
        except StoppedError as stopped:
            stopped.shown_elsewhere = not world.is_main
            state = stops.state_after(stopped, world)
            raise
        except DivergedError as diverged:
            state = "diverged"
            diverged.shown_elsewhere = not world.is_main
            raise
        finally:
            if world.is_main and state is not None and (ends_launch or state != "failed"):
                with suppress(SupersededError, *([OSError] if state == "failed" else [])):
                    folder.finish_status(state)
            tracker.close(state or "stopped for a restart")
            if state not in ("failed", "diverged"):  # the others may not be leaving, and would be waited for
                world.leave()
    if world.is_main:
        console.print(f"best weights: {folder.best}", soft_wrap=True)
        if plan.settings.performance:
            show_next("report", folder.path)
        else:
            show_next("sample", "--run", folder.path, "--count", 64, "--out", "grooves/first")


def main_tracker(plan: TrainPlan, folder: RunFolder, world: World, warnings: Sequence[str]) -> Tracker:
    """What rank 0 tells: the terminal, and W&B where it is wanted."""
    settings = plan.settings
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
    console.print(describe(plan, world, resumed=bool(checkpoints(folder.checkpoints))), soft_wrap=True)
    terminal = TerminalTracker(console, total=settings.train.steps, global_batch=settings.train.global_batch)
    if settings.tracking.wandb == "off":
        return Trackers([terminal])
    return Trackers([terminal, WandbTracker(settings.tracking, folder.path, warn=terminal.say)])


def _start(model: MusicVAE, initial: TrainedModel, plan: TrainPlan, tracker: Tracker) -> None:
    parts = matching_components(plan.settings.model, initial.settings)
    if anew := start_from(model, initial.model, parts):
        tracker.say(f"randomly initialised, as the weights of --init-from do not fit: {', '.join(anew)}")


def check_sees_run(job: RankJob) -> None:
    """Makes sure that the run folder here is the one that the driver has opened.

    Raises:
        ConfigError: it is not; this node is named.
    """
    problem = job.blind_spot()
    if not problem:
        return
    raise ConfigError(
        f"node {socket.gethostname()} does not see the run folder",
        expected="a folder that all nodes share under the same path",
        found=problem,
        likely="a folder on the local disk of one machine",
        do="put --run and --shards on the shared file system, or leave --ray-address out",
    )


@contextmanager
def speaking(job: RankJob, rank: int, emit: Callable[[str], object] | None) -> Iterator[None]:
    """Sends what Python code prints to the rank's log, and rank 0's standard output to the user as well."""
    path = log_of(job.run, rank)
    path.parent.mkdir(exist_ok=True)
    with path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as log:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        log.write(f"--- {when} launch {job.launch_id}, attempt {job.attempt}, rank {rank}, process {os.getpid()}\n")
        with redirect_stdout(_Output(log, emit)), redirect_stderr(_Output(log, None)):
            yield


class _Output(io.TextIOBase):
    """Writes to a log, and hands whole lines on."""

    def __init__(self, log: TextIO, emit: Callable[[str], object] | None) -> None:
        self._log, self._emit, self._begun = log, emit, ""

    def write(self, text: str) -> int:
        self._log.write(text)
        if self._emit:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                self._emit(line)
        return len(text)

    def flush(self) -> None:
        self._log.flush()
