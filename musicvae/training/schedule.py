"""Learning rate as a function of the step alone, so that a finished run may be extended and a stopped one resumed."""

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from musicvae.settings import Settings

Fraction = Annotated[float, Field(gt=0, le=1)]


class OptimizerSettings(Settings):
    """AdamW and its learning rate."""

    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["cosine_restarts", "exponential", "constant"] = "cosine_restarts"
    restart_steps: PositiveInt = 1000
    """`cosine_restarts`: length of the first cycle (T_0)."""
    restart_factor: PositiveInt = 2
    """`cosine_restarts`: each cycle is this many times as long as the one before (T_mult)."""
    min_learning_rate: NonNegativeFloat = 1e-5
    """Where `cosine_restarts` ends each cycle and `exponential` stops falling."""
    decay: Fraction = 0.9999
    """`exponential`: factor of each step, as the paper."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the rate rises linearly from zero."""
    weight_decay: NonNegativeFloat = 0.01
    beta2: Fraction = 0.999


def learning_rate_at(settings: OptimizerSettings, step: int) -> float:
    """The learning rate of the update that follows `step` updates."""
    warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return warmup * _scheduled(settings, step)


def _scheduled(settings: OptimizerSettings, step: int) -> float:
    peak, floor = settings.learning_rate, settings.min_learning_rate
    match settings.schedule:
        case "constant":
            return peak
        case "exponential":
            return max(floor, peak * settings.decay**step)
        case "cosine_restarts":
            length = settings.restart_steps
            while step >= length:
                step -= length
                length *= settings.restart_factor
                if settings.restart_factor == 1:
                    step %= length
            return floor + (peak - floor) * (1 + math.cos(math.pi * step / length)) / 2
