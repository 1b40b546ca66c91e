"""Runs of variants, summed up over seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from tests.experiments.ablation_figures import RunFigures
from tests.experiments.ablation_file import BASE, Metric

ENOUGH_SEEDS = 3
"""With fewer nothing is claimed."""
FIGURES = (
    "negative_elbo",
    "reconstruction",
    "kl",
    "objective",
    "token_accuracy_teacher_forced",
    "token_accuracy_free_running",
)
HEADINGS = ("−ELBO", "reconstr.", "KL", "objective", "forced", "free")
DECIMALS = {"negative_elbo": 2, "reconstruction": 2, "kl": 2, "objective": 2}


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of several seeds; one value has no deviation."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the sample."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def text(self, decimals: int, *, sign: bool = False) -> str:
        """Mean and deviation for people."""
        mean = f"{self.mean:{'+' if sign else ''}.{decimals}f}"
        return mean if self.deviation is None else f"{mean} ± {self.deviation:.{decimals}f}"


@dataclass(frozen=True, slots=True)
class Row:
    """A variant over its seeds.

    Attributes:
        less_base: the metric less the base's of the same seed; None where no seed has both, and for the base.
    """

    variant: str
    runs: tuple[RunFigures, ...]
    less_base: Spread | None

    def of(self, figure: str) -> Spread:
        return Spread(tuple(getattr(run, figure) for run in self.runs))

    def as_json(self) -> dict[str, Any]:
        """Means, deviations and the runs' seeds."""
        figures = {name: {"mean": self.of(name).mean, "deviation": self.of(name).deviation} for name in FIGURES}
        less = self.less_base
        return {
            "seeds": [run.seed for run in self.runs],
            "enough_seeds": len(self.runs) >= ENOUGH_SEEDS,
            "figures": figures,
            "less_base": None if less is None else {"mean": less.mean, "deviation": less.deviation},
        }


def rows(found: Sequence[RunFigures], names: Sequence[str], metric: Metric) -> list[Row]:
    """The variants that have runs, in the order of their names."""
    by_variant = {name: {run.seed: run for run in found if run.variant == name} for name in names}
    base = by_variant[BASE]
    result = []
    for name, runs in by_variant.items():
        paired = tuple(
            getattr(run, metric) - getattr(base[seed], metric) for seed, run in sorted(runs.items()) if seed in base
        )
        less_base = Spread(paired) if paired and name != BASE else None
        if runs:
            result.append(Row(name, tuple(run for _, run in sorted(runs.items())), less_base))
    return result


def table(found: Sequence[Row], metric: Metric, *, title: str) -> Table:
    """For a terminal."""
    drawn = Table(title=title, title_justify="left")
    headings = ("weights", "steps", "windows/s", *HEADINGS, f"{HEADINGS[FIGURES.index(metric)]} less base's", "seeds")
    drawn.add_column("variant", no_wrap=True)
    for heading in headings:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in found:
        first, count = row.runs[0], len(row.runs)
        drawn.add_row(
            row.variant,
            f"{first.weights / 1e6:.2f}M",
            f"{first.steps:,}",
            row.of("windows_per_second").text(0),
            *(row.of(name).text(DECIMALS.get(name, 3)) for name in FIGURES),
            row.less_base.text(DECIMALS.get(metric, 3), sign=True) if row.less_base else "",
            f"{count}" if count >= ENOUGH_SEEDS else f"{count} of {ENOUGH_SEEDS}, no claim",
        )
    return drawn
