"""What one rank does inside a worker of Ray Train, from its first check to its end; knows nothing of Ray itself."""

import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

import torch

from jobs.training.messages import Asked, RankJob, Stopped
from jobs.training.plan import plan_for
from jobs.training.rank import train_in_world
from jobs.training.rank_life import failures_recorded
from jobs.training.rank_logs import log_of
from jobs.training.same_everywhere import check_same_everywhere
from jobs.training.settings import TrainConfig
from musicvae.errors import ConfigError, DivergedError, StoppedError
from musicvae.settings import parse_settings
from musicvae.training.heartbeat import Pulse
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder, State, checkpoints
from musicvae.training.stopping import Wish
from musicvae.training.world import World


def train_as_rank(
    job: RankJob,
    *,
    rank: int,
    world_size: int,
    device: torch.device,
    cpus: int,
    asked: Callable[[], Asked],
    tell: Callable[[str], object],
) -> Stopped | DivergedError | None:
    """Trains as one rank of the default process group; None where the run was finished.

    What all ranks end with alike is returned, so that none of them is killed while rank 0 still writes.

    Args:
        cpus: the share of the machine that Ray gives this rank.
        asked: what was asked so far.
        tell: shows a line to the user; called on rank 0 alone.

    Raises:
        ConfigError: this node does not see the run or the shards; it is named.
        UserError: as `fit` raises.
    """
    folder = RunFolder(job.run)
    check_sees_run(folder, job)
    pulse = Pulse(RankRecords(folder.ranks), rank=rank, world_size=world_size, launch=job.launch, attempt=job.attempt)
    with speaking(job, rank, tell if rank == 0 else None):
        try:
            with failures_recorded(pulse, folder):
                pulse.start()
                return _train(job, pulse, device, cpus, asked)
        except DivergedError as diverged:
            return diverged


def _train(job: RankJob, pulse: Pulse, device: torch.device, cpus: int, asked: Callable[[], Asked]) -> Stopped | None:
    settings = parse_settings(TrainConfig, job.settings)
    try:
        plan = plan_for(settings, job.shards, job.run, job.init_from)
    except (ConfigError, OSError) as error:
        raise ConfigError(
            f"node {socket.gethostname()} cannot train in {job.run}",
            expected="the files that the driver has checked",
            found=str(error).replace("\n", "; "),
            likely="shards or weights on one machine's own disk",
            do="put them on a file system that all nodes share, under the same paths",
        ) from None
    torch.set_num_threads(settings.resources.threads or cpus)
    pulse.watch(settings.resources.hang_seconds)
    world = World.joined(device=device)
    versions = check_same_everywhere(world, manifest=plan.manifest.fingerprint, run=plan.identity.run_id)
    again = False

    def state_after(stopped: StoppedError) -> State | None:
        nonlocal again
        heard = world.gather(asked())
        leave = max(one.leave for one in heard)
        again = leave == Wish.GO_ON and any(one.again for one in heard)
        return None if again else "interrupted" if stopped.by_user else "preempted"

    try:
        train_in_world(
            plan,
            world,
            pulse,
            alive={(version.host, version.pid) for version in versions},
            resumed=bool(checkpoints(plan.folder.checkpoints)),
            wish=lambda: asked().wish,
            state_after=state_after,
            ends_launch=False,
        )
    except StoppedError as stopped:
        return Stopped(stopped.step, stopped.by_user, again)
    return None


def check_sees_run(folder: RunFolder, job: RankJob) -> None:
    """Makes sure that the run folder here is the one that the driver has opened.

    Raises:
        ConfigError: it is not; this node is named.
    """
    if not folder.config.exists():
        found = f"no {folder.config}"
    elif folder.read_config()["provenance"] != job.provenance:
        found = f"another run in {folder.path}"
    elif not os.access(folder.path, os.W_OK):
        found = f"{folder.path} cannot be written to"
    else:
        return
    raise ConfigError(
        f"node {socket.gethostname()} does not see the run folder",
        expected="a folder that all nodes share, under the same path",
        found=found,
        likely="a folder on one machine's own disk",
        do="put --run and --shards on the shared file system, or leave --ray-address out",
    )


@contextmanager
def speaking(job: RankJob, rank: int, tell: Callable[[str], object] | None) -> Iterator[None]:
    """Sends what Python code prints to the rank's log, and rank 0's standard output to the user as well."""
    path = log_of(job.run, rank)
    path.parent.mkdir(exist_ok=True)
    with path.open("a", buffering=1) as log:
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        log.write(f"--- {when} launch {job.launch}, attempt {job.attempt}, rank {rank}, process {os.getpid()}\n")
        with redirect_stdout(_Output(log, tell)), redirect_stderr(_Output(log, None)):
            yield


class _Output(io.TextIOBase):
    """Writes to a log, and hands whole lines on."""

    def __init__(self, log: TextIO, tell: Callable[[str], object] | None) -> None:
        self._log, self._tell, self._begun = log, tell, ""

    def write(self, text: str) -> int:
        self._log.write(text)
        if self._tell:
            *lines, self._begun = (self._begun + text).split("\n")
            for line in lines:
                self._tell(line)
        return len(text)

    def flush(self) -> None:
        self._log.flush()
