"""The values that a setting may take in a sweep, and how one is drawn."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from musicvae.settings import Settings

Values = dict[str, Any]
"""A value for each setting that is varied, by dotted name."""


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
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key, counter=number)).random()
