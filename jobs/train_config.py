"""All settings of `jobs.train`: the run's own, and what it runs on."""

from typing import Literal

from pydantic import Field, NonNegativeInt

from jobs.wandb_tracker import TrackingSettings
from musicvae.fit_config import FitConfig
from musicvae.settings import Settings


class ResourceSettings(Settings):
    """What a run computes on; none of it is part of the run's identity."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA where there is a device, else the CPU."""
    threads: NonNegativeInt = 0
    """CPU threads of each rank; 0 shares the machine's cores among the ranks on it."""


class TrainConfig(FitConfig):
    """What `python -m jobs.train --print-config` shows."""

    resources: ResourceSettings = Field(default_factory=ResourceSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
