"""What a sweep file holds: which values are tried, by which figure they are judged, and what it may cost."""

import hashlib
import itertools
import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from musicvae.settings import Settings
from musicvae.training.settings import VALIDATION_FIGURES

SEED = "train.seed"
LEARNING = ("tpe", "gp")
"""Searches that learn from what has ended."""
MOST_IN_GRID = 1_000_000
"""Each combination is built and checked before anything starts."""
Values = dict[str, Any]
"""A value for each setting that is varied, by dotted name."""
Kept = Literal["all", "weights", "nothing"]
"""What stays of a trial beside its metrics: checkpoints and best weights, best weights alone, or neither."""


class Dimension(Settings):
    """One setting of a sweep: exactly one of the kinds, and what it depends on."""

    choice: tuple[Any, ...] | None = None
    """One of these values."""
    grid: tuple[Any, ...] | None = None
    """All of these values in turn, with any search; each value, or combination of grids, is tried equally often."""
    uniform: tuple[float, float] | None = None
    """A number between two others."""
    log_uniform: tuple[float, float] | None = None
    """A number between two positive ones, uniform in the logarithm."""
    integer: tuple[int, int] | None = None
    """A whole number from the first to the last."""
    log_integer: tuple[int, int] | None = None
    """A positive whole number from the first to the last, uniform in the logarithm."""
    step: PositiveInt = 1
    """Step between the values of `integer`."""
    when: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Other settings and their values for which this one is varied; otherwise it keeps the value of the base."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        kinds = ("choice", "grid", "uniform", "log_uniform", "integer", "log_integer")
        given = [name for name in kinds if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(kinds)}, found {', '.join(given) or 'none'}")
        if bounds := self.bounds or self.whole:
            if not bounds[0] < bounds[1] or not all(map(math.isfinite, bounds)):
                raise ValueError(f"from a smaller to a larger number, found {list(bounds)}")
            if self.is_log and bounds[0] <= 0:
                raise ValueError(f"positive numbers, found {list(bounds)}")
        if self.step != 1 and not self.integer:
            raise ValueError("step belongs to integer")
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Of a range of real numbers."""
        return self.uniform or self.log_uniform

    @property
    def whole(self) -> tuple[int, int] | None:
        """Of a range of whole numbers."""
        return self.integer or self.log_integer

    @property
    def is_log(self) -> bool:
        """Whether it is even in the logarithm."""
        return (self.log_uniform or self.log_integer) is not None

    def values(self) -> Sequence[Any]:
        """All values in order; none of a range of real numbers."""
        if self.whole:
            return range(self.whole[0], self.whole[1] + 1, self.step)
        return self.choice or self.grid or ()

    def holds(self, value: Any) -> bool:
        """Whether a value, as JSON gives it back, can be drawn."""
        if bounds := self.bounds or self.whole:
            is_kind = isinstance(value, int if self.whole else (int, float))
            return is_kind and bounds[0] <= value <= bounds[1] and (not self.whole or value in self.values())
        return value in self.values() or value in [plain(possible) for possible in self.values()]

    def at(self, share: float) -> Any:
        """The value that lies at a share of the range, from 0 to below 1."""
        if self.uniform:
            return self.uniform[0] + share * (self.uniform[1] - self.uniform[0])
        if self.log_uniform:
            low, high = map(math.log, self.log_uniform)
            return math.exp(low + share * (high - low))
        if self.log_integer:
            low, high = self.log_integer
            return min(high, int(low * ((high + 1) / low) ** share))
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
    return active(space, draws(space, seed, number) | in_turn(space, number))


def draws(space: Space, seed: int, number: int) -> Values:
    """A random value for every setting."""
    return {name: dimension.at(_share(seed, number, name)) for name, dimension in space.items()}


def active(space: Space, values: Values, given: Container[str] = ()) -> Values:
    """Of values of all settings those that are varied beside each other, and those that were given."""
    chosen: Values = {}
    for name, dimension in space.items():
        if name in given or dimension.is_active(chosen):
            chosen[name] = values[name]
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
        chosen = active(space, dict(zip(space, combination, strict=True)))
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
    """Number of configurations that the search draws. Equal ones are trained once. Repeats are additional."""
    steps: PositiveInt
    """Optimizer steps of a full trial."""
    hours: PositiveFloat | None = None
    """Most hours of training, summed over all trials; after them, no trial is started."""


class Asha(Settings):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): most trials end early."""

    first_steps: PositiveInt
    """Steps before the first comparison of trials; each later comparison is after `eta` times as many steps."""
    eta: Annotated[int, Field(ge=2)] = 3
    """The best 1/eta of the compared trials are continued."""


class Repeats(Settings):
    """The best configurations are trained again with other seeds, and the winner is the one with the best mean."""

    seeds: PositiveInt = 1
    """Number of trainings of each repeated configuration, each with the next `train.seed`."""
    of_best: PositiveInt | None = None
    """Number of the best configurations that are repeated; null: all that were trained to the end."""


class TrialResources(Settings):
    """What each trial gets."""

    cpus: PositiveInt = 1
    """CPU cores of each trial, and its threads unless `resources.threads` is set."""
    gpus: NonNegativeFloat = 0
    """GPU of each trial: 1, or a fraction, such as 0.5 for two trials on one GPU."""
    memory_gib: PositiveFloat | None = None
    """Memory of each trial, in GiB; null: memory does not limit how many trials run."""
    at_once: PositiveInt | None = None
    """Number of trials at a time; null: as many as the machines can hold."""

    @property
    def needs(self) -> dict[str, float]:
        """What each trial requests, by Ray's names: CPU, GPU, and memory in bytes."""
        needs = {"CPU": self.cpus, "GPU": self.gpus, "memory": int((self.memory_gib or 0) * 2**30)}
        return {kind: amount for kind, amount in needs.items() if amount}


class Retention(Settings):
    """What stays on disk of trials that have ended; metrics always do."""

    finished: Kept = "all"
    stopped: Kept = "weights"
    """What is kept of trials that were stopped early, diverged or failed too often."""
    disk_gib: PositiveFloat | None = None
    """Most GiB of all trials. Above it, files of ended trials are removed, the best trials last; then no trial
    starts."""


class SweepSettings(Settings):
    """A sweep."""

    preset: str
    """The shipped preset that every trial starts from."""
    settings: Mapping[str, Any] = Field(default_factory=dict)
    """Settings of all trials that differ from the preset, by dotted name."""
    space: Mapping[str, Dimension] = Field(min_length=1)
    """Settings that are varied, by dotted name."""
    metric: Annotated[str, Field(pattern=re.compile(r"^validation\.\w+$"))] = "validation.negative_elbo"
    """The figure of metrics.jsonl that trials are compared by; the best evaluation of a trial counts."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Whether the metric is minimised or maximised; null: as usual for the metric."""
    search: Literal["grid", "random", "sobol", "tpe", "gp"] = "random"
    """`grid`, `random`, or a search of Optuna: `sobol` covers the space more evenly than random numbers; `tpe` (a
    tree-structured Parzen estimator) and `gp` (a Gaussian process) learn from trials that have ended."""
    first: tuple[Mapping[str, Any], ...] = ()
    """Configurations that are tried first, by dotted name; a setting that is left out has the value of the base."""
    learn_from: str | None = None
    """The folder of another sweep; a search that learns starts from its results."""
    seed: NonNegativeInt = 0
    """Seed of the search; trials have `train.seed`."""
    budget: Budget
    asha: Asha | None = None
    """Early stopping of trials; null: every trial is trained to the end."""
    repeats: Repeats = Field(default_factory=Repeats)
    attempts: PositiveInt = 3
    """How often a trial may fail. A trial whose process was killed is restarted by the sweep, others by
    `--retry failed`."""
    resources: TrialResources = Field(default_factory=TrialResources)
    retention: Retention = Field(default_factory=Retention)

    @model_validator(mode="before")
    @classmethod
    def _with_direction(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("direction") is not None:
            return given
        return {**given, "direction": VALIDATION_FIGURES.get(str(given.get("metric")), "minimize")}

    @model_validator(mode="after")
    def _can_be_meant(self) -> "SweepSettings":
        if problems := list(self._problems()):
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        earlier: dict[str, Dimension] = {}
        for name, dimension in self.space.items():
            if name in self.settings:
                yield f"{name} is in both settings and space"
            for other, wanted in dimension.when.items():
                if other not in earlier:
                    yield f"{name} depends on {other}, which must precede it in space"
                elif possible := earlier[other].values():
                    if strange := [value for value in wanted if value not in possible]:
                        yield f"{name} depends on {other} = {strange[0]}, which is never drawn ({possible} are)"
                else:
                    yield f"{name} depends on {other}, which is drawn from a range; `when` needs a choice or a grid"
            if self.search == "grid" and not dimension.values():
                yield f"{name} is drawn from a range; a grid needs choice, grid or integer"
            earlier[name] = dimension
        combinations = math.prod(len(dimension.values()) for dimension in self.space.values())
        if self.search == "grid" and combinations > MOST_IN_GRID:
            yield f"the grid has {combinations:,} combinations, more than {MOST_IN_GRID:,}: raise the step of integer"
        for name in dict.fromkeys(name for values in self.first for name in values):
            if name not in self.space:
                yield f"{name} of first is not in space ({', '.join(self.space)} do)"
        if self.learn_from and self.search not in LEARNING:
            yield f"learn_from needs a search that learns ({', '.join(LEARNING)}), not for {self.search}"
        if self.search == "gp" and self.asha:
            yield "gp learns from full trials only, and asha makes few of them; leave asha out, or use search: tpe"
        if self.repeats.seeds > 1 and SEED in self.space:
            yield f"{SEED} is in space, and repeats set it too"
        if self.asha and self.asha.first_steps >= self.budget.steps:
            yield f"asha.first_steps = {self.asha.first_steps} must be less than budget.steps = {self.budget.steps}"

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
