"""`fit`: trains one run to its end, from wherever its folder says that it stands.

No command line, no environment, no process group is set up here: the caller brings a `World`, and jobs, sweeps and Ray
call the same function.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import numpy as np
import torch
from torch import nn

from musicvae.batch import Batch
from musicvae.best_weights import save_best
from musicvae.checkpoint import TrainingState, load_checkpoint, newest_complete, save_checkpoint
from musicvae.errors import DivergedError, StoppedError
from musicvae.evaluation import EvaluationReport, EvaluationSums, evaluate_split
from musicvae.feel import measure_feel
from musicvae.fit_config import FitConfig
from musicvae.loader import RandomDraws, in_background, training_batches
from musicvae.manifest import ShardManifest
from musicvae.model import MusicVAE
from musicvae.objective import NATS_PER_BIT, beta_at
from musicvae.order import DataOrder
from musicvae.progress import RunProgress, validation_figures
from musicvae.run_folder import RunFolder
from musicvae.schedule import learning_rate_at
from musicvae.shards import read_shard
from musicvae.tracker import Tracker
from musicvae.train_step import StepResult, TrainingObjective, accumulate_gradients, train_step
from musicvae.window_store import WindowStore
from musicvae.world import World

EVALUATION_SEED = 0
"""Of the latent noise in evaluations: the same for every run, so that their figures compare."""
FEEL_SHARDS = 64
"""Shards, evenly spaced, that the training data's velocity and timing are measured on."""
COLLAPSED_NATS = 1.0
"""A KL below this carries less than a bit and a half per window: the decoder ignores z."""


class Wish(IntEnum):
    """What a process asks of all: the largest wish of any rank holds for all of them."""

    GO_ON = 0
    STOP_FOR_SCHEDULER = 1
    STOP_FOR_USER = 2


def fit(
    config: FitConfig,
    shards: Path,
    run: RunFolder,
    world: World,
    tracker: Tracker,
    *,
    initial_weights: Callable[[MusicVAE], object] | None = None,
    wish: Callable[[], Wish] = lambda: Wish.GO_ON,
) -> EvaluationReport:
    """Trains up to `config.train.steps` and gives the last evaluation on the validation split.

    Args:
        run: an opened run folder; a checkpoint in it is resumed.
        initial_weights: fills a new run's model; a resumed run has its own.
        wish: asked at every step whether this process wants to stop.

    Raises:
        ConfigError: fewer windows than a batch, or no validation split.
        DataError: a damaged shard.
        DivergedError: the gradient is not finite; the last checkpoint stands.
        StoppedError: a process wished to stop; everything was saved.
    """
    manifest = ShardManifest.read(shards)
    settings = config.train
    store = WindowStore(shards, manifest, "train", cached_shards=config.data.cached_shards)
    order = data_order(config, manifest)
    model, optimizer = build(config, manifest, world.device)
    state = _restore(run, model, optimizer, tracker)
    if state.step == 0 and initial_weights:
        initial_weights(model)
    if world.is_main:
        run.cut_metrics(state.step)
        _ensure_feel(run, shards, manifest)
    progress = RunProgress(
        run if world.is_main else None,
        tracker,
        first_step=state.step,
        total=settings.steps,
        global_batch=settings.global_batch,
    )
    progress.state("running", state.step)
    if state.step >= settings.steps:
        tracker.say(f"already at step {state.step}; train.steps={2 * settings.steps} would extend it")

    def batches(first: int, last: int) -> Iterable[Batch]:
        draws = RandomDraws(
            seed=settings.seed,
            latent=config.model.latent,
            scheduled_sampling=config.objective.scheduled_sampling != "none",
            word_dropout=config.objective.word_dropout,
        )
        return training_batches(
            store, order, config.data, draws, rank=world.rank, world_size=world.size, first=first, last=last
        )

    def evaluate(*, free_running: bool) -> EvaluationReport:
        sums = evaluate_split(
            model,
            shards,
            manifest,
            "validation",
            seed=EVALUATION_SEED,
            batch=settings.evaluation_batch,
            device=world.device,
            free_running=free_running,
            rank=world.rank,
            world_size=world.size,
        )
        total = world.sum(sums.to_vector())
        return EvaluationReport.from_sums(
            EvaluationSums.from_vector(total, latent=model.latent, num_drums=manifest.drum_map.num_drums)
        )

    objective = world.wrap(TrainingObjective(model, config.objective))
    _warm_up(objective, batches(0, 1), config, world)
    agreed: Callable[[], int] = lambda: Wish.GO_ON  # noqa: E731
    report = None
    progress.start_clock(state.step)
    with closing(in_background(batches(state.step, settings.steps))) as stream:
        for batch in stream:
            if stop := agreed():
                _save(run, model, optimizer, state, config, world)
                progress.state("running", state.step)
                raise StoppedError(state.step, by_user=stop == Wish.STOP_FOR_USER)
            agreed = world.start_agreement(wish())
            result = train_step(
                objective,
                optimizer,
                batch.to(world.device).pieces(settings.accumulation),
                step=state.step,
                learning_rate=learning_rate_at(config.optimizer, state.step),
                global_batch=settings.global_batch,
                clip=settings.clip,
                precision=settings.precision,
                world=world,
            )
            if not math.isfinite(result.gradient_norm):
                raise _diverged(batch, state.step, result)
            state = replace(state, step=state.step + 1)
            is_last = state.step == settings.steps
            figures = {}
            if is_last or state.step % settings.log_every == 0:
                progress.measure_rate(state.step)
                figures |= _training_figures(config, state.step, world.sum(result.sums()), result, order)
            if is_last or state.step % settings.evaluate_every == 0:
                report = evaluate(free_running=is_last)
                figures |= validation_figures(report)
                state = _keep_best(run, model, state, report, figures, world)
                if order.epoch(state.step) >= 1:
                    _warn_of_collapse(report, state.step, tracker)
            progress.log(state.step, figures)
            if is_last or state.step % settings.checkpoint_every == 0:
                _save(run, model, optimizer, state, config, world)
    agreed()
    progress.state("running", state.step)
    if report is None:
        report = evaluate(free_running=True)
        tracker.log(state.step, validation_figures(report))
    return report


def data_order(config: FitConfig, manifest: ShardManifest) -> DataOrder:
    """The order of the training windows.

    Raises:
        ConfigError: no train split, or fewer windows than a batch or the lanes need.
    """
    return DataOrder(
        [shard.windows for shard in manifest.split("train").shards],
        seed=config.train.seed,
        lanes=config.data.lanes,
        global_batch=config.train.global_batch,
    )


def build(config: FitConfig, manifest: ShardManifest, device: torch.device) -> tuple[MusicVAE, torch.optim.Optimizer]:
    """A new model, the same on every rank, and its optimizer."""
    torch.manual_seed(config.train.seed)
    model = MusicVAE(config.model, manifest.grid, manifest.drum_map.num_drums)
    model.to(device, torch.float64 if config.train.precision == "float64" else torch.float32)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        betas=(0.9, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
    )
    return model, optimizer


def _training_figures(
    config: FitConfig, step: int, sums: np.ndarray, result: StepResult, order: DataOrder
) -> dict[str, float]:
    windows, loss, reconstruction, kl = sums.tolist()
    return {
        "epoch": order.epoch(step),
        "loss": loss / windows,
        "reconstruction": reconstruction / windows,
        "kl_nats": kl / windows,
        "kl_bits": kl / windows / NATS_PER_BIT,
        "beta": beta_at(config.objective, step - 1),
        "learning_rate": learning_rate_at(config.optimizer, step - 1),
        "gradient_norm": result.gradient_norm,
    }


def _restore(run: RunFolder, model: MusicVAE, optimizer: torch.optim.Optimizer, tracker: Tracker) -> TrainingState:
    checkpoint, passed_over = newest_complete(run.checkpoints)
    for sentence in passed_over:
        tracker.say(sentence)
    if checkpoint is None:
        return TrainingState(step=0)
    state = load_checkpoint(checkpoint, model, optimizer)
    tracker.say(f"resumed from step {state.step}")
    return state


def _warm_up(objective: nn.Module, batches: Iterable[Batch], config: FitConfig, world: World) -> None:
    """One throw-away forward and backward.

    DDP lays its buckets out anew after its first backward, which changes the order of additions from three ranks on;
    done before the first real step of every start, a resumed run adds in the order of an unstopped one.
    """
    settings = config.train
    batch = next(iter(batches))
    accumulate_gradients(
        objective,
        batch.to(world.device).pieces(settings.accumulation),
        step=0,
        global_batch=settings.global_batch,
        precision=settings.precision,
        world=world,
    )
    objective.zero_grad(set_to_none=True)


def _save(
    run: RunFolder,
    model: MusicVAE,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    config: FitConfig,
    world: World,
) -> None:
    if world.is_main:
        save_checkpoint(run.checkpoints, model, optimizer, state, keep=config.train.keep_checkpoints)


def _keep_best(
    run: RunFolder,
    model: MusicVAE,
    state: TrainingState,
    report: EvaluationReport,
    figures: dict[str, float],
    world: World,
) -> TrainingState:
    if state.best_loss is not None and report.negative_elbo >= state.best_loss:
        return state
    if world.is_main:
        save_best(run.best, model, state.step, {name: v for name, v in figures.items() if name.startswith("valid")})
    return replace(state, best_loss=report.negative_elbo, best_step=state.step)


def _warn_of_collapse(report: EvaluationReport, step: int, tracker: Tracker) -> None:
    if report.kl < COLLAPSED_NATS or report.active_units == 0:
        tracker.say(
            f"posterior collapse at step {step}: KL {report.kl:.2f} nats, {report.active_units} active units; "
            "the decoder ignores z. More objective.free_bits, a smaller objective.beta or objective.word_dropout help"
        )


def _ensure_feel(run: RunFolder, shards: Path, manifest: ShardManifest) -> None:
    if run.feel.exists():
        return
    entries = manifest.split("train").shards
    count = min(len(entries), FEEL_SHARDS)
    spaced = [entries[i * len(entries) // count] for i in range(count)]
    blocks = (read_shard(shards, e, grid=manifest.grid, num_drums=manifest.drum_map.num_drums) for e in spaced)
    measure_feel(blocks, manifest.grid).save(run.feel)


def _diverged(batch: Batch, step: int, result: StepResult) -> DivergedError:
    return DivergedError(
        f"the gradient is not finite at step {step}",
        expected="a finite gradient",
        found=f"norm {result.gradient_norm}, loss {result.loss}; first window ids {batch.window_ids[:8].tolist()}",
        likely="a learning rate that is too high",
        do="start a new run with a smaller optimizer.learning_rate or more optimizer.warmup_steps",
    )
