"""Who this process is in which launch, from torchrun's variables; which machines take part, from the scheduler's."""

import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from cluster.job import START_VARIABLE
from cluster.local import cpu_limits, started
from cluster.slurm import ranges
from cluster.torchrun import Group
from musicvae.errors import AbsentRanksError, ConfigError, UserError

LAUNCHER_VARIABLE = "GROOVES_LAUNCHER"
"""Set for the ranks of `jobs.train --ranks`: whether nodes may leave and join."""

LOG_VARIABLE = "GROOVES_AGENT_LOG"
"""Names the file that the torchrun agent logs to."""

STARTS_VARIABLE = "GROOVES_AGENT_STARTS"
"""The handle of the socket on which the torchrun agent tells of each start of its ranks, and is told to start again."""

START_AGAIN = b"\n"
"""What the agent hears there when ranks that have failed may start again."""

STORES_VARIABLE = "GROOVES_RANK_STORES"
"""Names the folder in which the ranks of one machine meet."""


VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells a rank, and what is left in a shell where somebody has exported them."""
ANNOUNCE_SECONDS = 10.0
"""Ranks that are started together come within a few seconds of each other."""
UNSET = "if this process belongs to no launch, unset the variables:\n            unset " + " ".join(VARIABLES)


def launched_by_torchrun() -> bool:
    """Whether torchrun, or anything that sets its variables, started this process; one of the two says nothing."""
    return bool(os.environ.get("RANK") and os.environ.get("WORLD_SIZE"))


def check_variables() -> None:
    """Makes sure that this process is either alone or knows its place in a launch.

    Raises:
        ConfigError: it has a part of torchrun's variables, or values that cannot be.
    """
    if not launched_by_torchrun():
        return
    if missing := [name for name in VARIABLES if not os.environ.get(name)]:
        raise ConfigError(
            f"RANK and WORLD_SIZE are set, but not {' and '.join(missing)}",
            expected="all of torchrun's variables, or neither RANK nor WORLD_SIZE",
            found=", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ),
            likely="variables that are left over from another launch",
            do=UNSET,
        )
    for name, usable in (
        ("WORLD_SIZE", world_size() > 0),
        ("RANK", 0 <= own_rank() < world_size()),
        ("MASTER_PORT", 0 <= _number("MASTER_PORT", 0) < 1 << 16),
        ("LOCAL_WORLD_SIZE", local_size() > 0),
        ("LOCAL_RANK", 0 <= local_rank() < local_size()),
        ("TORCHELASTIC_RESTART_COUNT", attempt() >= 0),
    ):
        if not usable:
            raise _not_usable(name)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name)
    try:
        return int(text) if text else default
    except ValueError:
        raise _not_usable(name) from None


def _not_usable(name: str) -> ConfigError:
    return ConfigError(
        f"{name}={os.environ.get(name)} cannot be used",
        expected="a place in a launch, as torchrun gives it: 0 <= RANK < WORLD_SIZE",
        found=", ".join(f"{name}={os.environ[name]}" for name in ("RANK", "WORLD_SIZE", name) if name in os.environ),
        likely="variables that are left over from another launch",
        do=UNSET,
    )


def launched_by() -> Literal["fixed", "elastic"] | None:
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
    return _number("RANK", 0) if launched_by_torchrun() else 0


def world_size() -> int:
    """How many processes there are."""
    return _number("WORLD_SIZE", 1) if launched_by_torchrun() else 1


def local_rank() -> int:
    """This process among those of the launch on this machine."""
    return _number("LOCAL_RANK", 0) if launched_by_torchrun() else 0


def local_size() -> int:
    """How many processes of the launch this machine has."""
    return _number("LOCAL_WORLD_SIZE", 1) if launched_by_torchrun() else 1


def local_ranks() -> range:
    """The ranks of this machine, which torchrun and Ray Train number in a row."""
    first = own_rank() - local_rank()
    return range(first, first + local_size())


def attempt() -> int:
    """How often torchrun has started the ranks again."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0) if launched_by_torchrun() else 0


def store_file() -> Path | None:
    """The file in which the ranks of this attempt meet; None where they meet at MASTER_ADDR."""
    folder = os.environ.get(STORES_VARIABLE)
    return Path(folder) / f"attempt-{attempt()}" if folder else None


def meeting_place() -> tuple[str, int] | None:
    """(MASTER_ADDR, MASTER_PORT), where ranks of several machines meet; None for a launch on one."""
    if not launched_by_torchrun() or store_file() or local_size() == world_size():
        return None
    return os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0)


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
        return f"{socket.gethostname()}-{os.getppid()}-{started(os.getppid())}"
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class RankCpus:
    """Which CPUs a rank may use.

    Attributes:
        allowed: their numbers.
        given: how many SLURM has given its task; None without SLURM.
        ranks: how many there are of the launch on this machine.
    """

    host: str
    pid: int
    allowed: tuple[int, ...]
    given: int | None
    ranks: int

    def __str__(self) -> str:
        given = "" if self.given is None else f"; SLURM gave {self.given} CPU(s)"
        return f"{self.host}, process {self.pid}: CPUs {ranges(self.allowed)}{given}"


def cpus_of_rank() -> RankCpus:
    """Of this process."""
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    return RankCpus(socket.gethostname(), os.getpid(), allowed, cpu_limits().get("SLURM"), local_size())


def wrong_cpus(ranks: Sequence[RankCpus]) -> Iterator[str]:
    """What is wrong with the CPUs of ranks, one line a machine."""
    for rank in {rank.host: rank for rank in ranks}.values():
        if rank.given is not None and len(rank.allowed) < rank.given:
            yield (
                f"SLURM gave {rank.host} {rank.given} CPUs, but its ranks may use only CPU {ranges(rank.allowed)}; "
                "set srun: [--cpu-bind=none] in the site file, or ask the administrators about its binding of CPUs"
            )
        elif rank.given is not None and rank.given < rank.ranks:
            yield f"{rank.ranks} ranks of {rank.host} share {rank.given} CPU(s); request more with --cpus-per-node"


def new_launch_id() -> str:
    """Names a launch that begins now: as the start of the submission that it belongs to, or by chance."""
    return os.environ.get(START_VARIABLE) or secrets.token_hex(8)


@contextmanager
def only_main_speaks() -> Iterator[None]:
    """For checks that every rank makes alike before it has joined the others: rank 0 alone shows what they raise."""
    try:
        yield
    except UserError as error:
        error.shown_elsewhere = own_rank() != 0
        if error.shown_elsewhere:
            print(f"rank {own_rank()} of {world_size()} cannot start; rank 0 shows why", file=sys.stderr)
        raise


@contextmanager
def waiting_for_others(seconds: float) -> Iterator[None]:
    """Joins a launch in the block: says whom this process waits for if that takes a while, and why it was in vain.

    Args:
        seconds: for how long the block waits.

    Raises:
        ConfigError: in place of the `AbsentRanksError` of the block.
    """
    rank, size = own_rank(), world_size()
    others = f"rank {1 - rank}" if size == 2 else f"the other {size - 1} ranks"
    meeting = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    message = f"rank {rank} of {size} waits for {others} at {meeting}; it gives up after {seconds:g} s"
    announcement = threading.Timer(min(ANNOUNCE_SECONDS, seconds / 3), print, [message], {"file": sys.stderr})
    announcement.daemon = True
    announcement.start()
    try:
        yield
    except AbsentRanksError as error:
        raise ConfigError(
            f"rank {rank} of {size} has waited for {others} at {meeting} in vain",
            expected=f"all {size} ranks within resources.join_seconds = {seconds:g}",
            found=str(error),
            likely="RANK and WORLD_SIZE are left over from another launch, or some ranks or machines did not start",
            do=UNSET,
        ) from None
    finally:
        announcement.cancel()


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
    min_nodes, max_nodes = least_and_most("--nodes", nodes, unit="machines", do="--nodes 2, or 1:4")
    if ranks < 1:
        raise ConfigError(f"--ranks {ranks} cannot be used", expected="1 or more", do="--ranks 2")
    check_lanes(ranks * max_nodes, lanes, given=f"--ranks {ranks} on {max_nodes} machine(s)", fewer="ranks")
    if max_nodes == 1:
        return Group(ranks, 1, 1, "", new_launch_id(), shutdown_seconds)
    identity = rendezvous_id or _slurm_launch()
    if not rendezvous or not identity:
        missing = "--rendezvous" if not rendezvous else "--rendezvous-id"
        raise ConfigError(
            f"several machines need {missing}",
            expected="--rendezvous HOST:PORT of one of them, and a new --rendezvous-id for each launch",
            do="give the same values on all machines, as docs/train.sbatch does",
        )
    return Group(ranks, min_nodes, max_nodes, rendezvous, identity, shutdown_seconds)


def least_and_most(option: str, text: str, *, unit: str, do: str) -> tuple[int, int]:
    """The numbers of N or MIN:MAX.

    Raises:
        ConfigError: it is neither, or there are none.
    """
    low, separator, high = text.partition(":")
    try:
        least, most = int(low), int(high if separator else low)
    except ValueError:
        least = most = 0
    if not 1 <= least <= most:
        raise ConfigError(f"{option} {text} is not a number of {unit}", expected="N or MIN:MAX", do=do)
    return least, most


def check_lanes(ranks: int, lanes: int, *, given: str, fewer: str) -> None:
    """Makes sure that so many ranks can share the data.

    Raises:
        ConfigError: they are more than the lanes.
    """
    if ranks > lanes:
        raise ConfigError(
            f"{ranks} ranks cannot share the data",
            expected=f"at most data.lanes = {lanes}",
            found=given,
            do=f"use fewer {fewer}, or start a new run with more data.lanes",
        )


def _slurm_launch() -> str | None:
    job = os.environ.get("SLURM_JOB_ID")
    return f"{job}.{os.environ.get('SLURM_RESTART_COUNT', '0')}" if job else None
