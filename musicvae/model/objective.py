"""The training objective: the evidence lower bound with beta, free bits and their schedules.

Reduction, one for the whole project: log-likelihood summed over the steps of a window, KL over latent dimensions,
both in nats; then the mean over windows. Nothing is divided by the number of steps.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from musicvae.model.settings import ObjectiveSettings

NATS_PER_BIT = math.log(2)


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What the loss of each window is made of, in nats."""

    loss: Float[Tensor, " batch"]
    reconstruction: Float[Tensor, " batch"]
    kl: Float[Tensor, "batch latent"]

    def sums(self) -> Float64[Tensor, " term"]:
        """Of each over all windows."""
        return torch.stack([part.detach().double().sum() for part in (self.loss, self.reconstruction, self.kl)])


def beta_at(settings: ObjectiveSettings, step: int) -> float:
    """The weight of the KL at a step."""
    match settings.beta_schedule:
        case "constant":
            return settings.beta
        case "linear":
            return settings.beta * min(1.0, step / max(1, settings.beta_warmup_steps))
        case "exponential":
            return settings.beta * (1 - settings.beta_rate**step)


def sampling_probability_at(settings: ObjectiveSettings, step: int) -> float:
    """How often a step is shown the model's own sample instead of the target."""
    match settings.scheduled_sampling:
        case "none":
            return 0.0
        case "constant":
            return settings.sampling_rate
        case "inverse_sigmoid":
            rate = settings.sampling_rate
            return 1 - rate / (rate + math.exp(min(step / rate, 700.0)))


def reconstruction_nats(
    logits: Float[Tensor, "batch step vocab"], tokens: Int64[Tensor, "batch step"]
) -> Float[Tensor, "batch step"]:
    """-log p(x_t | x_<t, z) of every step, from logits, in at least float32."""
    full = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(full.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)


def loss_terms(
    kl: Float[Tensor, "batch latent"],
    logits: Float[Tensor, "batch step vocab"],
    tokens: Int64[Tensor, "batch step"],
    *,
    beta: float,
    free_bits: float,
) -> LossTerms:
    """The objective of each window. With beta 1 and no free bits `loss` is a one-draw estimate of the -ELBO.

    Args:
        kl: of each dimension of z to the prior, in nats.
    """
    reconstruction = reconstruction_nats(logits, tokens).sum(dim=-1)
    paid = (kl.sum(dim=-1) - free_bits * NATS_PER_BIT).clamp(min=0)
    return LossTerms(reconstruction + beta * paid, reconstruction, kl)
