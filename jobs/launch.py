"""From torchrun's variables and the operating system's signals to plain values that `fit` understands."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from jobs.train_config import ResourceSettings
from musicvae.errors import ConfigError, UserError
from musicvae.kept_memory import keep_freed_memory
from musicvae.stopping import Wish
from musicvae.world import World


def launched_by_torchrun() -> bool:
    """Whether torchrun, or anything that sets its variables, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def only_main_speaks() -> Iterator[None]:
    """For checks that every rank makes alike before it has joined the others: rank 0 alone shows what they raise."""
    try:
        yield
    except UserError as error:
        error.shown_elsewhere = os.environ.get("RANK", "0") != "0"
        raise


def join_world(resources: ResourceSettings) -> World:
    """The world that torchrun describes, or a world of one; sets this process's CPU threads and keeps its memory.

    Raises:
        ConfigError: CUDA is asked for and absent.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(resources.threads or max(1, cores // local_size))
    device = _device(resources, local_rank, local_size)
    if device.type == "cpu":
        keep_freed_memory()
    return World.join(device=device) if launched_by_torchrun() else World.single(device)


def _device(resources: ResourceSettings, local_rank: int, local_size: int) -> torch.device:
    count = torch.cuda.device_count()
    if resources.device == "cuda" and count < local_size:
        raise ConfigError(
            "not enough CUDA devices",
            expected=f"one for each of the {local_size} rank(s) on this machine",
            found=str(count),
            likely="a CPU build of torch, or fewer GPUs than --nproc-per-node",
            do="make install TORCH_INDEX=... for a CUDA build, or resources.device=cpu",
        )
    if resources.device == "cpu" or count < local_size:
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def listen_for_signals() -> Callable[[], Wish]:
    """Turns signals into a wish that the loop asks for; installed before the process group, so that none is lost.

    SIGUSR2 (schedulers; NCCL may take SIGUSR1) and SIGTERM ask to save and leave, Ctrl-C does the same for the user.
    The handlers only set a flag; a second Ctrl-C ends the process at once. Under torchrun, losing the agent asks to
    leave too: an agent that dies of a signal it was not told to handle leaves its ranks running.
    """
    wishes = [Wish.GO_ON]

    def for_scheduler(number: int, frame: object) -> None:
        wishes.append(Wish.STOP_FOR_SCHEDULER)

    def for_user(number: int, frame: object) -> None:
        wishes.append(Wish.STOP_FOR_USER)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGUSR2, for_scheduler)
    signal.signal(signal.SIGTERM, for_scheduler)
    signal.signal(signal.SIGINT, for_user)
    agent = os.getppid() if launched_by_torchrun() else None

    def wish() -> Wish:
        orphaned = agent is not None and os.getppid() != agent
        return max([*wishes, Wish.STOP_FOR_SCHEDULER if orphaned else Wish.GO_ON])

    return wish
