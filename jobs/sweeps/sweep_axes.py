"""The settings of a sweep as axes: where a value lies on one, in percent, and which values are named there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.sweeps.sweep_space import Dimension, plain
from preprocess.pages.charts import Scale, Tick, number

MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class Axis:
    """Attributes:
    name: of the setting.
    places: percent along the axis, of each trial that has the setting, by the trial's place among all.
    ticks: with their values.
    """

    name: str
    places: Mapping[int, float]
    ticks: tuple[Tick, ...]


def axes(space: Mapping[str, Dimension], values: Sequence[Mapping[str, Any]]) -> list[Axis]:
    """An axis for each setting that differs between trials; one that a wider space has left behind is among them."""
    names = dict.fromkeys([*space, *(name for own in values for name in own)])
    found = (_axis(name, space.get(name), [own.get(name) for own in values]) for name in names)
    return [axis for axis in found if len(set(axis.places.values())) > 1]


def _axis(name: str, dimension: Dimension | None, values: Sequence[Any]) -> Axis:
    given = [value for value in values if value is not None]
    is_range = dimension is not None and (dimension.bounds or dimension.integer)
    if is_range and dimension and given and all(isinstance(value, int | float) for value in given):
        scale = Scale(min(given), max(given), logarithmic=dimension.log_uniform is not None and min(given) > 0)
        places = {place: scale.place(value) for place, value in enumerate(values) if value is not None}
        return Axis(name, places, _thinned(scale.ticks()))
    listed = [plain(value) for value in (dimension.values() if dimension else ())]
    listed += [value for place, value in enumerate(given) if value not in listed and value not in given[:place]]
    if all(isinstance(value, int | float) for value in listed):
        listed.sort()
    step = 100 / max(1, len(listed))
    places = {place: step * (listed.index(v) + 0.5) for place, v in enumerate(values) if v is not None}
    return Axis(name, places, tuple(Tick(step * (at + 0.5), _word(value)) for at, value in enumerate(listed)))


def _thinned(ticks: tuple[Tick, ...]) -> tuple[Tick, ...]:
    return ticks[:: max(1, math.ceil(len(ticks) / MOST_TICKS))]


def _word(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
