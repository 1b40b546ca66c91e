"""All settings of `jobs.train`: the run's own, and what it runs on."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from musicvae.settings import Settings
from musicvae.training.settings import FitConfig


def _yaml_off(value: object) -> object:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if value is False else value


class TrackingSettings(Settings):
    """Where figures go beside the run folder's own metrics.jsonl."""

    wandb: Annotated[Literal["off", "auto", "offline", "online"], BeforeValidator(_yaml_off)] = "off"
    """`auto`: online when a key is configured, else offline; offline files are sent later by `wandb sync`."""
    project: str = "musicvae-grooves"
    group: str | None = None
    """Runs that W&B shows together, as those of a sweep."""
    media_minutes: NonNegativeFloat = 10
    """Pictures and sounds are sent at the first and the last evaluation, and between them this far apart."""
    init_timeout: PositiveFloat = 30
    """Seconds that W&B may take to answer before the run is recorded offline; training goes on meanwhile."""
    finish_timeout: PositiveFloat = 60
    """Seconds that the end of a run may wait for W&B."""


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
