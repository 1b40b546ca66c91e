"""One optimizer step on one global batch; the same update for every world size and every accumulation.

Figures are copied to the host without waiting for a device. AdamW is torch's own, without torch's compiler: torch marks
methods of its optimizers as not to be compiled, and the mark loads `torch._dynamo` when they are first called. That is
800 modules, which take more than half as long as torch itself. A sweep or a test suite starts hundreds of processes.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from inspect import unwrap
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from musicvae.data.loader import Batch, PlayedBatch, WindowBatch
from musicvae.model.model import MusicVAE
from musicvae.model.objective import LossTerms, beta_at, loss_terms, sampling_probability_at
from musicvae.model.settings import ObjectiveSettings
from musicvae.performance.model import PerformanceModel
from musicvae.training.settings import OptimizerSettings, Precision
from musicvae.training.world import World


@dataclass(frozen=True, slots=True, eq=False)
class HostCopy:
    """A tree of tensors (in dictionaries and lists) as it was at one moment, on its way to the host.

    A device's later work is queued behind the copies, so the originals may change at once.
    """

    tree: Any
    copied: torch.cuda.Event | None

    @classmethod
    def of(cls, tree: Any) -> "HostCopy":
        """Begins to copy."""
        on_device = []

        def copy(tensor: Tensor) -> Tensor:
            if tensor.is_cuda:
                on_device.append(tensor.device)
            return tensor.detach().to("cpu", non_blocking=True, copy=True)

        copied_tree = _with_tensors(tree, copy)
        copied = None
        if on_device:
            copied = torch.cuda.Event()
            copied.record(torch.cuda.current_stream(on_device[0]))
        return cls(copied_tree, copied)

    def arrived(self) -> Any:
        """The tree, once everything in it has arrived."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.tree


def _with_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    match tree:
        case Tensor():
            return change(tree)
        case dict():
            return {key: _with_tensors(item, change) for key, item in tree.items()}
        case list():
            return [_with_tensors(item, change) for item in tree]
        case _:
            return tree


@runtime_checkable
class Terms(Protocol):
    """What an objective gives for a batch."""

    @property
    def loss(self) -> Float[Tensor, " batch"]:
        """Of each window, in nats."""
        ...

    def sums(self) -> Float64[Tensor, " term"]:
        """Over all windows, of the loss and then of whatever else is logged of a step."""
        ...


class TrainingObjective(nn.Module):
    """The model with its loss as the forward pass, which is what DDP has to wrap."""

    def __init__(self, model: MusicVAE, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(self, batch: Batch, step: int) -> LossTerms:
        """The loss terms of a batch, with the schedules as they stand after `step` updates."""
        if batch.mask_keys is not None:
            self.model.draw_masks(batch.mask_keys)
        posterior = self.model.encode(batch.tokens)
        z = posterior.sample(batch.latent_noise)
        return loss_terms(
            self.model.prior.kl(posterior, z),
            self._logits(z, batch, step),
            batch.tokens,
            beta=beta_at(self.settings, step),
            free_bits=self.settings.free_bits,
        )

    def _logits(self, z: Tensor, batch: Batch, step: int) -> Tensor:
        shown = self.model.shown_under_teacher_forcing(batch.tokens)
        if batch.coins is not None and batch.choices is not None:
            probability = sampling_probability_at(self.settings, step)
            sampled = {"sampling_probability": probability, "coins": batch.coins, "uniforms": batch.choices}
            if self.settings.sampling_passes == "stepwise":
                shown = self.model.shown_step_by_step(z, batch.tokens, **sampled, blanked=batch.blanked)
            else:
                shown = self.model.shown_with_samples(z, batch.tokens, **sampled)
        if batch.blanked is not None:
            shown = torch.where(batch.blanked, self.model.start_token, shown)
        return self.model.logits_when_shown(z, shown)


class PriorObjective(nn.Module):
    """As `TrainingObjective`, of a learnt prior alone, for the codes of an encoder that stays as it is.

    A second stage (Dai and Wipf 2019, arXiv 1903.05789). Trained together, encoder and prior agree on where the codes
    of training windows lie, and those of other windows lie elsewhere.
    """

    def __init__(self, model: MusicVAE) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        model.prior.requires_grad_(True)

    def forward(self, batch: Batch, step: int) -> LossTerms:
        """The KL of a batch, whatever the step; windows are not decoded, so their reconstruction counts as 0."""
        if batch.mask_keys is not None:
            self.model.draw_masks(batch.mask_keys)
        self.model.encoder.eval()
        posterior = self.model.encode(batch.tokens)
        kl = self.model.prior.kl(posterior, posterior.sample(batch.latent_noise))
        loss = kl.sum(dim=1)
        return LossTerms(loss, torch.zeros_like(loss), kl)


@dataclass(frozen=True, slots=True)
class PlayingTerms:
    """What the loss of each window is made of, in nats over all of its hits."""

    velocity: Float[Tensor, " batch"]
    offset: Float[Tensor, " batch"]
    hits: Int64[Tensor, " batch"]

    @property
    def loss(self) -> Float[Tensor, " batch"]:
        return self.velocity + self.offset

    def sums(self) -> Float64[Tensor, " term"]:
        """Of loss, velocity, offset and hits over all windows."""
        parts = (self.loss, self.velocity, self.offset, self.hits)
        return torch.stack([part.detach().double().sum() for part in parts])


class PlayingObjective(nn.Module):
    """As `TrainingObjective`, of a performance model."""

    def __init__(self, model: PerformanceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PlayedBatch, step: int) -> PlayingTerms:
        """The loss terms of a batch, whatever the step."""
        if batch.mask_keys is not None:
            self.model.draw_masks(batch.mask_keys)
        nats = self.model(batch.velocity, batch.ticks, batch.tempo, batch.manner)
        velocity, offset = (
            values.new_zeros(len(batch)).index_add(0, nats.window, values) for values in (nats.velocity, nats.offset)
        )
        return PlayingTerms(velocity, offset, (batch.velocity > 0).sum(dim=(1, 2)))


@dataclass(frozen=True, slots=True, eq=False)
class StepResult:
    """Sums over this rank's windows of one step, in nats, and what is the same on all ranks.

    Attributes:
        terms: as `Terms.sums` gives them.
        gradient_norm: over all weights and ranks, before clipping.
        weight_norms: norm of the gradient of each weight tensor, in the order of `parameters()`.
    """

    windows: int
    terms: Float64[np.ndarray, " term"]
    gradient_norm: float
    weight_norms: Float64[np.ndarray, " weight"]

    @property
    def loss(self) -> float:
        return float(self.terms[0])

    def sums(self) -> Float64[np.ndarray, " value"]:
        """What has to be added over ranks."""
        return np.array([self.windows, *self.terms])


@dataclass(frozen=True, slots=True, eq=False)
class StepUnderWay:
    """A step whose figures are still on their way from the device.

    Attributes:
        step: updates before this one.
        windows: this rank's windows.
        terms: how many of the figures are sums of terms.
    """

    step: int
    windows: int
    terms: int
    figures: HostCopy

    def result(self) -> StepResult:
        """The figures; waits for the device, if it has not yet come so far."""
        figures = self.figures.arrived().numpy()
        terms, norm, norms = figures[: self.terms], figures[self.terms], figures[self.terms + 1 :]
        return StepResult(self.windows, terms, float(norm), norms)


def train_step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    pieces: Sequence[WindowBatch],
    *,
    step: int,
    learning_rate: float,
    global_batch: int,
    clip: float,
    precision: Precision,
    world: World,
) -> StepUnderWay:
    """Updates the weights with one global batch, of which this rank has `pieces`, without waiting for the device.

    The loss of a rank is the sum over its windows times world size / global batch, so that DDP's mean over ranks is the
    mean over the global batch whatever the shares. A gradient that is not finite updates nothing, neither weights nor
    moments nor the optimizer's step count; every rank has the same gradient and therefore does the same.

    Args:
        optimizer: of `new_optimizer`.
    """
    sums = accumulate_gradients(
        objective, pieces, step=step, global_batch=global_batch, precision=precision, world=world
    )
    weights = list(objective.parameters())
    # In one kernel of a GPU, as torch's own clipping does; on a CPU one tensor after the other.
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))  # type: ignore[attr-defined]
    norm = torch.linalg.vector_norm(norms)
    nn.utils.clip_grads_with_norm_(weights, clip, norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    # What a GradScaler tells an optimizer: the fused kernel reads it on the device and leaves everything as it is.
    optimizer.grad_scale, optimizer.found_inf = None, (~norm.isfinite()).float()  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    figures = torch.cat([sums, norm[None].double(), norms.double()])
    return StepUnderWay(step, sum(map(len, pieces)), len(sums), HostCopy.of(figures))


def new_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW whose fused kernel can leave out an update on the device."""
    return EagerAdamW(
        model.parameters(),
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def accumulate_gradients(
    objective: nn.Module,
    pieces: Sequence[WindowBatch],
    *,
    step: int,
    global_batch: int,
    precision: Precision,
    world: World,
) -> Tensor:
    """Backward over all pieces, at least one, exchanged with the other ranks once; gives the sums of their terms."""
    sums = []
    for number, piece in enumerate(pieces):
        is_last = number == len(pieces) - 1
        with nullcontext() if is_last else world.without_sync(objective):
            with autocast(precision, world.device):
                terms: Terms = objective(piece, step)
            (terms.loss.sum() * (world.size / global_batch)).backward()
        sums.append(terms.sums())
    return reduce(torch.add, sums)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in a precision; weights stay in float32 (float64 for `float64`)."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class EagerAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW`, to the bit, its methods as they are behind torch's marks."""

    add_param_group = unwrap(torch.optim.AdamW.add_param_group)
    load_state_dict = unwrap(torch.optim.AdamW.load_state_dict)
    state_dict = unwrap(torch.optim.AdamW.state_dict)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
    zero_grad = unwrap(torch.optim.AdamW.zero_grad)
