"""Checkpoints: one folder a step, whole or absent, checked by hash before it is trusted.

Weights are safetensors; the optimizer's state is read with `weights_only=True`. No pickle is ever executed.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from musicvae.durable import whole_folder, write_json

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.pt"
STATE = "state.json"
HASHES = "sha256.json"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a run needs beside weights and optimizer to go on: everything else is a function of the step."""

    step: int
    best_loss: float | None = None
    """Lowest validation -ELBO so far, nats per window."""
    best_step: int | None = None


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState, *, keep: int
) -> Path:
    """Writes `folder/step-<step>` aside and renames it, then removes all but the newest `keep`."""
    target = folder / f"step-{state.step:08d}"
    if target.exists():
        return target
    with whole_folder(target) as aside:
        save_weights(aside / WEIGHTS, model)
        torch.save(optimizer.state_dict(), aside / OPTIMIZER)
        write_json(aside / STATE, {"step": state.step, "best_loss": state.best_loss, "best_step": state.best_step})
        write_json(aside / HASHES, {name: _sha256(aside / name) for name in (WEIGHTS, OPTIMIZER, STATE)})
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("step-*"))


def newest_complete(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose hashes hold, and a sentence about each newer one that was passed over."""
    passed_over = []
    for path in reversed(checkpoints(folder)):
        problem = _damage(path)
        if problem is None:
            return path, passed_over
        passed_over.append(f"checkpoint {path.name} is damaged ({problem}); going back to the one before")
    return None, passed_over


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Restores weights and optimizer in place."""
    load_weights(path / WEIGHTS, model)
    device = next(model.parameters()).device
    optimizer.load_state_dict(torch.load(path / OPTIMIZER, map_location=device, weights_only=True))
    return TrainingState(**json.loads((path / STATE).read_text()))


def save_weights(path: Path, model: nn.Module) -> None:
    """The weights alone, as safetensors."""
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Fills a model from `save_weights`; names and shapes must match."""
    model.load_state_dict(safetensors.torch.load_file(path))


def _damage(path: Path) -> str | None:
    try:
        hashes: dict[str, Any] = json.loads((path / HASHES).read_text())
        for name, expected in hashes.items():
            if _sha256(path / name) != expected:
                return f"{name} has changed"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
