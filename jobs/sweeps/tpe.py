"""Optuna: its tree-structured Parzen estimator, and its importances; the only file that knows it."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from jobs.sweeps.ledger import SweepState
from jobs.sweeps.settings import Dimension, SweepSettings, Values, in_turn, plain, random_values

STARTUP_TRIALS = 10
"""Optuna's own choice: so many trials are random before it learns."""
LEAST_FOR_IMPORTANCE = 8
"""With fewer trials an importance says nothing."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TpeSearch:
    """Draws configurations near those that did well.

    The ledger is the only memory: a configuration is a function of the seed, its number, and what had ended when it was
    drawn. After a restart it goes on from there.
    """

    def __init__(self, sweep: SweepSettings) -> None:
        self.sweep = sweep
        self._forget()

    def values(self, number: int, state: SweepState, *, attempt: int = 0) -> Values:
        """The values of the trial of a number.

        Args:
            attempt: how many were drawn for this number before, and could not be trained.
        """
        self._tell(state)
        space, seed = self.sweep.space, self.sweep.seed + 1_000_003 * attempt
        if len(self._told) < STARTUP_TRIALS:
            return random_values(space, seed=seed, number=number)
        # Anew for each number: what it draws does not depend on how often the driver was started.
        seed = (seed * 1_000_003 + number) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        trial = self._study.ask()
        chosen: Values = {}
        turns = in_turn(space, number)
        for name, dimension in space.items():
            if dimension.is_active(chosen):
                chosen[name] = turns[name] if name in turns else _suggest(trial, name, dimension)
        self._study.tell(trial, state=TrialState.FAIL)  # what comes of it is told from the ledger
        return chosen

    def _forget(self) -> None:
        self._study = optuna.create_study(direction=self.sweep.direction)
        self._told: dict[str, int] = {}

    def _tell(self, state: SweepState) -> None:
        """All that has an outcome, each trial by the figure of its longest start."""
        trials = [t for t in state.trials.values() if t.drawn.repeat_of is None and t.state in ("finished", "diverged")]
        if any(self._told.get(trial.id, trial.reached) != trial.reached for trial in trials):
            self._forget()  # one has gone on since: Optuna takes no trial back
        for trial in trials:
            if trial.id not in self._told:
                self._told[trial.id] = trial.reached
                told = _as_optuna(self.sweep.space, trial.drawn.values, trial.values, whole=self.sweep.budget.steps)
                if told:
                    self._study.add_trial(told)


def importances(
    space: Mapping[str, Dimension], values: Sequence[Mapping[str, Any]], results: Sequence[float], *, maximize: bool
) -> dict[str, float]:
    """How much each setting matters for being among the best tenth, as shares of one, largest first (PED-ANOVA,
    Watanabe et al. 2023); empty where too little is known.
    """
    told = [_as_optuna(space, own, {1: result}, whole=1) for own, result in zip(values, results, strict=True)]
    trials = [trial for trial in told if trial]
    if len(trials) < LEAST_FOR_IMPORTANCE or len({trial.value for trial in trials}) < 2:
        return {}
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    study.add_trials(trials)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _as_optuna(
    space: Mapping[str, Dimension], values: Mapping[str, Any], results: Mapping[int, float], *, whole: int
) -> optuna.trial.FrozenTrial | None:
    """A trial that has ended; None where its values lie outside the space, which was another one then.

    Args:
        results: by steps. Without one of the whole steps it counts as pruned: Optuna compares such trials by how far
            they came, then by their last result, and one without any as the worst.
    """
    params = {name: _to_optuna(space[name], value) for name, value in values.items() if name in space}
    if None in params.values():
        return None
    is_whole = whole in results
    return create_trial(
        state=TrialState.COMPLETE if is_whole else TrialState.PRUNED,
        value=results[whole] if is_whole else None,
        params=params,
        distributions={name: _distribution(space[name]) for name in params},
        intermediate_values={} if is_whole else dict(results),
    )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.bounds:
        low, high = dimension.bounds
        return FloatDistribution(low, high, log=dimension.log_uniform is not None)
    if dimension.integer:
        low, high = dimension.integer
        return IntDistribution(low, high - (high - low) % dimension.step, step=dimension.step)
    # Places stand for values, which may be of any kind.
    return CategoricalDistribution(tuple(range(len(dimension.values()))))


def _suggest(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    match _distribution(dimension):
        case FloatDistribution(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case IntDistribution(low=low, high=high, step=step):
            return trial.suggest_int(name, low, high, step=step)
        case _:
            return dimension.values()[trial.suggest_categorical(name, range(len(dimension.values())))]


def _to_optuna(dimension: Dimension, value: Any) -> Any:
    """A value as Optuna knows it; None where the space does not hold it."""
    if dimension.bounds:
        return value if dimension.bounds[0] <= value <= dimension.bounds[1] else None
    if dimension.integer:
        return value if value in dimension.values() else None
    return next((place for place, possible in enumerate(dimension.values()) if plain(possible) == value), None)
