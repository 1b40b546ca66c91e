"""A model in training: everything that changes from step to step, how it begins and how it is restored."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from musicvae.data.loader import Batch
from musicvae.data.manifest import ShardManifest
from musicvae.model.model import MusicVAE
from musicvae.randomness import Purpose, generator
from musicvae.training.checkpoint import TrainingState, load_checkpoint, newest_complete
from musicvae.training.compiled import compile_parts
from musicvae.training.fit_config import FitConfig
from musicvae.training.memory import is_exhausted_memory, largest_that_fits, memory_exhausted
from musicvae.training.run_folder import RunFolder
from musicvae.training.schedule import learning_rate_at
from musicvae.training.train_step import (
    StepUnderWay,
    TrainingObjective,
    accumulate_gradients,
    new_optimizer,
    train_step,
)
from musicvae.training.weight_average import WeightAverage
from musicvae.training.world import World

RESERVED_BYTES = 64 * 2**20
"""For all that is no training step: threads, evaluations, logs."""


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
