"""One optimizer step on one global batch; the same update for every world size and every accumulation."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from musicvae.batch import Batch
from musicvae.model import MusicVAE
from musicvae.objective import LossTerms, ObjectiveSettings, beta_at, loss_terms, sampling_probability_at
from musicvae.world import World

Precision = Literal["float32", "bfloat16", "float64"]


class TrainingObjective(nn.Module):
    """The model with its loss as the forward pass, which is what DDP has to wrap."""

    def __init__(self, model: MusicVAE, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(self, batch: Batch, step: int) -> LossTerms:
        """The loss terms of a batch, with the schedules as they stand after `step` updates."""
        posterior = self.model.encode(batch.tokens)
        z = posterior.sample(batch.latent_noise)
        return loss_terms(
            posterior,
            self._logits(z, batch, step),
            batch.tokens,
            beta=beta_at(self.settings, step),
            free_bits=self.settings.free_bits,
        )

    def _logits(self, z: Tensor, batch: Batch, step: int) -> Tensor:
        if batch.coins is not None and batch.choices is not None:
            return self.model.scheduled_logits(
                z,
                batch.tokens,
                sampling_probability=sampling_probability_at(self.settings, step),
                coins=batch.coins,
                uniforms=batch.choices,
            )
        shown = self.model.decoder.shown_under_teacher_forcing(batch.tokens)
        if batch.blanked is not None:
            shown = torch.where(batch.blanked, self.model.decoder.embed.start_token, shown)
        return self.model.logits_when_shown(z, shown)


@dataclass(frozen=True, slots=True)
class StepResult:
    """Sums over this rank's windows of one step, in nats, and the gradient's norm over all ranks before clipping."""

    windows: int
    loss: float
    reconstruction: float
    kl: float
    gradient_norm: float

    def sums(self) -> Float64[np.ndarray, " value"]:
        """What has to be added over ranks."""
        return np.array([self.windows, self.loss, self.reconstruction, self.kl])


def train_step(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    pieces: Sequence[Batch],
    *,
    step: int,
    learning_rate: float,
    global_batch: int,
    clip: float,
    precision: Precision,
    world: World,
) -> StepResult:
    """Updates the weights with one global batch, of which this rank has `pieces`.

    The loss of a rank is the sum over its windows times world size / global batch, so that DDP's mean over ranks is the
    mean over the global batch whatever the shares. A gradient that is not finite updates nothing.
    """
    sums = accumulate_gradients(
        objective, pieces, step=step, global_batch=global_batch, precision=precision, world=world
    )
    norm = nn.utils.clip_grad_norm_(objective.parameters(), clip)
    if torch.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    loss, reconstruction, kl = sums.tolist()
    return StepResult(sum(map(len, pieces)), loss, reconstruction, kl, float(norm))


def accumulate_gradients(
    objective: nn.Module,
    pieces: Sequence[Batch],
    *,
    step: int,
    global_batch: int,
    precision: Precision,
    world: World,
) -> Tensor:
    """Backward over all pieces, exchanged with the other ranks once; gives sums of loss, reconstruction and KL."""
    sums = torch.zeros(3, dtype=torch.float64, device=world.device)
    for number, piece in enumerate(pieces):
        is_last = number == len(pieces) - 1
        with nullcontext() if is_last else world.without_sync(objective):
            with autocast(precision, world.device):
                terms = objective(piece, step)
            (terms.loss.sum() * (world.size / global_batch)).backward()
        parts = (terms.loss, terms.reconstruction, terms.kl)
        sums += torch.stack([part.detach().double().sum() for part in parts])
    return sums


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in a precision; weights stay in float32 (float64 for `float64`)."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
