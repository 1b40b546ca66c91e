"""A model in training: everything that changes from step to step, how it begins and how it is restored.

A new model may start from the weights of a trained one, as far as both are made of the same components.

The moving average of the weights is evaluated and kept in place of the weights themselves. The last steps' weights
wander around a better point between them (Polyak and Juditsky 1992; as an exponential average in Kingma and Ba 2015,
section 7.2). A step whose gradient was not finite has left everything as it was; it is recorded, and the run may end.
"""

import copy
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from musicvae.data.loader import WindowBatch
from musicvae.errors import ConfigError, MemoryExhaustedError
from musicvae.kept_memory import give_back_freed_memory
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.training.checkpoints import NOISE, TrainingState, load_checkpoint, newest_complete
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import FitConfig, learning_rate_at
from musicvae.training.step import StepUnderWay, accumulate_gradients, new_optimizer, train_step
from musicvae.training.tasks import Model, TrainingTask, new_model
from musicvae.training.world import World

EARLY = 10
"""The average of the first n steps goes back over about n / this many of them, not over its full length."""
RESERVED_BYTES = 64 * 2**20
"""For all that is no training step: threads, evaluations, logs."""
COMPONENTS = {
    "encoder": ("encoder",),
    "prior": ("prior",),
    "segments": ("conductor", "step_features"),
    "decoder": ("decoder", "history"),
}
"""Modules of `MusicVAE`, and how the names of the settings begin that they are made by."""
SHARED = ("latent", "latent_segments", "token_features")
"""Settings that all components are made by."""


class WeightAverage:
    """The average of a model's weights over its steps.

    Attributes:
        model: holds the average, without gradients.
    """

    def __init__(self, model: Model, decay: float) -> None:
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
    model: Model
    optimizer: torch.optim.Optimizer
    alone: nn.Module
    objective: nn.Module
    state: TrainingState
    average: WeightAverage | None = None

    @property
    def judged(self) -> Model:
        """The model that is evaluated and kept: the average of the weights, where there is one."""
        return self.average.model if self.average else self.model

    @classmethod
    def begin(
        cls,
        config: FitConfig,
        task: TrainingTask,
        world: World,
        run: RunFolder,
        initial_weights: Callable[[Any], object] | None,
        say: Callable[[str], object],
    ) -> "Training":
        """A new model, the same on every rank; or the one of the run's newest whole checkpoint.

        Raises:
            ConfigError: as `check_noise`.
        """
        torch.manual_seed(config.train.seed)
        model = new_model(config, task.held_out.grid, task.held_out.num_drums)
        model.to(world.device, torch.float64 if config.train.precision == "float64" else torch.float32)
        optimizer = new_optimizer(model, config.optimizer)
        decay = config.train.average_decay
        average = WeightAverage(model, decay) if decay else None
        checkpoint, passed_over = world.on_main(lambda: newest_complete(run.checkpoints))
        for sentence in passed_over:
            say(sentence)
        if checkpoint is not None:
            state = load_checkpoint(checkpoint, model, optimizer, average.model if average else None)
            world.on_main(lambda: check_noise(config, model, state, run))
            say(f"resumed from step {state.step}")
        else:
            state = TrainingState(step=0)
            if initial_weights:
                initial_weights(model)
                if average:
                    average.model.load_state_dict(model.state_dict())
        if config.train.compile:
            assert isinstance(model, MusicVAE), "settings of other models do not ask for it"
            compile_components(model, None if config.train.compile is True else config.train.compile)
        alone = task.objective(model)
        return cls(config, world, model, optimizer, alone, world.wrap(alone), state, average)

    def warm_up(self, batch: WindowBatch) -> None:
        """One throw-away forward and backward.

        DDP lays its buckets out anew after its first backward, which changes the order of additions from three ranks
        on; done before the first real step of every start, a resumed run adds in the order of an unstopped one.
        """
        with self._memory_explained(batch):
            self._backward(self.objective, batch.to(self.world.device).pieces(self.config.train.accumulation))

    def step(self, batch: WindowBatch) -> StepUnderWay:
        """Trains on the next global batch, of which this rank has a share.

        Raises:
            MemoryExhaustedError: it does not fit; the error says what would.
        """
        settings, step = self.config.train, self.state.step
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
    def _memory_explained(self, batch: WindowBatch) -> Iterator[None]:
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

    def _attempt(self, batch: WindowBatch, windows: int) -> None:
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

    def _backward(self, objective: nn.Module, pieces: list[WindowBatch]) -> None:
        accumulate_gradients(
            objective,
            pieces,
            step=self.state.step,
            global_batch=self.config.train.global_batch,
            precision=self.config.train.precision,
            world=self.world,
        )
        objective.zero_grad(set_to_none=True)


def check_noise(config: FitConfig, model: Model, state: TrainingState, run: RunFolder) -> None:
    """Whether the steps that are left have the noise of those before, or none that has changed since.

    Raises:
        ConfigError: they would be given other dropout masks.
    """
    objective = config.objective
    samples = objective.scheduled_sampling != "none" and objective.sampling_passes == "stepwise"
    blanks = samples and (objective.word_dropout > 0 or objective.window_dropout > 0)
    if state.noise == NOISE or state.step >= config.train.steps or not (model.dropouts or blanks):
        return
    raise ConfigError(
        f"{run.path} cannot be resumed: its dropout masks would change",
        expected="a run that this version started, or a run without dropout",
        found=f"a checkpoint of step {state.step} by an earlier version",
        likely="dropout masks of earlier versions depended on the number of ranks",
        do=f"start a new run from its best weights: use another --run and\n            --init-from {run.path}",
    )


def compile_components(model: MusicVAE, mode: str | None) -> None:
    """Has encoder, conductor and teacher-forced decoder compiled at their first use; weights keep their names.

    Generation step by step stays as it is. LSTMs stay the library's fused kernels: torch.compile breaks its graph at
    them. Needs a C++ compiler on the CPU.

    Args:
        mode: of torch.compile; None is its default.
    """
    model.encoder.compile(mode=mode)
    model.segments.compile(mode=mode)
    model.decoder.teacher_forced = torch.compile(model.decoder.teacher_forced, mode=mode)


def is_exhausted_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on a device or on the host."""
    # On the CPU these are plain RuntimeErrors, which only their sentences tell from others: that of torch's allocator,
    # and that of oneDNN where it gets no memory for the code of a primitive that it has already chosen.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and ("DefaultCPUAllocator" in str(error) or str(error) == "could not create a primitive")
    )


def largest_that_fits(attempt: Callable[[int], None], size: int, device: torch.device) -> int | None:
    """The first of size / 2, size / 4, ... with which an attempt does not run out of memory; None if none does."""
    while size > 1:
        size //= 2
        _forget_failed_backward(device)
        give_back_freed_memory()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            attempt(size)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold the tensors that did not fit
        else:
            return size
    return None


def _forget_failed_backward(device: torch.device) -> None:
    # A backward that raised leaves its waiting tasks, and with them all that its graph saved, in the engine's queue;
    # the next backward, however small, clears it.
    torch.zeros((), device=device, requires_grad=True).mul(1).backward()


def memory_exhausted(
    *, step: int, share: int, accumulation: int, fitting: int | None, device: torch.device
) -> MemoryExhaustedError:
    """What to tell of it.

    Args:
        share: windows of this rank in a global batch.
        accumulation: pieces that it was cut into.
        fitting: windows at once that were found to fit.
    """
    tried = -(-share // accumulation)
    where = f"{device}" if device.type != "cuda" else f"{device} ({torch.cuda.get_device_name(device)})"
    if fitting is None:
        cure = "use a smaller model or more memory; not even one window at a time fits"
    else:
        pieces = -(-share // fitting)
        cure = (
            f"run the same command with train.accumulation={pieces}. {fitting} windows at a time fit (tried just now). "
            "The result stays the same"
        )
    return MemoryExhaustedError(
        f"out of memory at step {step}",
        expected=f"{tried} windows at a time (this rank's {share} of train.global_batch in {accumulation} piece(s)) "
        "to fit",
        found=f"too little memory on {where}",
        likely="the model or batch is too large for this device, or another process uses its memory",
        do=cure,
    )


def matching_components(settings: ModelSettings, trained: ModelSettings) -> tuple[str, ...]:
    """Components that are made alike in both models; dropout, which has no weights, may be another."""
    asked, have = settings.model_dump(), trained.model_dump()
    if any(asked[name] != have[name] for name in SHARED):
        return ()
    return tuple(name for name, begins in COMPONENTS.items() if _made_by(asked, begins) == _made_by(have, begins))


def start_from(model: MusicVAE, trained: MusicVAE, components: tuple[str, ...]) -> tuple[str, ...]:
    """Takes over the weights of components; gives those that begin anew.

    What makes one of several kinds of decoder leaves the same settings of another unused, so a component with weights
    of other names or shapes begins anew too. A learnt prior that begins anew is N(0, I).
    """
    anew = []
    for component in COMPONENTS:
        mine, theirs = getattr(model, component), getattr(trained, component)
        if component in components and _shapes(mine) == _shapes(theirs):
            mine.load_state_dict(theirs.state_dict())
        elif _shapes(mine):
            anew.append(component)
    return tuple(anew)


def _made_by(values: dict[str, Any], begins: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name.startswith(begins) and not name.endswith("dropout")}


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in module.state_dict().items()}
