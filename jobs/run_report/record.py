"""One run as its folder describes it, in whatever state it is: just begun, training, failed, or copied away.

A figure over the steps of a run, however long, is a bounded number of intervals with their means and extremes.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musicvae.data.feel import GrooveFeel
from musicvae.errors import DataError
from musicvae.evaluation.scores import ACTIVE_VARIANCE
from musicvae.training.examples import ExampleGrooves, Examples, example_files
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import MAIN_FIGURES, main_figure

MOST_POINTS = 400
"""Of a series after thinning, at most twice as many before; a chart is about as many pixels wide."""
NAMED_STEPS = 20
"""Steps without a finite gradient that a page names."""


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
        best: the line with the lowest of `MAIN_FIGURES`.
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
        if (name := main_figure(record)) and record[name] < best.get(name, math.inf):
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


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """What a page shows of a run.

    Attributes:
        number: its place among the runs of the page.
        nonfinite: steps whose gradient was not finite, the first of them, and how many there are.
        hosts: machines that the ranks of its last launch ran on, as far as they left a word.
        examples_step: of the examples, which are the newest; None where there are none.
        kl: nats of each latent dimension, largest first.
        active: of the same dimensions, whether they are.
        notes: what failed, and what could not be read.
    """

    number: int
    name: str
    path: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    metrics: Metrics
    nonfinite: tuple[int, ...]
    nonfinite_count: int
    hosts: tuple[str, ...]
    examples_step: int | None
    examples: ExampleGrooves | None
    kl: tuple[float, ...]
    active: tuple[bool, ...]
    notes: tuple[str, ...]

    @property
    def state(self) -> str:
        return self.status.get("state", "begun")

    @property
    def step(self) -> int:
        return max(self.metrics.last_step, self.status.get("step", 0))

    @property
    def files(self) -> list[Path]:
        """What a reader may want of its folder, as far as it is there."""
        folder = RunFolder(self.path)
        return [path for path in (folder.metrics, folder.config, folder.status, folder.nonfinite) if path.exists()]

    def figure(self, name: str) -> float | None:
        """The last value of a figure."""
        series = self.metrics.series.get(name)
        return series.last if series else None


def best_evaluation(runs: Sequence[RunRecord]) -> str:
    """The best evaluation of all runs, in a sentence."""
    bests = []
    for run in runs:
        if figure := main_figure(run.metrics.best):
            bests.append((run.metrics.best[figure], figure, run))
    if not bests:
        return "There is no evaluation yet."
    value, figure, run = min(bests, key=lambda best: best[0])
    name, unit = MAIN_FIGURES[figure]
    of_run = f" of {run.name}" if len(runs) > 1 else ""
    return f"The best {name} is {value:.2f} {unit}, at step {run.metrics.best['step']:,}{of_run}."


def read_run(path: Path, number: int, name: str) -> RunRecord:
    """Reads a run folder; whatever of it is missing or damaged is left out and noted.

    Raises:
        ConfigError: there is no run.
        DataError: its config.yaml is damaged.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    metrics = read_metrics(folder.metrics)
    notes = []
    if metrics.damaged_lines:
        notes.append(f"{metrics.damaged_lines} lines of metrics.jsonl are damaged and were left out")
    try:
        status = folder.read_status()
    except (OSError, ValueError) as error:
        status = {}
        notes.append(f"status.json cannot be read: {error}")
    launch_id, ranks = status.get("launch", ""), RankRecords(path / "ranks")
    notes += _failures(ranks, launch_id)
    steps = [record["step"] for record in records(folder.nonfinite) if record]

    examples_step, examples, grooves = None, None, None
    for step, file in reversed(example_files(folder.examples).items()):
        try:
            examples = Examples.load(file)
            examples_step = step
            break
        except DataError as error:
            notes.append(error.problem)
    if examples is not None:
        try:
            grooves = ExampleGrooves.of(examples, GrooveFeel.load(folder.feel), folder.shard_format()[1])
        except DataError as error:
            notes.append(error.problem)
    kl = np.array([]) if examples is None else examples.kl
    order = np.argsort(-kl, kind="stable")
    active = np.array([], bool) if examples is None else examples.mu_variance > ACTIVE_VARIANCE
    return RunRecord(
        number=number,
        name=name,
        path=path,
        config=config,
        status=status,
        metrics=metrics,
        nonfinite=tuple(steps[:NAMED_STEPS]),
        nonfinite_count=len(steps),
        hosts=tuple(sorted({record.host for record in ranks.of(launch_id)})),
        examples_step=examples_step,
        examples=grooves,
        kl=tuple(kl[order].tolist()),
        active=tuple(active[order].tolist()),
        notes=tuple(notes),
    )


def _failures(ranks: RankRecords, launch_id: str) -> list[str]:
    """Why ranks of the last launch failed; those that only followed from another's are left out."""
    return [
        f"rank {error.rank} on {error.host} failed at step {error.step:,} ({error.category}): {error.message}"
        for error in ranks.errors_of(launch_id)
        if not error.secondary
    ]
