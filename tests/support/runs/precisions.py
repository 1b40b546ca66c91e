"""What precision a training step has: the types that kernels were given, and the gradients of one batch."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from musicvae.data.manifest import FolderShards, ShardManifest
from musicvae.training.settings import Precision
from musicvae.training.step import accumulate_gradients
from musicvae.training.tasks import new_model, task_of
from musicvae.training.world import World
from tests.support.runs.topologies import narrow

PRODUCTS = ("mm", "linear", "rnn", "lstm", "attention")
"""What the name of a kernel holds that multiplies matrices."""
RECURRENT = ("rnn", "lstm")


class TypesSeen(TorchDispatchMode):
    """Notes the floating types that each product of matrices was given, behind whatever autocast made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.by_kernel: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(part in func.name() for part in PRODUCTS):
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.by_kernel.setdefault(func.name(), set()).update(
                tensor.dtype for tensor in given if tensor.is_floating_point()
            )
        return func(*args, **(kwargs or {}))

    @property
    def of_lstms(self) -> set[torch.dtype]:
        """Of kernels that go over steps."""
        lstms = [given for name, given in self.by_kernel.items() if any(part in name for part in RECURRENT)]
        return set().union(*lstms)


def gradients(
    shards: Path, preset: str, precision: Precision, device: str, *, times_smaller: int = 1
) -> tuple[dict[str, Tensor], TypesSeen]:
    """The gradients of the first batch of a preset that is shrunk in width, and the types that its kernels saw.

    Args:
        times_smaller: as if the batch were this share of a global batch.
    """
    config, manifest = narrow(preset), ShardManifest.read(shards)
    task, world = task_of(config, FolderShards(shards), manifest), World.single(device)
    torch.manual_seed(0)
    model = new_model(config, manifest.grid, manifest.drum_map.num_drums).to(device)
    (batch,) = task.batches(rank=0, world_size=1, first=0, last=1)
    batch = batch.to(world.device)
    with TypesSeen() as seen:
        accumulate_gradients(
            task.objective(model),
            [batch],
            step=0,
            global_batch=len(batch) * times_smaller,
            precision=precision,
            world=world,
        )
    named = model.named_parameters()
    return {name: weight.grad.cpu() for name, weight in named if weight.grad is not None}, seen


def likeness(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Cosine of the angle between two gradients over all weights."""
    one, other = (torch.cat([grads[name].flatten().double() for name in expected]) for grads in (found, expected))
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))
