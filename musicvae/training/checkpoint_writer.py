"""Writes checkpoints and best weights on a thread of its own, while training goes on."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import nn

from musicvae.training.best_weights import save_best
from musicvae.training.checkpoint import TrainingState, copy_to_host, write_checkpoint
from musicvae.training.host_copy import HostCopy
from musicvae.training.run_folder import RunFolder

UNDER_WAY = 2
"""Writes that may be unfinished, a checkpoint and the best weights of the same step; each holds a copy of weights."""


class CheckpointWriter:
    """Writes in the order of the calls; training is delayed by the copy to the host alone.

    What goes wrong while writing is raised at a later call, on the thread that trains.

    Args:
        run: held by this launch; asked before every write whether it still is.
        keep: how many of the newest checkpoints stay.
        keep_every: checkpoints of steps that this divides stay for good; 0 keeps none for good.
    """

    def __init__(self, run: RunFolder, *, keep: int, keep_every: int) -> None:
        self.run = run
        self.keep, self.keep_every = keep, keep_every
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: deque[Future[object]] = deque()

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: TrainingState,
        average: nn.Module | None = None,
    ) -> None:
        """Begins to write a checkpoint of this moment.

        Args:
            average: holds the average of the weights, where there is one.

        Raises:
            OSError, SupersededError: as `wait`, of a write before.
        """
        self._wait_for_all_but(UNDER_WAY - 1)
        copy = copy_to_host(model, optimizer, average)
        self._begin(
            lambda: write_checkpoint(self.run.checkpoints, copy, state, keep=self.keep, keep_every=self.keep_every)
        )

    def save_best(self, model: nn.Module, step: int, figures: Mapping[str, float]) -> None:
        """Begins to write the weights of this moment as the best ones.

        Raises:
            OSError, SupersededError: as `wait`, of a write before.
        """
        self._wait_for_all_but(UNDER_WAY - 1)
        copy = HostCopy.of(model.state_dict())
        self._begin(lambda: save_best(self.run.best, copy.arrived(), step, figures))

    def wait(self) -> None:
        """Until nothing is being written any more.

        Raises:
            OSError: the disk did not take it.
            SupersededError: another launch has taken the folder over; nothing was written.
        """
        self._wait_for_all_but(0)

    def close(self) -> None:
        """Ends the thread, after what it is writing; errors of it are dropped, `wait` raises them."""
        self._pool.shutdown()

    def _wait_for_all_but(self, count: int) -> None:
        while len(self._writing) > count or (self._writing and self._writing[0].done()):
            self._writing.popleft().result()

    def _begin(self, write: Callable[[], object]) -> None:
        def checked() -> None:
            self.run.check_writer()
            try:
                write()
            except OSError:
                self.run.check_writer()  # a launch that takes the folder over removes what is half written
                raise

        self._writing.append(self._pool.submit(checked))
