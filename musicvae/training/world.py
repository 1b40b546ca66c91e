"""The processes of one run: the only file that knows torch.distributed."""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float64
from torch import nn
from torch._C._distributed_c10d import FileStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from musicvae.errors import AbsentRanksError, UserError

T = TypeVar("T")
LOOK_SECONDS = 0.02
STORE_TIMEOUT = timedelta(seconds=1)
"""For which a store waits for its file, which is there as long as the launch."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """Ranks that have found each other and have not started a backend yet; what they say crosses as text.

    Attributes:
        rank: this process, 0 is the main one.
        size: how many there are.
        store: what they read and write.
    """

    rank: int
    size: int
    store: Any

    @classmethod
    def in_file(cls, path: Path, timeout: timedelta) -> "Meeting":
        """The ranks of one machine that torchrun's variables (RANK, WORLD_SIZE) describe.

        Args:
            path: a file that none of an earlier attempt has used; its folder is there as long as the launch.
            timeout: of each wait for another rank, here and later.

        Raises:
            AbsentRanksError: the launch has ended, or some do not come.
        """
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if not path.parent.is_dir():  # for which the store would wait
            raise AbsentRanksError("the launch has ended")
        store: Any = FileStore(str(path), -1)
        store.set_timeout(STORE_TIMEOUT)
        store.set(f"present/{rank}", "")
        deadline = time.monotonic() + timeout.total_seconds()
        try:
            while not store.check([f"present/{other}" for other in range(size)]):
                if time.monotonic() > deadline:
                    raise AbsentRanksError(f"not all of {size} ranks have come to {path}")
                time.sleep(LOOK_SECONDS)
        except dist.DistStoreError as error:
            raise AbsentRanksError(f"the launch has ended before all of its {size} ranks have met") from error
        store.set_timeout(timeout)
        return cls(rank, size, store)

    @classmethod
    def at_master(cls, timeout: timedelta, *, patience: timedelta | None = None) -> "Meeting":
        """The ranks that torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, ...) describe.

        Args:
            timeout: of each wait for another rank.
            patience: how long to wait here until all of them are there; not at all unless given.

        Raises:
            AbsentRanksError: with `patience`, if they are not.
        """
        try:
            store, rank, size = next(rendezvous("env://", timeout=patience or timeout))
            if patience is not None:
                store.set(f"present/{rank}", "")
                store.wait([f"present/{other}" for other in range(size)], patience)
        except dist.DistError as error:  # of the store: it is not there, or somebody is missing
            if patience is None:
                raise
            raise AbsentRanksError(str(error).partition("\n")[0]) from error
        store.set_timeout(timeout)
        return cls(rank, size, store)

    def exchange(self, text: str) -> list[str]:
        """Gives a text to all ranks, once; the texts of all, by rank."""
        self.store.set(f"text/{self.rank}", text)
        return [self.store.get(f"text/{rank}").decode() for rank in range(self.size)]


@dataclass(frozen=True, slots=True)
class World:
    """Who this process is among the processes of a run, and what they can do together.

    Every collective of the loop that is not DDP's own runs over gloo on the CPU, so that it never waits for a device.

    Attributes:
        rank: this process, 0 is the main one.
        size: how many there are.
        device: where this process computes.
        host_group: gloo group over all ranks; None in a world of one.
    """

    rank: int
    size: int
    device: torch.device
    host_group: Any = None

    @classmethod
    def single(cls, device: torch.device | str = "cpu") -> "World":
        """A world of one process, without a process group."""
        return cls(0, 1, torch.device(device))

    @classmethod
    def join(cls, meeting: Meeting, *, device: torch.device, timeout: timedelta) -> "World":
        """Starts the backend with the ranks of a meeting.

        Args:
            timeout: of everything that they do together.
        """
        ranks = {"store": meeting.store, "rank": meeting.rank, "world_size": meeting.size, "timeout": timeout}
        if device.type == "cuda":
            torch.cuda.set_device(device)
            dist.init_process_group("nccl", device_id=device, **ranks)
        else:
            dist.init_process_group("gloo", **ranks)
        return cls.joined(device=device, timeout=timeout)

    @classmethod
    def joined(cls, *, device: torch.device, timeout: timedelta = timedelta(minutes=10)) -> "World":
        """The processes of the default process group, which somebody else has set up; where nobody has, this one."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return cls.single(device)
        # A group of its own: the stop flag is in flight while DDP reduces gradients on the default group.
        return cls(dist.get_rank(), dist.get_world_size(), device, dist.new_group(backend="gloo", timeout=timeout))

    def leave(self) -> None:
        """Leaves the process group."""
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all ranks in backward; they lie in the buffers that are exchanged."""
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        with warnings.catch_warnings():
            # Its successor is unknown to older torch; our buffers are constants, which need no exchange at all.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            with _compiler_unasked():
                return _EagerDDP(model, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True)

    def without_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """A context in which backward adds gradients up without exchanging them, for accumulation."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def sum(self, vector: Float64[np.ndarray, " value"]) -> Float64[np.ndarray, " value"]:
        """The sum over all ranks, the same on each."""
        if self.size == 1:
            return vector
        total = torch.from_numpy(vector.copy())
        dist.all_reduce(total, group=self.host_group)
        return total.numpy()

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, the same list on each; they cross by pickle, between our own processes."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.host_group)
        return values

    def start_agreement(self, stop: int, pause: int) -> Callable[[], tuple[int, int]]:
        """Begins to find the largest request over all ranks, and the pause that rank 0 gives.

        Returns:
            A function that waits for both. In a world of one there is nothing to wait for, and no pause but 1.
        """
        if self.size == 1:
            return lambda: (stop, 1)
        words = torch.tensor([stop, pause if self.is_main else 0])
        work = dist.all_reduce(words, op=dist.ReduceOp.MAX, group=self.host_group, async_op=True)
        assert work is not None

        def result() -> tuple[int, int]:
            work.wait()
            return int(words[0]), int(words[1])

        return result

    def on_main(self, action: Callable[[], T]) -> T:
        """Does something on rank 0 alone and gives its result to every rank.

        Raises:
            UserError: on every rank, if the action raised anything; only rank 0's own error is to be shown.
        """
        if self.size == 1:
            return action()
        outcome: list[Any] = [None, None]
        own_error: Exception | None = None
        if self.is_main:
            try:
                outcome[0] = action()
            except Exception as error:  # whatever it is, the others must not wait for it
                own_error = error
                outcome[1] = error if isinstance(error, UserError) else UserError(f"rank 0 failed: {error}")
        dist.broadcast_object_list(outcome, src=0, group=self.host_group)
        if own_error is not None:
            raise own_error
        if outcome[1] is not None:
            outcome[1].shown_elsewhere = True
            raise outcome[1]
        return outcome[0]


class _EagerDDP(DistributedDataParallel):
    """DDP whose forward pass stands without the mark that loads `torch._dynamo`, as `EagerAdamW`'s methods do."""

    _inside_ddp_forward = contextmanager(unwrap(DistributedDataParallel._inside_ddp_forward))


@contextmanager
def _compiler_unasked() -> Iterator[None]:
    """Answers the one question that DDP asks of torch's compiler as it is built, where nothing has loaded it.

    The answer is the compiler's own default. To ask it takes a second of each rank's CPU time.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    torch._dynamo = SimpleNamespace(utils=SimpleNamespace(get_optimize_ddp_mode=lambda: "ddp_optimizer"))  # type: ignore[assignment]
    try:
        yield
    finally:
        del torch._dynamo
