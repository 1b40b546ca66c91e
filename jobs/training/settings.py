"""All settings of `jobs.train`: the run's own, and what it runs on."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from jobs.training.wandb_tracker import TrackingSettings
from musicvae.settings import Settings
from musicvae.training.fit_config import FitConfig


class ResourceSettings(Settings):
    """What a run computes on; none of it is part of the run's identity."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA where there is a device, else the CPU."""
    threads: NonNegativeInt = 0
    """CPU threads of each rank; 0 shares the machine's cores among the ranks on it."""
    max_restarts: NonNegativeInt = 3
    """`--ranks`: how often in a row the ranks are started again without a new checkpoint in between."""
    hang_seconds: PositiveFloat = 600.0
    """A rank without progress for so long is named, dumps its stacks and ends; thrice as long at the start."""
    stop_margin_seconds: NonNegativeFloat = 120.0
    """`--stop-before`: how long ahead of that time to begin saving."""
    shutdown_seconds: PositiveInt = 100
    """`--ranks`: what ranks get to save and leave after a signal before they are killed."""


class TrainConfig(FitConfig):
    """What `python -m jobs.train --print-config` shows."""

    resources: ResourceSettings = Field(default_factory=ResourceSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
