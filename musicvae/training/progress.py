"""What a run writes down about itself while it trains: metrics.jsonl, status.json, examples, and trackers.

A tracker is a view of the run that `fit` reports to. The examples of each evaluation are cheap and keyed, and change
nothing in the training.
"""

import math
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int16, Int64
from torch import nn
from torch.profiler import record_function

from musicvae.data.loader import WindowBatch
from musicvae.data.order import DataOrder
from musicvae.data.store import WindowStore
from musicvae.evaluation.elbo import EvaluationReport, spaced_windows
from musicvae.model.model import MusicVAE
from musicvae.randomness import Purpose, normals, uniforms
from musicvae.training.checkpoints import TrainingState
from musicvae.training.examples import Examples, cut_examples
from musicvae.training.profiling import WAITING_FOR_DATA
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import FitConfig, TrainSettings, learning_rate_at
from musicvae.training.step import StepResult

EXAMPLE_WINDOWS = 8
EXAMPLE_SAMPLES = 8
EXAMPLE_SEED = 0
"""Of the samples, the same for every run and step: what changes from picture to picture is the model."""
SPEED_FIGURES = (
    "windows_per_second",
    "tokens_per_second",
    "step_seconds",
    "data_wait",
    "flops_per_second",
    "mfu",
    "peak_memory_gib",
)
"""Of the steps since the last figures, without evaluations: the only ones that differ from launch to launch.

`data_wait` is the share of time in which rank 0 waits for its batch, `peak_memory_gib` the most memory of rank 0.
`flops_per_second` counts the matrix products of the model; `mfu` (model FLOPs utilization, arXiv 2204.02311, appendix
B) is its share of the peak of all devices, where that is known.
"""
STATUS_SECONDS = 5.0
"""Between two writes of status.json, which are synced to disk."""
Phase = Literal["starting", "training", "evaluating", "saving", "stopping", "ending"]


@runtime_checkable
class Tracker(Protocol):
    """Receives figures by step. A tracker never raises: losing a view must not lose a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""
        ...

    def show(self, step: int, examples: Examples) -> None:
        """What the model made at an evaluation; the run folder holds it already."""
        ...

    def say(self, text: str) -> None:
        """A sentence for a person: a warning, or what was decided."""
        ...

    def close(self, state: str) -> None:
        """The run ends in a state of `run_folder.State`."""
        ...


class Trackers:
    """Several trackers as one; none at all is the silent tracker of the other ranks."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self.trackers = trackers

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(step, values)

    def show(self, step: int, examples: Examples) -> None:
        for tracker in self.trackers:
            tracker.show(step, examples)

    def say(self, text: str) -> None:
        for tracker in self.trackers:
            tracker.say(text)

    def close(self, state: str) -> None:
        for tracker in self.trackers:
            tracker.close(state)


class ExampleMaker:
    """Follows the same few validation windows through a run.

    Args:
        validation: the windows of the validation split.
        step: where the run stands; examples of later steps are removed, they will be made again.
        tracker: shown what was made.
    """

    def __init__(self, run: RunFolder, validation: WindowStore, step: int, tracker: Tracker) -> None:
        self.run = run
        self.tracker = tracker
        self.window_ids = example_ids(validation.num_windows)
        self.windows = validation.tokens(self.window_ids)
        cut_examples(run.examples, step)

    def make(self, model: MusicVAE, report: EvaluationReport, step: int) -> None:
        """Puts the examples of an evaluation into the run folder."""
        examples = make_examples(model, self.window_ids, self.windows, report)
        self.run.check_writer()
        examples.save(self.run.examples, step)
        self.tracker.show(step, examples)


def example_ids(windows: int) -> Int64[np.ndarray, " window"]:
    """Ids of the windows to follow, spaced evenly over a split of this many."""
    return spaced_windows(windows, EXAMPLE_WINDOWS)


@torch.no_grad()
def make_examples(
    model: MusicVAE,
    window_ids: Int64[np.ndarray, " window"],
    windows: Int16[np.ndarray, "window step"],
    report: EvaluationReport,
) -> Examples:
    """Decodes twice for a handful of rows. Draws no random number that is not keyed, and leaves the model as it was."""
    was_training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device
        mu = model.encode(torch.from_numpy(windows).to(device, torch.int64)).mu
        noise = torch.from_numpy(normals(EXAMPLE_SEED, Purpose.PRIOR, 0, 0, EXAMPLE_SAMPLES, model.latent)).to(mu)
        choices = torch.from_numpy(uniforms(EXAMPLE_SEED, Purpose.DECODING, 0, 0, EXAMPLE_SAMPLES, model.num_steps)).to(
            device
        )
        reconstructions, samples = model.generate(mu), model.generate(model.prior.z_of(noise), choices)
    finally:
        model.train(was_training)
    return Examples(
        window_ids=window_ids,
        windows=windows,
        reconstructions=reconstructions.to("cpu", torch.int16).numpy(),
        samples=samples.to("cpu", torch.int16).numpy(),
        kl=report.kl_by_dimension.astype(np.float32),
        mu_variance=report.mu_variance.astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class StepWork:
    """What there is in a step, which its time is compared with.

    Attributes:
        tokens: of a window; 0 for a model of something else.
        flops: operations of the matrix products for a window, forward and backward; 0 where nobody has counted them.
        peak: operations per second of all devices together, by the vendor's data sheet; None where that is not known.
    """

    tokens: int = 0
    flops: float = 0.0
    peak: float | None = None


class RunProgress:
    """The record of one launch of a run.

    Args:
        run: None on every rank but the main one, where nothing is written.
        tracker: told what is logged.
        state: where this launch begins.
        settings: for the step that ends the run, and windows per step.
        work: what a step does.
        device: of this rank.
    """

    def __init__(
        self,
        run: RunFolder | None,
        tracker: Tracker,
        state: TrainingState,
        settings: TrainSettings,
        *,
        work: StepWork,
        device: torch.device,
    ) -> None:
        self.run = run
        self.work, self.device = work, device
        self.tracker = tracker
        self.total = settings.steps
        self.global_batch = settings.global_batch
        self.restarts = run.read_status().get("restarts", -1) + 1 if run else 0
        self.last_status = 0.0
        self.began_at, self.first_step_at = state.step, None
        self.rate = 0.0
        self.data_wait = 0.0
        self.last_logged = 0
        self.start_clock(state.step)

    def resume(self, step: int) -> None:
        """Drops what was logged after the step at which this launch begins."""
        if self.run:
            self.last_logged = self.run.cut_logs(step)

    def doing(self, phase: Phase, state: TrainingState, *, at_once: bool = False) -> None:
        """A heartbeat in status.json, unless there was one a moment ago."""
        if self.first_step_at is None and state.step > self.began_at:
            self.first_step_at = time.time()
        if self.run is None or not (at_once or time.monotonic() - self.last_status > STATUS_SECONDS):
            return
        self.last_status = time.monotonic()
        eta = (self.total - state.step) * self.global_batch / self.rate if self.rate else None
        self.run.write_status(
            "starting" if phase == "starting" else "running",
            state.step,
            self.total,
            phase=phase,
            windows_per_second=self.rate,
            eta_seconds=eta,
            restarts=self.restarts,
            skipped=state.skipped,
            first_step_at=self.first_step_at,
        )

    def start_clock(self, step: int) -> None:
        """Counts time from here; what happened since the last figures (starting, evaluating) is not training."""
        self.logged_step, self.logged_at, self.waited = step, time.monotonic(), 0.0

    def waiting_for(self, batches: Iterable[WindowBatch]) -> Iterator[WindowBatch]:
        """The same batches; what passes until each is there counts as waiting for data."""
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            with record_function(WAITING_FOR_DATA):
                batch = next(iterator, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def measure_rate(self, step: int) -> None:
        """Takes rate and data wait since the clock was started, before an evaluation adds its time."""
        if step > self.logged_step:
            seconds = time.monotonic() - self.logged_at
            self.rate = (step - self.logged_step) * self.global_batch / seconds
            self.data_wait = self.waited / seconds
            self.start_clock(step)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes the figures of a step, if there are any; each step has one line.

        A launch repeats an evaluation that an earlier one was stopped in. If the step has its line by then, only the
        tracker gets the figures. What is not finite is left out: JSON has no word for it, and nonfinite.jsonl has it.
        """
        if not figures or self.run is None:
            return
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        figures |= self.speed()
        if step > self.last_logged:
            self.run.log({"step": step, **figures})
            self.last_logged = step
        self.tracker.log(step, figures)

    def speed(self) -> dict[str, float]:
        """The figures of `SPEED_FIGURES` that are known, over all ranks where not said otherwise."""
        figures = {
            "windows_per_second": self.rate,
            "data_wait": self.data_wait,
            "peak_memory_gib": peak_memory(self.device) / 2**30,
        }
        if self.rate:
            figures["step_seconds"] = self.global_batch / self.rate
            figures["tokens_per_second"] = self.rate * self.work.tokens
            figures["flops_per_second"] = self.rate * self.work.flops
            figures["mfu"] = figures["flops_per_second"] / self.work.peak if self.work.peak else 0.0
        return {name: value for name, value in figures.items() if value or name in ("windows_per_second", "data_wait")}


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held: of a GPU's memory what PyTorch has allocated, of the machine's all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def training_figures(
    config: FitConfig,
    step: int,
    of_task: Mapping[str, float],
    result: StepResult,
    order: DataOrder,
    model: nn.Module,
) -> dict[str, float]:
    """The figures of a step.

    Args:
        of_task: those that only a kind of model has, over all ranks.
    """
    return {
        "epoch": order.epoch(step),
        **of_task,
        "learning_rate": learning_rate_at(config.optimizer, step - 1),
        "gradient_norm": result.gradient_norm,
        **gradient_norms(model, result),
    }


def gradient_norms(model: nn.Module, result: StepResult) -> dict[str, float]:
    """The norm of the gradient of each part of a model (`gradient_norm.encoder`), before clipping."""
    parts = [name.partition(".")[0] for name, weight in model.named_parameters() if weight.requires_grad]
    squares: dict[str, float] = defaultdict(float)
    for part, norm in zip(parts, result.weight_norms.tolist(), strict=True):
        squares[f"gradient_norm.{part}"] += norm**2
    return {name: math.sqrt(square) for name, square in squares.items()}
