"""The training objective: the evidence lower bound with beta, free bits and their schedules.

Reduction, one for the whole project: log-likelihood summed over the steps of a window, KL over latent dimensions,
both in nats; then the mean over windows. Nothing is divided by the number of steps.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from torch import Tensor

from musicvae.settings import Settings

NATS_PER_BIT = math.log(2)
Probability = Annotated[float, Field(ge=0, le=1)]


class ObjectiveSettings(Settings):
    """loss = -log p(x | z) + beta * max(KL - free bits, 0), per window."""

    beta: NonNegativeFloat = 0.2
    """Weight of the KL once its schedule has ended; 1 makes the loss the -ELBO."""
    beta_schedule: Literal["constant", "linear", "exponential"] = "constant"
    """`linear`: from 0 over `beta_warmup_steps`; `exponential`: beta * (1 - beta_rate^step), as the paper."""
    beta_warmup_steps: NonNegativeInt = 1000
    beta_rate: Probability = 0.99999
    free_bits: NonNegativeFloat = 48
    """Bits of KL per window that cost nothing (Kingma et al. 2016), clamped per window, then averaged."""
    scheduled_sampling: Literal["none", "constant", "inverse_sigmoid"] = "none"
    """Whether training shows the decoder its own samples; `none` is teacher forcing."""
    sampling_rate: PositiveFloat = 2000
    """`inverse_sigmoid`: 1 - k / (k + exp(step / k)) with this k, as the paper; `constant`: the probability."""
    sampling_passes: Literal["stepwise", "parallel"] = "stepwise"
    """How those samples are made. `stepwise`: each after those before it, one call of the decoder a step; `parallel`:
    all after the targets, in one call (Duckworth et al. 2019, arXiv 1906.04331)."""
    word_dropout: Probability = 0.0
    """Share of the tokens shown to the decoder that are blanked, so that it leans on z (Bowman et al. 2016)."""
    window_dropout: Probability = 0.0
    """Share of the windows of which no token at all is shown, so that z alone can carry a groove."""

    @model_validator(mode="after")
    def _constant_rate_is_a_probability(self) -> "ObjectiveSettings":
        if self.scheduled_sampling == "constant" and self.sampling_rate > 1:
            raise ValueError(f"sampling_rate is the probability of constant sampling, found {self.sampling_rate:g}")
        return self


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What the loss of each window is made of, in nats."""

    loss: Float[Tensor, " batch"]
    reconstruction: Float[Tensor, " batch"]
    kl: Float[Tensor, "batch latent"]


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
