"""Checkpoints: one folder a step, whole or absent, checked by hash before it is trusted.

Weights are safetensors; the optimizer's state is read with `weights_only=True`. No pickle is ever executed. A thread
writes checkpoints and best weights while training continues.
"""

import hashlib
import io
import json
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from musicvae.durable import open_regular, whole_folder, write_json
from musicvae.errors import DAMAGES
from musicvae.training.best_weights import save_best
from musicvae.training.run_folder import RunFolder, checkpoints, step_of
from musicvae.training.step import HostCopy

WEIGHTS = "model.safetensors"
AVERAGE = "average.safetensors"
OPTIMIZER = "optimizer.pt"
STATE = "state.json"
HASHES = "sha256.json"
NOISE = 2
"""Which noise the steps before a checkpoint had. 1: each rank drew dropout by a generator of its own, and `stepwise`
scheduled sampling had neither word nor window dropout; checkpoints of that time do not say it. 2: all noise is keyed by
the place in the global batch."""
UNDER_WAY = 2
"""Writes that may be unfinished, a checkpoint and the best weights of the same step; each holds a copy of weights."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a run needs beside weights and optimizer to go on: everything else is a function of the step.

    Attributes:
        step: global batches that were trained on, skipped ones included.
        best_loss: lowest validation figure that chooses the best weights so far, nats per window.
        best_step: the step that it was measured at.
        skipped: steps whose gradient was not finite and that therefore changed nothing.
        unlogged: figures of this very step, while its evaluation was interrupted and has to be made again.
        noise: which noise the steps had, see `NOISE`.
    """

    step: int
    best_loss: float | None = None
    best_step: int | None = None
    skipped: int = 0
    unlogged: Mapping[str, float] | None = None
    noise: int = NOISE


def copy_to_host(model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None) -> HostCopy:
    """What `write_checkpoint` writes, as it is now.

    Args:
        average: holds the average of the weights, where there is one.
    """
    values: dict[str, Any] = {WEIGHTS: model.state_dict(), OPTIMIZER: optimizer.state_dict()}
    if average is not None:
        values[AVERAGE] = average.state_dict()
    return HostCopy.of(values)


def write_checkpoint(folder: Path, copy: HostCopy, state: TrainingState, *, keep: int, keep_every: int) -> Path:
    """Writes `folder/step-<step>` aside and renames it, then removes what is not to be kept.

    Args:
        keep: how many of the newest stay.
        keep_every: checkpoints of steps that this divides stay for good; 0 keeps none for good.
    """
    target = folder / f"step-{state.step:08d}"
    if target.exists() and damage_of(target) is None:
        return target
    values = copy.arrived()
    with whole_folder(target, replace=True) as aside:
        # Made in memory first: the libraries' own writers turn a full disk into an error that says nothing of it.
        hashes = {
            OPTIMIZER: _write(aside / OPTIMIZER, _saved(values[OPTIMIZER])),
            STATE: _write(aside / STATE, json.dumps(asdict(state), indent=1).encode()),
        }
        for name in (WEIGHTS, AVERAGE):
            if name in values:
                hashes[name] = _write(aside / name, safetensors.torch.save(_contiguous(values[name])))
        write_json(aside / HASHES, hashes)
    for old in checkpoints(folder)[:-keep]:
        if not keep_every or step_of(old) % keep_every:
            shutil.rmtree(old)
    return target


def newest_complete(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose hashes hold, and a sentence about each newer one that was passed over."""
    passed_over = []
    for path in reversed(checkpoints(folder)):
        problem = damage_of(path)
        if problem is None:
            return path, passed_over
        passed_over.append(f"checkpoint {path.name} is damaged ({problem}); using the checkpoint before it")
    return None, passed_over


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None = None
) -> TrainingState:
    """Restores weights, their average and the optimizer in place."""
    # As bytes and files: neither library opens a path that is not UTF-8.
    model.load_state_dict(safetensors.torch.load((path / WEIGHTS).read_bytes()))
    if average is not None:
        average.load_state_dict(safetensors.torch.load((path / AVERAGE).read_bytes()))
    device = next(model.parameters()).device
    with (path / OPTIMIZER).open("rb") as file:
        optimizer.load_state_dict(torch.load(file, map_location=device, weights_only=True))
    return TrainingState(**{"noise": 1, **json.loads((path / STATE).read_text(encoding="utf-8"))})


def damage_of(path: Path) -> str | None:
    """Why a checkpoint cannot be trusted; None if it can."""
    try:
        with open_regular(path / HASHES) as file:
            hashes: dict[str, Any] = json.load(file)
        if missing := {WEIGHTS, OPTIMIZER, STATE} - set(hashes):
            return f"{HASHES} does not name {', '.join(sorted(missing))}"
        for name, expected in hashes.items():
            if name != Path(name).name:
                return f"{HASHES} names {name}"
            if _sha256(path / name) != expected:
                return f"{name} has changed"
    except DAMAGES as error:
        return str(error)
    return None


def _write(path: Path, data: bytes | memoryview) -> str:
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _saved(value: Any) -> memoryview:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getbuffer()


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
