"""From torchrun's variables to plain values: who this process is in which launch."""

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from musicvae.errors import ConfigError, UserError
from musicvae.kept_memory import keep_freed_memory

if TYPE_CHECKING:  # torch takes seconds to load, in which no signal would be heard
    import torch

    from jobs.training.settings import ResourceSettings
    from musicvae.training.world import World

LAUNCHER_VARIABLE = "GROOVES_LAUNCHER"
"""Set for the ranks of `jobs.train --ranks`: whether nodes may leave and join."""


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
