"""`fit`: trains one run to its end, from wherever its folder says that it stopped.

No command line, no environment, no process group is set up here: the caller brings a `World`, and jobs, sweeps and Ray
call the same function. In an evaluation inside a run all ranks share a split, and leave together when they are asked to
stop.
"""

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import NoReturn

import numpy as np

from musicvae.data.feel import measure_feel
from musicvae.data.loader import Batch, RandomDraws, in_background, training_batches
from musicvae.data.manifest import MANIFEST_NAME, ShardManifest
from musicvae.data.order import DataOrder
from musicvae.data.shards import read_shard
from musicvae.data.sources import ShardSource
from musicvae.data.store import WindowStore
from musicvae.errors import DiskFullError, StoppedError
from musicvae.evaluation.elbo import (
    EVALUATION_BLOCKS,
    EvaluationReport,
    EvaluationSums,
    evaluate_batch,
    evaluation_batches,
)
from musicvae.model.model import MusicVAE
from musicvae.model.objective import NATS_PER_BIT
from musicvae.training.checkpoints import CheckpointWriter
from musicvae.training.profiling import ProfiledWork, profiled
from musicvae.training.progress import ExampleMaker, Phase, RunProgress, Tracker, training_figures, validation_figures
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import FitConfig
from musicvae.training.state import Training, diverged, nonfinite_record
from musicvae.training.step import StepResult, StepUnderWay
from musicvae.training.stopping import StopAgreement, Wish, until
from musicvae.training.world import World

FEEL_SHARDS = 64
"""Shards, evenly spaced, that the training data's velocity and timing are measured on."""
COLLAPSED_NATS = 1.0
"""A KL below this carries less than a bit and a half per window: the decoder ignores z."""
EVALUATION_SEED = 0
"""Of the latent noise: the same for every run and in `jobs.evaluate`, so that their figures compare."""


def fit(
    config: FitConfig,
    shards: ShardSource,
    run: RunFolder,
    world: World,
    tracker: Tracker,
    *,
    initial_weights: Callable[[MusicVAE], object] | None = None,
    wish: Callable[[], Wish] = lambda: Wish.GO_ON,
    beat: Callable[[int, str], object] = lambda step, phase: None,
) -> EvaluationReport:
    """Trains up to `config.train.steps` and gives the last evaluation on the validation split.

    Args:
        run: an opened run folder, on rank 0 held by this launch; a checkpoint in it is resumed.
        initial_weights: fills a new run's model; a resumed run has its own.
        wish: asked at every step, and every round of an evaluation, whether this process wants to stop.
        beat: told at the same places the step and what is being done, as a sign of life.

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
    store = WindowStore(shards, manifest, "train", cached_blocks=config.data.cached_blocks)
    held_out = WindowStore(shards, manifest, "validation", cached_blocks=EVALUATION_BLOCKS)
    order = DataOrder.of(manifest, seed=settings.seed, lanes=config.data.lanes, global_batch=settings.global_batch)
    stopping = StopAgreement(world.start_agreement, until(settings.max_minutes, wish))
    stopping.ask()
    beat(0, "starting")
    training = Training.begin(config, manifest, world, run, initial_weights, tracker.say)
    progress = RunProgress(run if world.is_main else None, tracker, training.state, settings)

    def batches(first: int, last: int) -> Iterable[Batch]:
        return training_batches(
            store,
            order,
            config.data,
            random_draws(config),
            rank=world.rank,
            world_size=world.size,
            first=first,
            last=last,
        )

    def doing(phase: Phase) -> None:
        beat(training.state.step, phase)
        progress.doing(phase, training.state)

    def settle(under_way: StepUnderWay) -> dict[str, float]:
        """Reads the result of a step; gives the figures that are to be logged of it."""
        result, step = under_way.result(), under_way.step + 1
        if not math.isfinite(result.gradient_norm):
            skip(step, result, order.windows(under_way.step, range(order.lanes)))
        if step % settings.log_every and step != settings.steps:
            return {}
        progress.measure_rate(training.state.step)
        return training_figures(config, step, world.sum(result.sums()), result, order)

    def skip(step: int, result: StepResult, window_ids: np.ndarray) -> None:
        record = nonfinite_record(step, result, training.model, window_ids)
        if world.is_main:
            run.log_nonfinite(record)
        skipped, allowed = training.state.skipped, settings.on_nonfinite == "skip"
        if not allowed or skipped >= settings.max_skipped:
            raise diverged(record, run.nonfinite, skipped=skipped if allowed else None)
        training.state = replace(training.state, skipped=skipped + 1)
        tracker.say(f"step {step} is left out: its gradient is not finite ({skipped + 1} so far); see {run.nonfinite}")

    def measure(figures: Mapping[str, float], *, is_last: bool) -> EvaluationReport:
        """Evaluates after the present step; the figures of the step are kept if this is interrupted."""
        outcome = validate(
            training.judged,
            held_out,
            world,
            stopping,
            batch=settings.evaluation_batch,
            free_running=is_last,
            beat=lambda: doing("evaluating"),
        )
        if isinstance(outcome, Wish):
            training.state = replace(training.state, unlogged=figures)
            leave(outcome)
        return outcome

    def evaluate(figures: Mapping[str, float], *, is_last: bool) -> EvaluationReport:
        """Evaluates, logs that with the figures of the step, and keeps the best weights."""
        report = measure(figures, is_last=is_last)
        step, validation = training.state.step, validation_figures(report)
        state = replace(training.state, unlogged=None)
        loss = _judgement(config, report)
        if state.best_loss is None or loss < state.best_loss:
            state = replace(state, best_loss=loss, best_step=step)
            if writer:
                writer.save_best(training.judged, step, validation)
        training.state = state
        if examples:
            examples.make(training.judged, report, step)
        if order.epoch(step) >= 1:
            _warn_of_collapse(report, step, tracker)
        progress.log(step, {**figures, **validation})
        return report

    def save() -> None:
        if writer:
            average = training.average.model if training.average else None
            writer.save(training.model, training.optimizer, training.state, average)

    def leave(stop: Wish) -> NoReturn:
        """Saves everything and says how far it came."""
        doing("saving")
        save()
        if writer:
            writer.wait()
        progress.doing("stopping", training.state, at_once=True)
        raise StoppedError(training.state.step, by_user=stop == Wish.STOP_FOR_USER)

    report = None
    with _disk_full_explained(run), ExitStack() as at_the_end:
        writer = examples = None
        if world.is_main:
            run.cut_logs(training.state.step)
            _describe_data(run, shards, manifest)
            examples = ExampleMaker(run, held_out, training.state.step, tracker)
            writer = CheckpointWriter(run, keep=settings.keep_checkpoints, keep_every=settings.keep_every)
            at_the_end.callback(writer.close)
        progress.doing("starting", training.state, at_once=True)
        if training.state.step >= settings.steps:
            tracker.say(f"already at step {training.state.step}; train.steps={2 * training.state.step} would extend it")
        training.warm_up(next(iter(batches(0, 1))))
        if training.state.unlogged is not None:
            report = evaluate(training.state.unlogged, is_last=training.state.step == settings.steps)
        ahead = in_background(batches(training.state.step, settings.steps), pin=world.device.type == "cuda")
        stream = progress.waiting_for(at_the_end.enter_context(closing(ahead)))
        if settings.profile and world.is_main:
            work = ProfiledWork.of(config, manifest, world)
            stream = at_the_end.enter_context(closing(profiled(stream, run.profile, work)))
        progress.start_clock(training.state.step)

        under_way: StepUnderWay | None = None
        for batch in stream:
            doing("training")
            if stop := stopping.agreed():
                if under_way:
                    progress.log(training.state.step, settle(under_way))
                leave(stop)
            stopping.ask()
            if settings.log_windows:
                run.log_windows(
                    training.state.step + 1, batch.window_ids.tolist(), rank=world.rank, world_size=world.size
                )
            before, under_way = under_way, training.step(batch)
            if before:
                progress.log(before.step + 1, settle(before))
            step = training.state.step
            is_last = step == settings.steps
            evaluates = is_last or step % settings.evaluate_every == 0
            saves = is_last or step % settings.checkpoint_every == 0
            if evaluates or saves:
                figures, under_way = settle(under_way), None
                if evaluates:
                    report = evaluate(figures, is_last=is_last)
                else:
                    progress.log(step, figures)
                if saves:
                    save()
        stopping.agreed()
        if writer:
            writer.wait()
        progress.doing("ending", training.state, at_once=True)
        if report is None:
            report = measure({}, is_last=True)
            tracker.log(training.state.step, validation_figures(report))
    return report


def random_draws(config: FitConfig) -> RandomDraws:
    """The random numbers that a training step of these settings needs."""
    return RandomDraws(
        seed=config.train.seed,
        latent=config.model.latent,
        scheduled_sampling=config.objective.scheduled_sampling != "none",
        word_dropout=config.objective.word_dropout,
        window_dropout=config.objective.window_dropout,
    )


@contextmanager
def _disk_full_explained(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"{run.path} cannot be written to",
            expected="space for checkpoints and logs",
            found=error.strerror or str(error),
            likely="a full disk or a used-up quota",
            do="free some space and run the same command again: it goes on from the last checkpoint",
        ) from error


def _judgement(config: FitConfig, report: EvaluationReport) -> float:
    """The figure of an evaluation by which the best weights are chosen; lower is better."""
    match config.train.best_by:
        case "negative_elbo":
            return report.negative_elbo
        case "objective":
            free = config.objective.free_bits * NATS_PER_BIT
            return report.reconstruction + config.objective.beta * max(0.0, report.kl - free)


def _warn_of_collapse(report: EvaluationReport, step: int, tracker: Tracker) -> None:
    if len(report.kl_by_dimension) and (report.kl < COLLAPSED_NATS or report.active_units == 0):
        tracker.say(
            f"posterior collapse at step {step}: KL {report.kl:.2f} nats, {report.active_units} active units; "
            "the decoder ignores z. More objective.free_bits, a smaller objective.beta or objective.word_dropout help"
        )


def _describe_data(run: RunFolder, shards: ShardSource, manifest: ShardManifest) -> None:
    if not (run.path / MANIFEST_NAME).exists():
        manifest.write(run.path)
    if run.feel.exists():
        return
    entries = manifest.split("train").shards
    count = min(len(entries), FEEL_SHARDS)
    spaced = [entries[i * len(entries) // count] for i in range(count)]
    blocks = (read_shard(shards.local(e), e, grid=manifest.grid, num_drums=manifest.drum_map.num_drums) for e in spaced)
    measure_feel(blocks, manifest.grid).save(run.feel)


def validate(
    model: MusicVAE,
    windows: WindowStore,
    world: World,
    stopping: StopAgreement,
    *,
    batch: int,
    free_running: bool,
    beat: Callable[[], None],
) -> EvaluationReport | Wish:
    """The report on the validation split, each window counted once whatever the world size; or the wish to stop.

    Every rank makes the same number of rounds, and between two of them all agree on whether to go on.

    Args:
        windows: of the validation split.
        batch: windows that a rank evaluates at once; a resource, it changes no figure.
        free_running: also decode free-running, which takes one decoder call per step.
        beat: called once a round.
    """
    num_drums = windows.num_drums
    sums = EvaluationSums.empty(model.latent, num_drums)
    for window_ids, tokens in evaluation_batches(windows, batch=batch, rank=world.rank, world_size=world.size):
        beat()
        if stop := stopping.agreed():
            return stop
        stopping.ask()
        sums += evaluate_batch(
            model,
            tokens,
            window_ids,
            num_drums=num_drums,
            seed=EVALUATION_SEED,
            device=world.device,
            free_running=free_running,
        )
    total = world.sum(sums.to_vector())
    return EvaluationReport.from_sums(EvaluationSums.from_vector(total, latent=model.latent, num_drums=num_drums))
