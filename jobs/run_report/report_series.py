"""A figure over the steps of a run, however long: a bounded number of intervals with their means and extremes."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_POINTS = 400
"""Of a series after thinning, at most twice as many before; a chart is about as many pixels wide."""


@dataclass(slots=True)
class Point:
    """Values of neighbouring steps.

    Attributes:
        step: the last of them.
    """

    step: int
    total: float
    count: int
    low: float
    high: float

    @property
    def mean(self) -> float:
        return self.total / self.count

    def add(self, other: "Point") -> None:
        """Takes a later one in."""
        self.step = other.step
        self.total += other.total
        self.count += other.count
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


class Series:
    """Values that arrive step by step. As soon as there are too many points, neighbours are joined two by two."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.values_per_point = 1
        self.last = math.nan

    def add(self, step: int, value: float) -> None:
        """The value of a later step; what is not finite cannot be drawn and is left out."""
        if not math.isfinite(value):
            return
        self.last = value
        point = Point(step, value, 1, value, value)
        if self.points and self.points[-1].count < self.values_per_point:
            self.points[-1].add(point)
            return
        if len(self.points) == 2 * MOST_POINTS:
            self._join()
        self.points.append(point)

    def _join(self) -> None:
        for first, second in zip(self.points[::2], self.points[1::2], strict=True):
            first.add(second)
        self.points = self.points[::2]
        self.values_per_point *= 2


@dataclass(frozen=True, slots=True)
class Metrics:
    """What metrics.jsonl holds.

    Attributes:
        series: by the name of the figure.
        evaluations: the lines of evaluations, whole, thinned like a series.
        best: the line with the lowest validation -ELBO.
        damaged_lines: how many could not be read, the torn last one not counted.
    """

    series: dict[str, Series]
    last_step: int
    best: dict[str, float]
    damaged_lines: int


def read_metrics(path: Path) -> Metrics:
    """Reads a file line by line: neither its length nor a torn last line matters."""
    series: dict[str, Series] = {}
    best: dict[str, float] = {}
    last_step = damaged = 0
    for record in records(path):
        if record is None:
            damaged += 1
            continue
        step = record.pop("step")
        last_step = max(last_step, step)
        for name, value in record.items():
            if name not in series:
                series[name] = Series()
            series[name].add(step, value)
        loss = record.get("validation.negative_elbo", math.nan)
        if loss < best.get("validation.negative_elbo", math.inf):
            best = {"step": step, **record}
    return Metrics(series, last_step, best, damaged)


def records(path: Path) -> Iterator[dict[str, Any] | None]:
    """The lines of a file that may still be written to, one at a time; None for one that is damaged."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    return record
