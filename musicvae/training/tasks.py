"""What a training has to know of the kind of model that it trains: a `TrainingTask`, of which each rank has one.

Order, schedules, ranks, checkpoints and logs are the same for all models. What differs is how a model is built, what a
batch holds, what the loss is made of, and what an evaluation sums up and calls good.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import nn
from torch.overrides import TorchFunctionMode

from musicvae.data.loader import (
    Batch,
    PlayedBatch,
    PlayingVariation,
    RandomDraws,
    WindowBatch,
    played_batches,
    training_batches,
)
from musicvae.data.manifest import ShardManifest, ShardSource
from musicvae.data.order import DataOrder
from musicvae.data.store import WindowStore
from musicvae.evaluation import elbo
from musicvae.evaluation.elbo import EVALUATION_BLOCKS, EvaluationReport, EvaluationSums, spaced_windows
from musicvae.evaluation.playing import PlayingReport, PlayingSums, evaluate_playing
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.objective import NATS_PER_BIT, beta_at
from musicvae.model.settings import PerformanceSettings
from musicvae.performance.model import PerformanceModel
from musicvae.training.profiling import playing_flops, prior_training_flops, training_flops
from musicvae.training.progress import ExampleMaker, Tracker
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import FitConfig
from musicvae.training.step import PlayingObjective, PriorObjective, TrainingObjective

COLLAPSED_NATS = 1.0
"""A KL below this carries less than a bit and a half per window: the decoder ignores z."""
EVALUATION_SEED = 0
"""Of the latent noise: the same for every run and in `jobs.evaluate`, so that their figures compare."""
COUNTED_WINDOWS = 256
"""Training windows, evenly spaced, whose hits are counted for the profile."""
Model: TypeAlias = MusicVAE | PerformanceModel
Report: TypeAlias = EvaluationReport | PlayingReport
ExampleMaking: TypeAlias = Callable[[Any, Any, int], object]
"""Takes the model, its report and the step."""


@runtime_checkable
class TrainingTask(Protocol):
    """A kind of model in training."""

    @property
    def held_out(self) -> WindowStore:
        """The windows of the validation split."""
        ...

    @property
    def order(self) -> DataOrder:
        """Of the training windows."""
        ...

    def objective(self, model: Any) -> nn.Module:
        """The model with its loss: from a batch, and the updates before it, to `musicvae.training.step.Terms`."""
        ...

    def batches(self, *, rank: int, world_size: int, first: int, last: int) -> Iterable[WindowBatch]:
        """A rank's share of the global batches first .. last - 1, each with all that its step draws at random."""
        ...

    def step_figures(self, step: int, sums: Float64[np.ndarray, " value"]) -> dict[str, float]:
        """What is logged of a step.

        Args:
            sums: over all ranks: of windows, then of what the objective's terms sum.
        """
        ...

    def no_sums(self) -> Float64[np.ndarray, " sum"]:
        """The sums of an evaluation over no windows."""
        ...

    def evaluation_sums(
        self, model: Any, window_ids: Int64[np.ndarray, " window"], device: torch.device, *, in_full: bool
    ) -> Float64[np.ndarray, " sum"]:
        """The sums of an evaluation over some windows of the validation split, possibly none.

        Args:
            in_full: also measure what takes more time; the last evaluation of a run does.
        """
        ...

    def report(self, sums: Float64[np.ndarray, " sum"]) -> Any:
        """The report on the whole split."""
        ...

    def figures(self, report: Any) -> dict[str, float]:
        """A report as the figures of metrics.jsonl; what was not measured is left out."""
        ...

    def judgement(self, report: Any) -> float:
        """The figure of a report by which the best weights are chosen; lower is better."""
        ...

    def warning(self, report: Any, step: int) -> str | None:
        """What a user should know of a report, after an epoch or more."""
        ...

    def example_maker(self, run: RunFolder, step: int, tracker: Tracker) -> ExampleMaking | None:
        """What makes the examples of each evaluation of a run that begins at a step; None where a model has none."""
        ...

    def flops(self, model: Any) -> float:
        """Operations of the matrix products in forward and backward pass of one window."""
        ...


def task_of(config: FitConfig, shards: ShardSource, manifest: ShardManifest) -> TrainingTask:
    """The task that the settings ask for.

    Raises:
        ConfigError: no train or no validation split.
    """
    played = config.performance is not None
    data = config.data
    train = WindowStore(
        shards, manifest, "train", cached_blocks=data.cached_blocks, ahead_mib=data.ahead_mib, played=played
    )
    held_out = WindowStore(shards, manifest, "validation", cached_blocks=EVALUATION_BLOCKS, played=played)
    lanes, global_batch = config.data.lanes, config.train.global_batch
    order = DataOrder.of(manifest, seed=config.train.seed, lanes=lanes, global_batch=global_batch)
    if config.performance is not None:
        return PerformanceTask(config.performance, config.train.seed, train, held_out, order)
    return ScoreTask(config, train, held_out, order)


def new_model(config: FitConfig, grid: GridSpec, num_drums: int) -> Model:
    """The model of these settings with random weights, drawn from torch's generator."""
    if config.performance:
        return PerformanceModel(config.performance, grid, num_drums)
    return MusicVAE(config.model, grid, num_drums)


def weight_bytes(config: FitConfig, grid: GridSpec, num_drums: int) -> int:
    """The bytes of all weights of such a model."""
    with SkipInit():
        model = new_model(config, grid, num_drums)
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTask:
    """MusicVAE: which drums are hit at which step."""

    config: FitConfig
    train: WindowStore
    held_out: WindowStore
    order: DataOrder

    @property
    def trains_all(self) -> bool:
        return self.config.objective.trains == "all"

    def objective(self, model: MusicVAE) -> nn.Module:
        return TrainingObjective(model, self.config.objective) if self.trains_all else PriorObjective(model)

    def batches(self, *, rank: int, world_size: int, first: int, last: int) -> Iterable[Batch]:
        return training_batches(
            self.train,
            self.order,
            self.config.data,
            random_draws(self.config),
            rank=rank,
            world_size=world_size,
            first=first,
            last=last,
        )

    def step_figures(self, step: int, sums: Float64[np.ndarray, " value"]) -> dict[str, float]:
        windows, loss, reconstruction, kl = sums.tolist()
        of_all = {
            "reconstruction": reconstruction / windows,
            "beta": beta_at(self.config.objective, step - 1),
        }
        of_kl = {"loss": loss / windows, "kl_nats": kl / windows, "kl_bits": kl / windows / NATS_PER_BIT}
        return of_kl | (of_all if self.trains_all else {})

    def no_sums(self) -> Float64[np.ndarray, " sum"]:
        return EvaluationSums.empty(self.config.model.latent, self.train.num_drums).to_vector()

    def evaluation_sums(
        self, model: MusicVAE, window_ids: Int64[np.ndarray, " window"], device: torch.device, *, in_full: bool
    ) -> Float64[np.ndarray, " sum"]:
        return elbo.evaluate_batch(
            model,
            self.held_out.tokens(window_ids),
            window_ids,
            num_drums=self.train.num_drums,
            seed=EVALUATION_SEED,
            device=device,
            free_running=in_full,
        ).to_vector()

    def report(self, sums: Float64[np.ndarray, " sum"]) -> EvaluationReport:
        latent, num_drums = self.config.model.latent, self.train.num_drums
        return EvaluationReport.from_sums(EvaluationSums.from_vector(sums, latent=latent, num_drums=num_drums))

    def figures(self, report: EvaluationReport) -> dict[str, float]:
        return _measured(
            {
                "validation.negative_elbo": report.negative_elbo,
                "validation.reconstruction": report.reconstruction,
                "validation.kl_nats": report.kl,
                "validation.kl_bits": report.kl_bits,
                "validation.active_units": float(report.active_units),
                "validation.token_accuracy_teacher_forced": report.teacher_forced.token_accuracy,
                "validation.token_accuracy_free_running": report.free_running.token_accuracy,
            }
        )

    def judgement(self, report: EvaluationReport) -> float:
        match self.config.train.best_by:
            case "negative_elbo":
                return report.negative_elbo
            case "objective":
                free = self.config.objective.free_bits * NATS_PER_BIT
                return report.reconstruction + self.config.objective.beta * max(0.0, report.kl - free)

    def warning(self, report: EvaluationReport, step: int) -> str | None:
        if not len(report.kl_by_dimension) or (report.kl >= COLLAPSED_NATS and report.active_units):
            return None
        return (
            f"posterior collapse at step {step}: KL {report.kl:.2f} nats, {report.active_units} active units; "
            "the decoder ignores z. Raise objective.free_bits, lower objective.beta or use objective.word_dropout"
        )

    def example_maker(self, run: RunFolder, step: int, tracker: Tracker) -> ExampleMaking:
        return ExampleMaker(run, self.held_out, step, tracker).make

    def flops(self, model: MusicVAE) -> float:
        count = training_flops if self.trains_all else prior_training_flops
        return count(self.config.model, self.train.grid, self.train.num_drums)


def random_draws(config: FitConfig) -> RandomDraws:
    """The random numbers that a training step of these settings needs."""
    return RandomDraws(
        seed=config.train.seed,
        latent=config.model.latent,
        scheduled_sampling=config.objective.scheduled_sampling != "none",
        word_dropout=config.objective.word_dropout,
        window_dropout=config.objective.window_dropout,
    )


@dataclass(frozen=True, slots=True, eq=False)
class PerformanceTask:
    """The performance model: how given hits are played. Its stores hold played windows."""

    settings: PerformanceSettings
    seed: int
    train: WindowStore
    held_out: WindowStore
    order: DataOrder

    def objective(self, model: PerformanceModel) -> nn.Module:
        return PlayingObjective(model)

    def batches(self, *, rank: int, world_size: int, first: int, last: int) -> Iterable[PlayedBatch]:
        variation = PlayingVariation(
            seed=self.seed,
            share=self.settings.varied,
            scale=self.settings.vary_scale,
            shift=self.settings.vary_shift,
            ticks=self.settings.vary_ticks,
            hidden=self.settings.manner_dropout,
        )
        return played_batches(
            self.train, self.order, variation, rank=rank, world_size=world_size, first=first, last=last
        )

    def step_figures(self, step: int, sums: Float64[np.ndarray, " value"]) -> dict[str, float]:
        windows, loss, velocity, offset, hits = sums.tolist()
        hits = max(hits, 1.0)
        return {"loss": loss / windows, "velocity_nats": velocity / hits, "offset_nats": offset / hits}

    def no_sums(self) -> Float64[np.ndarray, " sum"]:
        return PlayingSums().to_vector()

    def evaluation_sums(
        self, model: PerformanceModel, window_ids: Int64[np.ndarray, " window"], device: torch.device, *, in_full: bool
    ) -> Float64[np.ndarray, " sum"]:
        return evaluate_playing(model, self.held_out.played(window_ids), device=device, given=in_full).to_vector()

    def report(self, sums: Float64[np.ndarray, " sum"]) -> PlayingReport:
        return PlayingReport.from_sums(PlayingSums.from_vector(sums))

    def figures(self, report: PlayingReport) -> dict[str, float]:
        return _measured(
            {
                "validation.nats_per_hit": report.nats,
                "validation.velocity_nats": report.velocity,
                "validation.offset_nats": report.offset,
                "validation.velocity_nats_given": report.velocity_given,
                "validation.offset_nats_given": report.offset_given,
            }
        )

    def judgement(self, report: PlayingReport) -> float:
        return report.nats

    def warning(self, report: PlayingReport, step: int) -> str | None:
        return None

    def example_maker(self, run: RunFolder, step: int, tracker: Tracker) -> None:
        return None

    def flops(self, model: PerformanceModel) -> float:
        windows = self.train.played(spaced_windows(self.train.num_windows, COUNTED_WINDOWS))
        return playing_flops(model, float((windows.velocity > 0).sum()) / len(windows))


def _measured(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not math.isnan(value)}


class SkipInit(TorchFunctionMode):
    """Leaves out `torch.nn.init` while it is entered.

    On the device `meta` nothing would be drawn either, but torch would load its compiler to find that out.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
