"""All settings of one training run, which of them make it the run that it is, and the learning rate at each step.

The learning rate is a function of the step alone, so that a finished run may be extended and a stopped one resumed.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from musicvae.data.manifest import ShardManifest
from musicvae.data.settings import DataSettings, check_sizes
from musicvae.model.settings import ModelSettings, ObjectiveSettings
from musicvae.settings import Settings

Fraction = Annotated[float, Field(gt=0, le=1)]
Precision = Literal["float32", "bfloat16", "float64"]


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


class TrainSettings(Settings):
    """How long and how to train."""

    steps: PositiveInt = 3000
    """Optimizer steps; no part of the run's identity, so a finished run may be extended."""
    global_batch: PositiveInt = 64
    """Windows per optimizer step over all ranks; a multiple of data.lanes."""
    accumulation: PositiveInt = 1
    """Pieces that each rank cuts its share of a batch into, where memory is short."""
    seed: NonNegativeInt = 0
    precision: Precision = "float32"
    """`bfloat16` computes matrix products in bfloat16 (autocast) and keeps weights in float32."""
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient of the mean loss in nats per window."""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of an exponential moving average of the weights, which is evaluated and kept in their place; 0: no average."""
    best_by: Literal["negative_elbo", "objective"] = "negative_elbo"
    """Which validation figure chooses the best weights: the -ELBO, or the objective with its beta and free bits (of the
    mean KL), where more is wanted of z than the -ELBO asks for."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What follows a step whose gradient is not finite; it never changes weights. `stop` ends the run with status 4."""
    max_skipped: NonNegativeInt = 10
    """`skip`: the run ends all the same when more steps than this were left out."""
    max_minutes: PositiveFloat | None = None
    """Saves and leaves, as if preempted, after so many minutes of this launch."""
    log_every: PositiveInt = 10
    evaluate_every: PositiveInt = 250
    evaluation_batch: PositiveInt = 256
    checkpoint_every: PositiveInt = 250
    keep_checkpoints: PositiveInt = 2
    """How many of the newest stay; the best weights are kept beside them."""
    keep_every: NonNegativeInt = 0
    """Checkpoints of steps that this divides stay for good; 0 keeps none for good."""
    compile: bool = False
    """Compiles the model with torch.compile; a minute at every start, and slower on the CPUs that it was tried on."""
    profile: bool = False
    """Writes where the time of a few early steps goes, and the share of the matrix peak, to RUN/profile."""
    log_windows: bool = False
    """Writes the window ids that each rank's forward pass received to RUN/windows, to look into the data order."""


class FitConfig(Settings):
    """Everything that `fit` is told, apart from where things lie."""

    model: ModelSettings = Field(default_factory=ModelSettings)
    objective: ObjectiveSettings = Field(default_factory=ObjectiveSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)

    def check_windows(self, manifest: ShardManifest) -> None:
        """Whether these settings can be trained on the windows that a manifest names.

        Raises:
            ConfigError: no train split, or fewer windows than a batch or the lanes need.
        """
        lanes, global_batch = self.data.lanes, self.train.global_batch
        check_sizes(manifest.split("train").windows, lanes=lanes, global_batch=global_batch)

    def result_settings(self) -> dict[str, Any]:
        """The settings that change the result; resources such as accumulation and caches are left out."""
        return self.model_dump(
            mode="json",
            include={
                "model": True,
                "objective": True,
                "optimizer": True,
                "data": {"lanes", "mix_drums", "mix_bars"},
                "train": {"global_batch", "seed", "precision", "clip", "average_decay", "best_by"},
            },
        )
