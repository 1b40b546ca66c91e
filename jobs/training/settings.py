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
    """`auto`: online if a key is configured, otherwise offline. `wandb sync` sends offline files later."""
    project: str = "musicvae-grooves"
    group: str | None = None
    """A name for runs that W&B shows together, such as those of a sweep."""
    media_minutes: NonNegativeFloat = 10
    """Minutes between pictures and sounds; they are also sent at the first and the last evaluation."""
    init_timeout: PositiveFloat = 30
    """Most seconds that W&B may need to answer; after them the run is recorded offline. Training does not wait for
    it."""
    finish_timeout: PositiveFloat = 60
    """Most seconds that the end of a run waits for W&B."""


class ResourceSettings(Settings):
    """What a run computes on; none of it is part of the run's identity."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA if there is a device, otherwise the CPU. Fewer devices than ranks are an error."""
    threads: NonNegativeInt = 0
    """CPU threads of each rank; 0: the cores of the machine divided by its ranks."""
    max_restarts: NonNegativeInt = 3
    """`--ranks`: most restarts in a row without a new checkpoint."""
    hang_seconds: PositiveFloat = 600.0
    """Seconds without progress after which a rank counts as hanging: its stacks are written and all ranks restart;
    three times as many at the start."""
    join_seconds: PositiveFloat = 300.0
    """Seconds that a rank waits for the others at the start, where torchrun was not started by `--ranks`."""
    stop_margin_seconds: NonNegativeFloat = 120.0
    """`--stop-before`: seconds before that time at which saving starts."""
    shutdown_seconds: PositiveInt = 100
    """`--ranks`: seconds for ranks to save and exit after a signal; then they are killed."""


class TrainConfig(FitConfig):
    """What `python -m jobs.train --print-config` shows."""

    resources: ResourceSettings = Field(default_factory=ResourceSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
