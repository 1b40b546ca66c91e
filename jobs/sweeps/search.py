"""Optuna's samplers and importances. What is drawn is a function of the ledger: Optuna keeps nothing of its own."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from jobs.sweeps.ledger import SweepState
from jobs.sweeps.settings import SEED, Space, SweepSettings, Values, active, draws, in_turn, random_values
from jobs.sweeps.study import Shown, category, distribution

STARTUP_TRIALS = 10
"""Optuna's own choice: so many trials are random before it learns."""
LEAST_FOR_IMPORTANCE = 8
"""With fewer trials an importance says nothing."""
MOST_FOR_IMPORTANCE = 300
"""Of more, so many are taken evenly."""
BEST_SHARE = 1 / 3
"""The best trials of which importance asks what they have in common."""
NONE: dict[Any, Any] = {}
"""Of all trials: nobody writes into it."""
LEAST_PERMUTATIONS, CHANCE = 99, 0.05
"""Results are dealt out anew so often; how often noise alone may show anything, over all settings together."""

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class _Sobol(optuna.samplers.QMCSampler):
    """Gives the point of a number."""

    number = 0

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        return self.number


def sobol_values(space: Space, *, seed: int, number: int) -> Values:
    """The values of the trial of a number, from a scrambled Sobol' sequence over all settings of the space."""
    sampler, study = _Sobol(seed=seed, scramble=True), optuna.create_study()
    sampler.number = number
    points: dict[str, BaseDistribution] = {name: FloatDistribution(0, 1) for name in space}
    shares = sampler.sample_relative(study, create_trial(state=TrialState.RUNNING), points)
    drawn = {name: dimension.at(shares[name]) for name, dimension in space.items()}
    return active(space, drawn | in_turn(space, number))


class _Space:
    """A space as Optuna knows it, without the seed.

    Args:
        whole: steps of a trial that has come to its end.
    """

    def __init__(self, space: Space, whole: int) -> None:
        self._space = {name: dimension for name, dimension in space.items() if name != SEED}
        self._whole = whole
        self.distributions = {name: distribution(dimension) for name, dimension in self._space.items()}
        self._of_names: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}
        """One dict for all trials with the same settings: 10,000 more would take a tenth of a second."""

    def trial(
        self, values: Mapping[str, Any], results: Mapping[int, float], *, running: bool = False
    ) -> FrozenTrial | None:
        """A trial to learn from; None where its values lie outside the space, which was another one then.

        Args:
            results: by steps. Without one of the whole steps it counts as pruned: Optuna compares such trials by how
                far they came, then by their last result, and one without any as the worst.
        """
        values = {name: value for name, value in values.items() if name in self._space}
        if not all(self._space[name].holds(value) for name, value in values.items()):
            return None
        is_whole, names = self._whole in results, tuple(values)
        if names not in self._of_names:
            self._of_names[names] = {name: self.distributions[name] for name in names}
        # Not by `create_trial`: it checks the values once more, which for 10,000 trials takes as long as all else.
        return FrozenTrial(
            number=0,
            trial_id=0,
            state=TrialState.RUNNING if running else TrialState.COMPLETE if is_whole else TrialState.PRUNED,
            value=results[self._whole] if is_whole else None,
            datetime_start=None,
            datetime_complete=None,
            params={name: category(value) for name, value in values.items()},
            distributions=self._of_names[names],
            user_attrs=NONE,
            system_attrs=NONE,
            intermediate_values=NONE if is_whole else dict(results),
        )


class LearningSearch:
    """Draws configurations near those that did well.

    The ledger is the only memory: a configuration is a function of the seed, its number, and what had ended and what
    ran when it was drawn. After a restart it goes on from there.
    """

    def __init__(self, sweep: SweepSettings) -> None:
        self.sweep = sweep
        self._space = _Space(sweep.space, sweep.budget.steps)
        self._storage = Shown()
        self._study = optuna.create_study(storage=self._storage, direction=sweep.direction)
        self._known: dict[str, tuple[Any, FrozenTrial | None]] = {}

    def values(self, number: int, state: SweepState, *, attempt: int = 0) -> Values:
        """The values of the trial of a number.

        Args:
            attempt: how many were drawn for this number before, and could not be trained.
        """
        self._storage.show(self._outcomes(state))
        space, seed = self.sweep.space, self.sweep.seed + 1_000_003 * attempt
        if sum(trial.state != TrialState.RUNNING for trial in self._storage.trials) < STARTUP_TRIALS:
            return random_values(space, seed=seed, number=number)
        # Anew for each number: what it draws does not depend on how often the driver was started.
        kind = optuna.samplers.GPSampler if self.sweep.search == "gp" else optuna.samplers.TPESampler
        seed = (seed * 1_000_003 + number) % 2**32
        sampler = kind(seed=seed, n_startup_trials=STARTUP_TRIALS)
        trial = create_trial(state=TrialState.RUNNING)
        relative = sampler.infer_relative_search_space(self._study, trial)
        proposed = sampler.sample_relative(self._study, trial, relative)
        for name, optuna_distribution in self._space.distributions.items():
            if name not in proposed:
                proposed[name] = sampler.sample_independent(self._study, trial, name, optuna_distribution)
            if isinstance(optuna_distribution, CategoricalDistribution):
                proposed[name] = space[name].values()[int(optuna_distribution.to_internal_repr(proposed[name]))]
        # The seed alone is not proposed by the sampler but drawn.
        return active(space, draws(space, seed, number) | proposed | in_turn(space, number))

    def _outcomes(self, state: SweepState) -> list[FrozenTrial]:
        """All that has an outcome, each trial by the figure of its longest start, and all that is being trained."""
        outcomes: list[tuple[str, Mapping[str, Any], Mapping[int, float], str | None]] = [
            (imported.trial, imported.values, {int(steps): value for steps, value in imported.results.items()}, None)
            for imported in state.imported.values()
            if imported.trial not in state.trials
        ]
        drawn = [trial for trial in state.trials.values() if trial.drawn.repeat_of is None]
        of_diverged: Mapping[int, float] | None = None
        if self.sweep.search == "gp":  # it learns from results alone
            worst = max((v for t in drawn for v in t.values.values()), key=self.sweep.better, default=0.0)
            of_diverged = {self.sweep.budget.steps: worst}
        for trial in drawn:
            outcome, results = "running" if trial.is_open and not trial.reached else trial.state, trial.values
            if outcome == "diverged" and of_diverged:
                results = of_diverged
            if results or outcome in ("running", "diverged"):
                outcomes.append((trial.id, trial.drawn.values, results, outcome))
        for name, values, results, outcome in outcomes:
            seen = (outcome == "running", *results.items())
            if name not in self._known or self._known[name][0] != seen:
                self._known[name] = (seen, self._space.trial(values, results, running=outcome == "running"))
        return [shown for name, *_ in outcomes if (shown := self._known[name][1])]


def importances(space: Space, values: Sequence[Mapping[str, Any]], results: Sequence[float]) -> dict[str, float] | None:
    """How much each setting matters for being among the best third, as shares of all of it, largest first (PED-ANOVA,
    Watanabe et al. 2023), of those alone that stand out of the noise; None where too little is known.

    A setting stands out if its importance is larger than what nearly all permutations of the results give it, with
    Bonferroni's correction for the number of settings.

    Args:
        results: of each trial, less is better.
    """
    search_space = _Space(space, 1)
    trials = [t for v, result in zip(values, results, strict=True) if (t := search_space.trial(v, {1: result}))]
    trials = trials[:: -(-len(trials) // MOST_FOR_IMPORTANCE)] if trials else []
    if len(trials) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in trials}) < 2:
        return None
    storage = Shown()
    study = optuna.create_study(storage=storage)
    storage.show(trials)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
    names = sorted({name for trial in trials for name in trial.params})

    def measured(names: list[str]) -> dict[str, float]:
        with warnings.catch_warnings(action="ignore"):  # of conditional settings that few trials have
            return evaluator.evaluate(study, names)

    importance = measured(names)
    permutations = max(LEAST_PERMUTATIONS, math.ceil(len(names) / CHANCE) - 1)
    allowed = math.floor(CHANCE / len(names) * (permutations + 1)) - 1
    exceeded, left = dict.fromkeys(names, 0), [name for name in names if importance[name] > 0]
    generator, dealt = np.random.default_rng(0), [trial.value for trial in trials]
    for _ in range(permutations):
        if not left:
            break
        for trial, place in zip(trials, generator.permutation(len(trials)), strict=True):
            trial.value = dealt[place]
        for name, by_chance in measured(left).items():
            exceeded[name] += by_chance >= importance[name]
        left = [name for name in left if exceeded[name] <= allowed]
    return {name: share / sum(importance.values()) for name, share in importance.items() if name in left}
