"""`fit`: trains one run to its end, from wherever its folder says that it stopped.

No command line, no environment, no process group is set up here: the caller brings a `World`, and jobs, sweeps and Ray
call the same function. In an evaluation inside a run all ranks share a split, and leave together when they are asked to
stop.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Int64
from torch import nn

from musicvae.data.feel import count_feel, feel_of
from musicvae.data.loader import WindowBatch, in_background
from musicvae.data.manifest import MANIFEST_NAME, ShardManifest, ShardSource
from musicvae.data.order import DataOrder
from musicvae.data.shards import read_blocks
from musicvae.data.store import reread_warning
from musicvae.errors import DivergedError, StoppedError
from musicvae.evaluation.elbo import evaluation_rounds
from musicvae.model.precision import computing
from musicvae.training.checkpoints import CheckpointWriter
from musicvae.training.profiling import ProfiledWork, profiled, vendor_peak
from musicvae.training.progress import Phase, RunProgress, StepWork, Tracker, training_figures
from musicvae.training.run_folder import RunFolder, disk_full_explained
from musicvae.training.settings import FitConfig
from musicvae.training.state import Training
from musicvae.training.step import StepResult, StepUnderWay
from musicvae.training.stopping import Stop, StopAgreement, until
from musicvae.training.tasks import ExampleMaking, Report, TrainingTask, task_of
from musicvae.training.world import World

FEEL_SHARDS = 64
"""Shards, evenly spaced, that the training data's velocity and timing are measured on."""
NAMED_WEIGHTS = 8
"""Weight tensors with a gradient that is not finite that a record names; one bad value spreads to most of them."""


def fit(
    config: FitConfig,
    shards: ShardSource,
    run: RunFolder,
    world: World,
    tracker: Tracker,
    *,
    initial_weights: Callable[[Any], object] | None = None,
    stop_requested: Callable[[], Stop] = lambda: Stop.GO_ON,
    beat: Callable[[int, str], object] = lambda step, phase: None,
) -> Report:
    """Trains up to `config.train.steps` and gives the last evaluation on the validation split.

    Args:
        run: an opened run folder, on rank 0 held by this launch; a checkpoint in it is resumed.
        initial_weights: fills a new run's model; a resumed run has its own.
        stop_requested: asked at every step, and every round of an evaluation, whether this process wants to stop.
        beat: gets the step and what is being done at the same places, as a heartbeat.

    Raises:
        ConfigError: fewer windows than a batch, or no validation split.
        DataError: a damaged shard.
        DivergedError: the gradient is not finite; the last checkpoint stands.
        MemoryExhaustedError: a step does not fit; what would, was tried.
        DiskFullError: the run folder cannot be written to; the last checkpoint stands.
        SupersededError: another launch has taken the run folder over.
        StoppedError: a process wished to stop; everything was saved.
    """
    settings = config.train
    manifest = shards.manifest()
    task = task_of(config, shards, manifest)
    stopping = StopAgreement(world.start_agreement, until(settings.max_minutes, stop_requested))
    stopping.ask()
    beat(0, "starting")
    training = Training.begin(config, task, world, run, initial_weights, tracker.say)
    work = _step_work(config, task, training.model, world)
    progress = RunProgress(
        run if world.is_main else None, tracker, training.state, settings, work=work, device=world.device
    )
    loop = _Loop(config, task, run, world, tracker, beat, task.order, stopping, training, progress)
    batches = partial(task.batches, rank=world.rank, world_size=world.size)
    start = training.state.step
    precision = computing(world.device, matmul=settings.matmul, deterministic=settings.deterministic)
    with precision, disk_full_explained(run), ExitStack() as at_the_end:
        _describe_data(run, shards, manifest, world)
        if world.is_main:
            progress.resume(start)
            loop.examples = task.example_maker(run, start, tracker)
            loop.writer = CheckpointWriter(run, keep=settings.keep_checkpoints, keep_every=settings.keep_every)
            at_the_end.callback(loop.writer.close)
        progress.doing("starting", training.state, at_once=True)
        lanes = -(-task.order.lanes // world.size)
        if warning := reread_warning(task.order.shard_windows, lanes=lanes, cached_blocks=config.data.cached_blocks):
            tracker.say(warning)
        if start >= settings.steps:
            tracker.say(f"the run is complete at step {start}; to extend it, add train.steps={2 * start}")
        training.warm_up(next(iter(batches(first=0, last=1))))
        if training.state.unlogged is not None:
            loop.evaluate(training.state.unlogged)
        ahead = in_background(batches(first=start, last=settings.steps), pin=world.device.type == "cuda")
        stream = progress.waiting_for(at_the_end.enter_context(closing(ahead)))
        if settings.profile and world.is_main:
            work = ProfiledWork.of(config, task.flops(training.model), world)
            stream = at_the_end.enter_context(closing(profiled(stream, run.profile, work)))
        progress.start_clock(start)
        loop.train(stream)
        return loop.end()


@dataclass(slots=True, eq=False)
class _Loop:
    """What happens from step to step in one launch of a run.

    Attributes:
        examples, writer: on rank 0 alone.
        report: the last evaluation of this launch.
    """

    config: FitConfig
    task: TrainingTask
    run: RunFolder
    world: World
    tracker: Tracker
    beat: Callable[[int, str], object]
    order: DataOrder
    stopping: StopAgreement
    training: Training
    progress: RunProgress
    examples: ExampleMaking | None = None
    writer: CheckpointWriter | None = None
    report: Report | None = None

    def train(self, stream: Iterable[WindowBatch]) -> None:
        """Makes a step of each batch; reads its result while the next one is under way."""
        settings, training = self.config.train, self.training
        under_way: StepUnderWay | None = None
        for batch in stream:
            self.doing("training")
            if stop := self.stopping.agreed():
                if under_way:
                    self.progress.log(training.state.step, self.settle(under_way))
                self.leave(stop)
            self.stopping.ask()
            if settings.log_windows:
                ids = batch.window_ids.tolist()
                self.run.log_windows(training.state.step + 1, ids, rank=self.world.rank, world_size=self.world.size)
            before, under_way = under_way, training.step(batch)
            if before:
                self.progress.log(before.step + 1, self.settle(before))
            step = training.state.step
            is_last = step == settings.steps
            evaluates = is_last or step % settings.evaluate_every == 0
            saves = is_last or step % settings.checkpoint_every == 0
            if evaluates or saves:
                figures, under_way = self.settle(under_way), None
                if evaluates:
                    self.evaluate(figures)
                else:
                    self.progress.log(step, figures)
                if saves:
                    self.save()

    def end(self) -> Report:
        """Waits for what is being written; gives the last evaluation, made now where this launch has made none."""
        self.stopping.agreed()
        if self.writer:
            self.writer.wait()
        state = self.training.state
        self.progress.doing("ending", state, at_once=True)
        if self.report is None:
            self.report = self.measure({}, in_full=True)
            self.tracker.log(state.step, self.task.figures(self.report))
        return self.report

    def doing(self, phase: Phase) -> None:
        self.beat(self.training.state.step, phase)
        self.progress.doing(phase, self.training.state)

    def settle(self, under_way: StepUnderWay) -> dict[str, float]:
        """Reads the result of a step; gives the figures that are to be logged of it."""
        settings, result, step = self.config.train, under_way.result(), under_way.step + 1
        if not math.isfinite(result.gradient_norm):
            self.skip(step, result)
        if step % settings.log_every and step != settings.steps:
            return {}
        self.progress.measure_rate(self.training.state.step)
        of_task = self.task.step_figures(step, self.world.sum(result.sums()))
        return training_figures(self.config, step, of_task, result, self.order, self.training.model)

    def skip(self, step: int, result: StepResult) -> None:
        """Records a step whose gradient is not finite.

        Raises:
            DivergedError: such steps may not be left out, or not so many.
        """
        settings, skipped = self.config.train, self.training.state.skipped
        window_ids = self.order.windows(step - 1, range(self.order.lanes))
        record = nonfinite_record(step, result, self.training.model, window_ids)
        if self.world.is_main:
            self.run.log_nonfinite(record)
        allowed = settings.on_nonfinite == "skip"
        if not allowed or skipped >= settings.max_skipped:
            raise diverged(record, self.run.nonfinite, skipped=skipped if allowed else None)
        self.training.state = replace(self.training.state, skipped=skipped + 1)
        message = (
            f"step {step} is left out: its gradient is not finite ({skipped + 1} so far); see {self.run.nonfinite}"
        )
        self.tracker.say(message)

    def evaluate(self, figures: Mapping[str, float]) -> None:
        """Evaluates, logs that with the figures of the step, and keeps the best weights."""
        step = self.training.state.step
        self.report = report = self.measure(figures, in_full=step == self.config.train.steps)
        validation = self.task.figures(report)
        state = replace(self.training.state, unlogged=None)
        loss = self.task.judgement(report)
        if state.best_loss is None or loss < state.best_loss:
            state = replace(state, best_loss=loss, best_step=step)
            if self.writer:
                self.writer.save_best(self.training.judged, step, validation)
        self.training.state = state
        if self.examples:
            self.examples(self.training.judged, report, step)
        if self.order.epoch(step) >= 1 and (warning := self.task.warning(report, step)):
            self.tracker.say(warning)
        self.progress.log(step, {**figures, **validation})

    def measure(self, figures: Mapping[str, float], *, in_full: bool) -> Report:
        """The report on the validation split, each window counted once whatever the world size.

        Every rank makes the same number of rounds, and between two of them all agree on whether to go on.

        Args:
            figures: of the present step, kept if this is interrupted.
            in_full: also measure what takes more time.
        """
        world, task, model = self.world, self.task, self.training.judged
        rounds = evaluation_rounds(
            task.held_out.num_windows,
            batch=self.config.train.evaluation_batch,
            rank=world.rank,
            world_size=world.size,
        )
        sums = task.no_sums()
        self.stopping.hurry()
        for window_ids in rounds:
            self.doing("evaluating")
            if stop := self.stopping.agreed():
                self.training.state = replace(self.training.state, unlogged=figures)
                self.leave(stop)
            self.stopping.ask()
            sums = sums + task.evaluation_sums(model, window_ids, world.device, in_full=in_full)
        self.stopping.hurry()
        return task.report(world.sum(sums))

    def save(self) -> None:
        training = self.training
        if self.writer:
            average = training.average.model if training.average else None
            self.writer.save(training.model, training.optimizer, training.state, average)

    def leave(self, stop: Stop) -> NoReturn:
        """Saves everything and says how far it came."""
        self.doing("saving")
        self.save()
        if self.writer:
            self.writer.wait()
        self.progress.doing("stopping", self.training.state, at_once=True)
        raise StoppedError(self.training.state.step, by_user=stop == Stop.STOP_FOR_USER)


def _step_work(config: FitConfig, task: TrainingTask, model: Any, world: World) -> StepWork:
    if config.performance is not None:
        return StepWork()
    peak = vendor_peak(world.device, config.train.precision, config.train.matmul)
    return StepWork(task.held_out.grid.num_steps, task.flops(model), peak and peak * world.size)


def nonfinite_record(
    step: int, result: StepResult, model: nn.Module, window_ids: Int64[np.ndarray, " window"]
) -> dict[str, Any]:
    """A line of nonfinite.jsonl: the step, its windows over all ranks, and where the gradient was not finite."""
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    norms = dict(zip(names, result.weight_norms.tolist(), strict=True))
    return {
        "step": step,
        "loss_finite_on_rank_0": math.isfinite(result.loss),
        "gradient_norm": str(result.gradient_norm),
        "weights_not_finite": [name for name, norm in norms.items() if not math.isfinite(norm)],
        "gradient_norms": {name: norm if math.isfinite(norm) else str(norm) for name, norm in norms.items()},
        "window_ids": window_ids.tolist(),
    }


def diverged(record: dict[str, Any], written_to: object, *, skipped: int | None) -> DivergedError:
    """The error that ends a run.

    Args:
        skipped: how many steps were left out before this one, where leaving out was allowed.
    """
    where = record["weights_not_finite"]
    return DivergedError(
        f"the gradient is not finite at step {record['step']}"
        + (f", after {skipped} such steps that were left out" if skipped is not None else ""),
        expected="a finite gradient" if skipped is None else f"at most train.max_skipped={skipped} of them",
        found=f"norm {record['gradient_norm']}, first in {', '.join(where[:NAMED_WEIGHTS])}"
        + (f" and {len(where) - NAMED_WEIGHTS} more" if len(where) > NAMED_WEIGHTS else "")
        + f"; step, window ids and norms are in {written_to}",
        likely="the learning rate is too high",
        do="start a new run with a lower optimizer.learning_rate or more optimizer.warmup_steps, "
        "or let the same run leave such steps out with train.on_nonfinite=skip",
    )


def _describe_data(run: RunFolder, shards: ShardSource, manifest: ShardManifest, world: World) -> None:
    """Writes down, once for a run, what is known of its data; the ranks share the reading."""
    if world.is_main and not (run.path / MANIFEST_NAME).exists():
        manifest.write(run.path)
    if world.on_main(run.feel.exists):
        return
    entries = manifest.split("train").shards
    count = min(len(entries), FEEL_SHARDS)
    spaced = [entries[i * len(entries) // count] for i in range(count)]
    counts = count_feel(read_blocks(shards, manifest, spaced[world.rank :: world.size]), manifest.grid)
    parts = world.gather(counts)
    if world.is_main:
        feel_of(parts, manifest.grid).save(run.feel)
