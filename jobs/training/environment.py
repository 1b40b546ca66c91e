"""Who this process is in which launch, from torchrun's variables; which machines take part, from the scheduler's."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cluster.torchrun import Group
from musicvae.errors import ConfigError, UserError
from musicvae.kept_memory import keep_freed_memory

if TYPE_CHECKING:  # torch takes seconds to load, in which no signal would be heard
    import torch

    from jobs.training.settings import ResourceSettings
    from musicvae.training.world import World

LAUNCHER_VARIABLE = "GROOVES_LAUNCHER"
"""Set for the ranks of `jobs.train --ranks`: whether nodes may leave and join."""

LOG_VARIABLE = "GROOVES_AGENT_LOG"
"""Names the file that the torchrun agent logs to."""


def launched_by_torchrun() -> bool:
    """Whether torchrun, or anything that sets its variables, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launcher() -> Literal["fixed", "elastic"] | None:
    """The kind of launch if our own launcher started torchrun."""
    match os.environ.get(LAUNCHER_VARIABLE):
        case "fixed":
            return "fixed"
        case "elastic":
            return "elastic"
        case _:
            return None


def own_rank() -> int:
    """This process among all of the launch."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def attempt() -> int:
    """How often torchrun has started the ranks again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


@cache
def launch_id() -> str:
    """The same for all ranks of this machine and all restarts of one launch, another for every new launch.

    torchrun's own identity where it is one (`--standalone`, one given by our launcher or by --rdzv-id); its default
    for several nodes is "none", and then the agent process stands for the launch: rank 0's word holds for all.
    """
    identity = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if identity != "none":
        return identity
    if launched_by_torchrun():
        return f"{socket.gethostname()}-{os.getppid()}-{_start_of(os.getppid())}"
    return secrets.token_hex(8)


def _start_of(pid: int) -> str:
    """When a process began, in clock ticks since the machine did; a process number alone is used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "0"


@contextmanager
def only_main_speaks() -> Iterator[None]:
    """For checks that every rank makes alike before it has joined the others: rank 0 alone shows what they raise."""
    try:
        yield
    except UserError as error:
        error.shown_elsewhere = own_rank() != 0
        raise


def join_world(resources: "ResourceSettings") -> "World":
    """The world that torchrun describes, or a world of one; sets this process's CPU threads and keeps its memory.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    import torch

    from musicvae.training.world import World

    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(resources.threads or max(1, cores // local_size))
    device = _device(resources, local_rank, local_size)
    if device.type == "cpu":
        keep_freed_memory()
    return World.join(device=device) if launched_by_torchrun() else World.single(device)


def _device(resources: "ResourceSettings", local_rank: int, local_size: int) -> "torch.device":
    import torch

    count = torch.cuda.device_count()
    if resources.device == "cuda" and count < local_size:
        raise ConfigError(
            "not enough CUDA devices",
            expected=f"one for each of the {local_size} rank(s) on this machine",
            found=str(count),
            likely="a CPU build of torch, or fewer GPUs than --ranks",
            do="make install TORCH_INDEX=... for a CUDA build, or resources.device=cpu",
        )
    if resources.device == "cpu" or count < local_size:
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def group_of(
    ranks: int,
    nodes: str,
    rendezvous: str | None,
    rendezvous_id: str | None,
    *,
    lanes: int,
    shutdown_seconds: int,
) -> Group:
    """The agents of a launch.

    Args:
        ranks: on each machine.
        nodes: N or MIN:MAX.
        rendezvous: HOST:PORT; needed for more than one machine.
        rendezvous_id: the same on all machines; inside a SLURM job its number and restart count, unless given.
        lanes: the largest world that the data can be shared among.

    Raises:
        ConfigError: a number out of range, or several machines and nothing that they have in common.
    """
    low, separator, high = nodes.partition(":")
    try:
        min_nodes, max_nodes = int(low), int(high if separator else low)
    except ValueError:
        min_nodes = max_nodes = 0
    if not 1 <= min_nodes <= max_nodes:
        raise ConfigError(f"--nodes {nodes} is no number of machines", expected="N or MIN:MAX", do="--nodes 2, or 1:4")
    if ranks < 1:
        raise ConfigError(f"--ranks {ranks} is no number of processes", expected="1 or more", do="--ranks 2")
    if ranks * max_nodes > lanes:
        raise ConfigError(
            f"{ranks * max_nodes} ranks cannot share the data",
            expected=f"at most data.lanes = {lanes}",
            found=f"--ranks {ranks} on {max_nodes} machine(s)",
            do="fewer ranks, or a new run with more data.lanes",
        )
    if max_nodes == 1:
        return Group(ranks, 1, 1, "localhost:0", secrets.token_hex(8), shutdown_seconds)
    identity = rendezvous_id or _slurm_launch()
    if not rendezvous or not identity:
        missing = "--rendezvous" if not rendezvous else "--rendezvous-id"
        raise ConfigError(
            f"several machines need {missing}",
            expected="--rendezvous HOST:PORT of one of them, and an identity that is new for every launch",
            do="give the same on every machine; docs/train.sbatch does",
        )
    return Group(ranks, min_nodes, max_nodes, rendezvous, identity, shutdown_seconds)


def _slurm_launch() -> str | None:
    job = os.environ.get("SLURM_JOB_ID")
    return f"{job}.{os.environ.get('SLURM_RESTART_COUNT', '0')}" if job else None
