"""All settings of one training run, which of them make it the run that it is, and the learning rate at each step.

The learning rate is a function of the step alone, so that a finished run may be extended and a stopped one resumed.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from musicvae.data.manifest import ShardManifest
from musicvae.data.settings import DataSettings, check_sizes
from musicvae.model.settings import MatmulPrecision, ModelSettings, ObjectiveSettings, PerformanceSettings
from musicvae.settings import Settings, without_defaults

Fraction = Annotated[float, Field(gt=0, le=1)]
Precision = Literal["float32", "bfloat16", "float64"]
FIGURES_OF_SCORES: Mapping[str, Literal["minimize", "maximize"]] = {
    "validation.negative_elbo": "minimize",
    "validation.reconstruction": "minimize",
    "validation.kl_nats": "minimize",
    "validation.kl_bits": "minimize",
    "validation.active_units": "maximize",
    "validation.token_accuracy_teacher_forced": "maximize",
    "validation.token_accuracy_free_running": "maximize",
}
FIGURES_OF_PLAYING: Mapping[str, Literal["minimize", "maximize"]] = {
    "validation.nats_per_hit": "minimize",
    "validation.velocity_nats": "minimize",
    "validation.offset_nats": "minimize",
    "validation.velocity_nats_given": "minimize",
    "validation.offset_nats_given": "minimize",
}
VALIDATION_FIGURES = {**FIGURES_OF_SCORES, **FIGURES_OF_PLAYING}
"""The figures of metrics.jsonl that an evaluation during training gives, and which end of each is the better one."""
MAIN_FIGURES: Mapping[str, tuple[str, str]] = {
    "validation.negative_elbo": ("−ELBO", "nats per window"),
    "validation.nats_per_hit": ("velocity and timing", "nats per hit"),
}
"""The figure that a run is summed up by, with name and unit; each kind of model has one of them, lower is better."""
ADDED_LATER: Mapping[str, Any] = {"performance": None, "train.matmul": "highest", "objective.trains": "all"}
"""Settings that were added when there were runs already, by dotted name, with the value that those runs have. At this
value a setting is no part of the identity; it stays here as it is when a default changes."""
OF_SCORES: Mapping[str, tuple[str, ...]] = {
    "model": (),
    "objective": (),
    "data": ("mix_drums", "mix_bars"),
    "train": ("best_by", "compile"),
}
"""Settings that a performance model does not have, by group; no name stands for the whole group."""


def main_figure(figures: Mapping[str, Any]) -> str | None:
    """The name of the figure that sums these up; None where they hold none."""
    return next((name for name in MAIN_FIGURES if name in figures), None)


class OptimizerSettings(Settings):
    """AdamW and its learning rate."""

    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["cosine_restarts", "exponential", "constant"] = "cosine_restarts"
    restart_steps: PositiveInt = 1000
    """`cosine_restarts`: length of the first cycle (T_0)."""
    restart_factor: PositiveInt = 2
    """`cosine_restarts`: each cycle is this many times as long as the one before (T_mult)."""
    min_learning_rate: NonNegativeFloat = 1e-5
    """`cosine_restarts`: the end of each cycle; `exponential`: the lowest rate."""
    decay: Fraction = 0.9999
    """`exponential`: factor of each step, as the paper."""
    warmup_steps: NonNegativeInt = 0
    """Steps in which the rate rises linearly from zero."""
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
    """Optimizer steps. You can raise them later to extend a finished run."""
    global_batch: PositiveInt = 64
    """Windows of an optimizer step over all ranks; a multiple of data.lanes."""
    accumulation: PositiveInt = 1
    """Number of pieces that each rank divides its share of a batch into; more pieces need less memory."""
    seed: NonNegativeInt = 0
    precision: Precision = "float32"
    """`bfloat16` computes matrix products in bfloat16 (autocast) and keeps weights in float32."""
    matmul: MatmulPrecision = "highest"
    """How exactly float32 is multiplied. `high` lets a GPU round factors to TensorFloat32, which is faster; `medium`
    also lets a CPU round them to bfloat16."""
    deterministic: bool = False
    """Adds in a fixed order on a GPU, so that a run that is resumed there ends with the same bits; slower. CPUs always
    do."""
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient of the mean loss in nats per window."""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights. The average is evaluated and saved; 0: no average."""
    best_by: Literal["negative_elbo", "objective"] = "negative_elbo"
    """The validation figure that chooses the best weights: the -ELBO, or the objective with its beta and free bits (of
    the mean KL), which asks for more information in z."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do when a gradient is not finite. `skip` leaves the step out; `stop` ends the run with exit status 4."""
    max_skipped: NonNegativeInt = 10
    """`skip`: most steps that are left out before the run ends."""
    max_minutes: PositiveFloat | None = None
    """Minutes of a launch after which it saves and exits, as if preempted."""
    log_every: PositiveInt = 10
    evaluate_every: PositiveInt = 250
    evaluation_batch: PositiveInt = 256
    checkpoint_every: PositiveInt = 250
    keep_checkpoints: PositiveInt = 2
    """Number of newest checkpoints that are kept; the best weights are kept as well."""
    keep_every: NonNegativeInt = 0
    """Checkpoints of steps that this number divides are never removed; 0: no such checkpoints."""
    compile: bool | Literal["reduce-overhead"] = False
    """Compiles the model with torch.compile. Each start needs a minute more; on the CPUs tried, steps were slower.
    `reduce-overhead` also records CUDA graphs, which spare a GPU the wait for small kernels."""
    profile: bool = False
    """Writes a profile of a few early steps to RUN/profile."""
    log_windows: bool = False
    """Writes the ids of the windows that each rank has trained on to RUN/windows."""


class FitConfig(Settings):
    """Everything that `fit` is told, apart from where things lie."""

    model: ModelSettings = Field(default_factory=ModelSettings)
    objective: ObjectiveSettings = Field(default_factory=ObjectiveSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    data: DataSettings = Field(default_factory=DataSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)
    performance: PerformanceSettings | None = None
    """Trains a performance model (velocity and timing of given hits) with these settings, in place of a MusicVAE."""

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "FitConfig":
        if self.objective.trains == "prior" and self.model.prior == "standard":
            raise ValueError("objective.trains=prior needs model.prior flow or autoregressive, found standard")
        if self.performance is None:
            return self
        default = FitConfig()
        changed = [
            f"{group}.{name}"
            for group, names in OF_SCORES.items()
            for name in names or type(getattr(default, group)).model_fields
            if getattr(getattr(self, group), name) != getattr(getattr(default, group), name)
        ]
        if changed:
            raise ValueError(f"a performance model has no setting {', '.join(changed)}; its own are performance.*")
        return self

    def check_windows(self, manifest: ShardManifest) -> None:
        """Whether these settings can be trained on the windows that a manifest names.

        Raises:
            ConfigError: no train split, or fewer windows than a batch or the lanes need.
        """
        lanes, global_batch = self.data.lanes, self.train.global_batch
        check_sizes(manifest.split("train").windows, lanes=lanes, global_batch=global_batch)

    def result_settings(self) -> dict[str, Any]:
        """The settings that change the result; resources such as accumulation and caches are left out."""
        values = self.model_dump(
            mode="json",
            include={
                "model": True,
                "objective": True,
                "optimizer": True,
                "data": {"lanes", "mix_drums", "mix_bars"},
                "train": {"global_batch", "seed", "precision", "matmul", "clip", "average_decay", "best_by"},
                "performance": True,
            },
            exclude=None if self.performance is None else {group for group, names in OF_SCORES.items() if not names},
        )
        return without_defaults(values, ADDED_LATER)
