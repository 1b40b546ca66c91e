"""A model in training: everything that changes from step to step, how it begins and how it is restored.

The moving average of the weights is evaluated and kept in place of the weights themselves. The last steps' weights
wander around a better point between them (Polyak and Juditsky 1992; as an exponential average in Kingma and Ba 2015,
section 7.2). A step whose gradient was not finite has left everything as it was; it is recorded, and the run may end.
"""

import copy
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn

from musicvae.data.loader import Batch
from musicvae.data.manifest import ShardManifest
from musicvae.errors import DivergedError
from musicvae.model.model import MusicVAE
from musicvae.randomness import Purpose, generator
from musicvae.training.checkpoints import TrainingState, load_checkpoint, newest_complete
from musicvae.training.memory import is_exhausted_memory, largest_that_fits, memory_exhausted
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import FitConfig, learning_rate_at
from musicvae.training.step import (
    StepResult,
    StepUnderWay,
    TrainingObjective,
    accumulate_gradients,
    new_optimizer,
    train_step,
)
from musicvae.training.world import World

EARLY = 10
"""The average of the first n steps goes back over about n / this many of them, not over its full length."""
RESERVED_BYTES = 64 * 2**20
"""For all that is no training step: threads, evaluations, logs."""
NAMED_WEIGHTS = 8
"""Weight tensors with a gradient that is not finite that a record names; one bad value spreads to most of them."""


class WeightAverage:
    """The average of a model's weights over its steps.

    Attributes:
        model: holds the average, without gradients.
    """

    def __init__(self, model: MusicVAE, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def follow(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the weights after `step` updates."""
        share = 1 - min(self.decay, (step + 1) / (step + EARLY))
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, share)


@dataclass(slots=True, eq=False)
class Training:
    """What a step changes.

    Attributes:
        alone: the model with its loss, on this rank alone.
        objective: the same, with gradients averaged over all ranks.
        average: of the weights over the steps, where the settings ask for one.
    """

    config: FitConfig
    world: World
    model: MusicVAE
    optimizer: torch.optim.Optimizer
    alone: TrainingObjective
    objective: nn.Module
    state: TrainingState
    average: WeightAverage | None = None

    @property
    def judged(self) -> MusicVAE:
        """The model that is evaluated and kept: the average of the weights, where there is one."""
        return self.average.model if self.average else self.model

    @classmethod
    def begin(
        cls,
        config: FitConfig,
        manifest: ShardManifest,
        world: World,
        run: RunFolder,
        initial_weights: Callable[[MusicVAE], object] | None,
        say: Callable[[str], object],
    ) -> "Training":
        """A new model, the same on every rank; or the one of the run's newest whole checkpoint."""
        torch.manual_seed(config.train.seed)
        model = MusicVAE(config.model, manifest.grid, manifest.drum_map.num_drums)
        model.to(world.device, torch.float64 if config.train.precision == "float64" else torch.float32)
        optimizer = new_optimizer(model, config.optimizer)
        decay = config.train.average_decay
        average = WeightAverage(model, decay) if decay else None
        checkpoint, passed_over = world.on_main(lambda: newest_complete(run.checkpoints))
        for sentence in passed_over:
            say(sentence)
        if checkpoint is not None:
            state = load_checkpoint(checkpoint, model, optimizer, average.model if average else None)
            say(f"resumed from step {state.step}")
        else:
            state = TrainingState(step=0)
            if initial_weights:
                initial_weights(model)
                if average:
                    average.model.load_state_dict(model.state_dict())
        if config.train.compile:
            compile_parts(model)
        alone = TrainingObjective(model, config.objective)
        return cls(config, world, model, optimizer, alone, world.wrap(alone), state, average)

    def warm_up(self, batch: Batch) -> None:
        """One throw-away forward and backward.

        DDP lays its buckets out anew after its first backward, which changes the order of additions from three ranks
        on; done before the first real step of every start, a resumed run adds in the order of an unstopped one.
        """
        with self._memory_explained(batch):
            self._backward(self.objective, batch.to(self.world.device).pieces(self.config.train.accumulation))

    def step(self, batch: Batch) -> StepUnderWay:
        """Trains on the next global batch, of which this rank has a share.

        Raises:
            MemoryExhaustedError: it does not fit; the error says what would.
        """
        settings, step = self.config.train, self.state.step
        # Dropout is a function of seed, step and rank: nothing has to be saved for a resumed run to go on exactly.
        draws = generator(settings.seed, Purpose.DROPOUT, step, self.world.rank)
        torch.manual_seed(int(draws.integers(2**63)))
        with self._memory_explained(batch):
            under_way = train_step(
                self.objective,
                self.optimizer,
                batch.to(self.world.device).pieces(settings.accumulation),
                step=step,
                learning_rate=learning_rate_at(self.config.optimizer, step),
                global_batch=settings.global_batch,
                clip=settings.clip,
                precision=settings.precision,
                world=self.world,
            )
        if self.average:
            self.average.follow(self.model, step + 1)
        self.state = replace(self.state, step=step + 1)
        return under_way

    @contextmanager
    def _memory_explained(self, batch: Batch) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors that did not fit
            self.objective.zero_grad(set_to_none=True)
            pieces = self.config.train.accumulation
            raise memory_exhausted(
                step=self.state.step + 1,
                share=len(batch),
                accumulation=pieces,
                fitting=largest_that_fits(
                    lambda size: self._attempt(batch, size), -(-len(batch) // pieces), self.world.device
                ),
                device=self.world.device,
            ) from None

    def _attempt(self, batch: Batch, windows: int) -> None:
        """What a step with so many windows at once needs, on this rank alone; it changes nothing.

        Two pieces, for the gradients of the first are there while the second is computed, beside the optimizer's
        moments and, on the host, the copy that a checkpoint is written from; and two rounds, for memory that is in use
        and free by turns does not close up.
        """
        copies = 2 if self.world.device.type == "cuda" else 5
        beside = [torch.empty_like(weight) for weight in self.alone.parameters() for _ in range(copies)]
        beside.append(torch.empty(RESERVED_BYTES, dtype=torch.uint8, device=self.world.device))
        pieces = [batch.first(windows).to(self.world.device)] * 2
        for _ in range(2):
            self._backward(self.alone, pieces)
        del beside

    def _backward(self, objective: nn.Module, pieces: list[Batch]) -> None:
        accumulate_gradients(
            objective,
            pieces,
            step=self.state.step,
            global_batch=self.config.train.global_batch,
            precision=self.config.train.precision,
            world=self.world,
        )
        objective.zero_grad(set_to_none=True)


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
        likely="a learning rate that is too high",
        do="start a new run with a smaller optimizer.learning_rate or more optimizer.warmup_steps, "
        "or let the same run leave such steps out with train.on_nonfinite=skip",
    )


def compile_parts(model: MusicVAE) -> None:
    """Has encoder, conductor and teacher-forced decoder compiled at their first use; weights keep their names.

    Generation step by step stays as it is. LSTMs stay the library's fused kernels: torch.compile breaks its graph at
    them. Needs a C++ compiler on the CPU.
    """
    model.encoder.compile()
    model.segments.compile()
    model.decoder.teacher_forced = torch.compile(model.decoder.teacher_forced)
