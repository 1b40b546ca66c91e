"""Which configuration a sweep has found: by the mean over its seeds, not by one lucky one."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.sweeps.ledger import SweepState, TrialHistory
from jobs.sweeps.settings import SweepSettings


@dataclass(frozen=True, slots=True)
class Configuration:
    """A drawn configuration with its repeats.

    Attributes:
        trials: the one that was drawn, then its repeats.
        results: the metric of each of them that was trained as far as the furthest.
        failed: of them, those that diverged or failed.
    """

    trials: tuple[TrialHistory, ...]
    steps: int
    results: tuple[float, ...]
    failed: int

    @property
    def id(self) -> str:
        """The trial that was drawn."""
        return self.trials[0].id

    @property
    def values(self) -> Mapping[str, Any]:
        return self.trials[0].drawn.values

    @property
    def mean(self) -> float:
        return statistics.fmean(self.results)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds; None of a single one."""
        return statistics.stdev(self.results) if len(self.results) > 1 else None


def ranking(sweep: SweepSettings, state: SweepState) -> list[Configuration]:
    """All configurations with a result, the winner first.

    Those that were trained further stand before others, those without a failed repeat before others, those with more
    seeds before others; then the mean decides.
    """
    repeats: dict[str, list[TrialHistory]] = {}
    for trial in state.trials.values():
        if trial.drawn.repeat_of is not None:
            repeats.setdefault(trial.drawn.repeat_of, []).append(trial)
    found = []
    for trial in state.trials.values():
        if trial.drawn.repeat_of is None and trial.reached:
            trials = (trial, *sorted(repeats.get(trial.id, []), key=lambda repeat: repeat.drawn.seed))
            results = tuple(t.values[trial.reached] for t in trials if trial.reached in t.values)
            failed = sum(t.state in ("diverged", "failed") for t in trials)
            found.append(Configuration(trials, trial.reached, results, failed))
    return sorted(found, key=lambda c: (-c.steps, c.failed > 0, -len(c.results), sweep.better(c.mean), c.id))


def best_of(sweep: SweepSettings, state: SweepState) -> Configuration | None:
    """The winner so far; None before the first result."""
    return next(iter(ranking(sweep, state)), None)
