"""What a sweep file holds: which values are tried, by which figure they are judged, and what it may cost."""

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from musicvae.settings import Settings

SEED = "train.seed"
Values = dict[str, Any]
"""A value for each setting that is varied, by dotted name."""
Kept = Literal["all", "weights", "nothing"]
"""What stays of a trial beside its metrics: checkpoints and best weights, best weights alone, or neither."""


class Dimension(Settings):
    """One setting of a sweep: exactly one of the kinds, and what it depends on."""

    choice: tuple[Any, ...] | None = None
    """One of these."""
    grid: tuple[Any, ...] | None = None
    """All of these in turn, whatever the search: each value (and each combination of grids) is tried equally often."""
    uniform: tuple[float, float] | None = None
    """Between two numbers."""
    log_uniform: tuple[float, float] | None = None
    """Between two positive numbers, even in the logarithm."""
    integer: tuple[int, int] | None = None
    """A whole number from the first to the last."""
    step: PositiveInt = 1
    """Of `integer`."""
    when: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)
    """The setting is varied only where others have one of these values, and has the base's value elsewhere."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        given = [name for name in ("choice", "grid", "uniform", "log_uniform", "integer") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of choice, grid, uniform, log_uniform, integer, found {', '.join(given) or 'none'}"
            )
        if bounds := self.uniform or self.log_uniform or self.integer:
            if not bounds[0] < bounds[1] or not all(map(math.isfinite, bounds)):
                raise ValueError(f"from a smaller to a larger number, found {list(bounds)}")
            if self.log_uniform and bounds[0] <= 0:
                raise ValueError(f"positive numbers, found {list(bounds)}")
        if self.step != 1 and not self.integer:
            raise ValueError("step belongs to integer")
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Of a range of real numbers."""
        return self.uniform or self.log_uniform

    def values(self) -> tuple[Any, ...]:
        """All values in order; none of a range of real numbers."""
        if self.integer:
            return tuple(range(self.integer[0], self.integer[1] + 1, self.step))
        return self.choice or self.grid or ()

    def at(self, share: float) -> Any:
        """The value that lies at a share of the range, from 0 to below 1."""
        if self.uniform:
            return self.uniform[0] + share * (self.uniform[1] - self.uniform[0])
        if self.log_uniform:
            low, high = map(math.log, self.log_uniform)
            return math.exp(low + share * (high - low))
        values = self.values()
        return values[int(share * len(values))]

    def is_active(self, chosen: Mapping[str, Any]) -> bool:
        """Whether it is varied beside what was chosen for the settings before it."""
        return all(name in chosen and chosen[name] in wanted for name, wanted in self.when.items())


Space = Mapping[str, Dimension]


def random_values(space: Space, *, seed: int, number: int) -> Values:
    """The values of the trial of a number, whatever other trials there are.

    Each setting has random numbers of its own, so that one that is added to the space later leaves the others alone.
    """
    chosen: Values = {}
    turns = in_turn(space, number)
    for name, dimension in space.items():
        if dimension.is_active(chosen):
            chosen[name] = turns[name] if name in turns else dimension.at(_share(seed, number, name))
    return chosen


def in_turn(space: Space, number: int) -> Values:
    """The values of all `grid` settings for the trial of a number; the last one turns fastest."""
    chosen: Values = {}
    for name, dimension in reversed(list(space.items())):
        if dimension.grid:
            number, place = divmod(number, len(dimension.grid))
            chosen[name] = dimension.grid[place]
    return chosen


def grid_values(space: Space) -> Iterator[Values]:
    """Every combination once, the last setting turning fastest."""
    seen: set[str] = set()
    for combination in itertools.product(*(dimension.values() for dimension in space.values())):
        chosen: Values = {}
        for (name, dimension), value in zip(space.items(), combination, strict=True):
            if dimension.is_active(chosen):
                chosen[name] = value
        if repr(chosen) not in seen:
            seen.add(repr(chosen))
            yield chosen


def plain(value: Any) -> Any:
    """A value as JSON would give it back."""
    return list(map(plain, value)) if isinstance(value, list | tuple) else value


def _share(seed: int, number: int, name: str) -> float:
    import numpy as np  # a sweep file is read without it

    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key, counter=number)).random()


class Budget(Settings):
    """How much is tried."""

    trials: PositiveInt
    """Configurations that the searcher draws; equal ones are trained once. Repeats come on top."""
    steps: PositiveInt
    """Optimizer steps of a whole trial."""
    hours: PositiveFloat | None = None
    """Hours of training, summed over all trials; once they are used up nothing new is started."""


class Asha(Settings):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): most trials end early."""

    first_steps: PositiveInt
    """Steps after which trials are compared first; each further comparison comes after `eta` times as many."""
    eta: Annotated[int, Field(ge=2)] = 3
    """The best 1/eta of the trials that came to a comparison go on."""


class Repeats(Settings):
    """The best configurations are trained again with other seeds, and the winner is the one with the best mean."""

    seeds: PositiveInt = 1
    """Trainings of each such configuration in all, with `train.seed` counted up by one."""
    of_best: PositiveInt | None = None
    """How many configurations are repeated; none given: all that were trained to the end."""


class TrialResources(Settings):
    """What each trial gets."""

    cpus: PositiveInt = 1
    """Cores, and threads unless `resources.threads` is set."""
    gpus: NonNegativeFloat = 0
    """Of each trial; a half lets two share one, above one it is a whole number."""
    at_once: PositiveInt | None = None
    """Trials at a time; none given: as many as there is room for."""

    @model_validator(mode="after")
    def _gpus_can_be_given(self) -> "TrialResources":
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus are a part of one or a whole number, found {self.gpus:g}")
        return self


class Retention(Settings):
    """What stays on disk of trials that have ended; metrics always do."""

    finished: Kept = "all"
    stopped: Kept = "weights"
    """Of trials that were stopped early, diverged or failed for good."""
    disk_gib: PositiveFloat | None = None
    """Of all trials together. Above it, what ended trials keep is removed, the best ones' last; then nothing starts."""


class SweepSettings(Settings):
    """A sweep."""

    preset: str
    """The shipped preset that every trial starts from."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """What all trials change of it, by dotted name."""
    space: Mapping[str, Dimension] = Field(min_length=1)
    """What is tried, by dotted name."""
    metric: Annotated[str, Field(pattern=re.compile(r"^validation\.\w+$"))] = "validation.negative_elbo"
    """The figure of metrics.jsonl that trials are compared by: the best of a trial's evaluations."""
    direction: Literal["minimize", "maximize"] = "minimize"
    search: Literal["grid", "random", "tpe"] = "random"
    """`tpe`: Optuna's tree-structured Parzen estimator, which learns from what has ended."""
    seed: NonNegativeInt = 0
    """Of the search; trials have `train.seed`."""
    budget: Budget
    asha: Asha | None = None
    """None: every trial is trained to the end."""
    repeats: Repeats = Field(default_factory=Repeats)
    attempts: PositiveInt = 3
    """How often a trial may fail. A trial whose process was killed is started again by itself, others by
    `--retry failed`."""
    resources: TrialResources = Field(default_factory=TrialResources)
    retention: Retention = Field(default_factory=Retention)

    @model_validator(mode="after")
    def _can_be_meant(self) -> "SweepSettings":
        if problems := list(self._problems()):
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        earlier: dict[str, Dimension] = {}
        for name, dimension in self.space.items():
            if name in self.settings:
                yield f"{name} stands in both settings and space"
            for other, wanted in dimension.when.items():
                if other not in earlier:
                    yield f"{name} depends on {other}, which has to stand before it in space"
                elif possible := earlier[other].values():
                    if strange := [value for value in wanted if value not in possible]:
                        yield f"{name} depends on {other} = {strange[0]}, which is never drawn ({list(possible)} are)"
                else:
                    yield f"{name} depends on {other}, which is drawn from a range: only values can be depended on"
            if self.search == "grid" and not dimension.values():
                yield f"{name} is drawn from a range; a grid needs choice, grid or integer"
            earlier[name] = dimension
        if self.repeats.seeds > 1 and SEED in self.space:
            yield f"{SEED} stands in space, and repeats set it too"
        if self.asha and self.asha.first_steps >= self.budget.steps:
            yield f"asha.first_steps = {self.asha.first_steps} has to be less than budget.steps = {self.budget.steps}"

    @property
    def rungs(self) -> tuple[int, ...]:
        """The steps at which trials are compared, the last of them budget.steps."""
        rungs = []
        step = self.asha.first_steps if self.asha else self.budget.steps
        while step < self.budget.steps:
            rungs.append(step)
            step *= self.asha.eta if self.asha else 1
        return (*rungs, self.budget.steps)

    def better(self, value: float) -> float:
        """A sort key of a value of the metric: the smaller, the better."""
        return value if self.direction == "minimize" else -value
