"""Optuna learns from the ledger alone, and its importances are right where the answer is known."""

import numpy as np
import pytest
from optuna.trial import FrozenTrial

from jobs.sweeps.ledger import Imported, Start, SweepState
from jobs.sweeps.search import LearningSearch, importances
from jobs.sweeps.settings import Values, random_values
from tests.support.commands import SOAK
from tests.support.sweeps.sweep_ledgers import drawn, end, state_of, sweep_settings

SPACE = {
    "objective.beta": {"uniform": [0.0, 1.0]},
    "optimizer.learning_rate": {"log_uniform": [1e-5, 1e-1]},
    "model.decoder": {"choice": ["hierarchical", "flat"]},
    "model.conductor_layers": {"integer": [1, 3], "when": {"model.decoder": ["hierarchical"]}},
}

EFFECT = (3 * 12) ** 0.5
"""Times a number between 0 and 1: three times the variance of the noise."""


def objective(values: Values) -> float:
    """Beta decides nearly alone; the decoder matters a little, the learning rate not at all."""
    return 100 * (values["objective.beta"] - 0.3) ** 2 + (values["model.decoder"] == "flat")


def tried(search: LearningSearch, state: SweepState, numbers: range) -> list[Values]:
    """Draws and ends trials one after another."""
    found = []
    for number in numbers:
        values = search.values(number, state)
        for record in (
            drawn(number, **values),
            Start(f"t{number}", 0, 90, 2.0),
            end(f"t{number}", 0, objective(values)),
        ):
            state.add(record)
        found.append(values)
    return found


def test_it_learns_and_a_restart_goes_on_as_if_there_had_been_none():
    sweep = sweep_settings(search="tpe", space=SPACE, budget={"trials": 60, "steps": 90})
    undisturbed = tried(LearningSearch(sweep), state_of(), range(40))
    late, early = undisturbed[20:], undisturbed[:10]
    assert early == [random_values(sweep.space, seed=0, number=number) for number in range(10)]
    assert sum(map(objective, late)) / 20 < sum(map(objective, early)) / 10 / 2
    assert all(("model.conductor_layers" in v) == (v["model.decoder"] == "hierarchical") for v in undisturbed)

    state = state_of()
    restarted = [
        values for number in range(40) for values in tried(LearningSearch(sweep), state, range(number, number + 1))
    ]
    assert restarted == undisturbed


def test_trials_that_were_stopped_or_diverged_are_worse_than_whole_ones():
    sweep = sweep_settings(search="tpe", space=SPACE, asha={"first_steps": 10}, budget={"trials": 60, "steps": 90})
    state = state_of()
    for number in range(30):
        values = random_values(sweep.space, seed=0, number=number)
        good = values["objective.beta"] < 0.5
        state.add(drawn(number, **values))
        state.add(Start(f"t{number}", 0, 90 if good else 10, 2.0))
        outcome = (
            end(f"t{number}", 0, 50.0, step=90) if good else end(f"t{number}", state="diverged", category="diverged")
        )
        state.add(outcome)
    search = LearningSearch(sweep)
    drawn_then = [search.values(number, state)["objective.beta"] for number in range(30, 60)]
    assert sum(beta < 0.5 for beta in drawn_then) > 20


def test_the_setting_that_decides_is_the_most_important():
    space = sweep_settings(space=SPACE).space
    values = [random_values(space, seed=1, number=number) for number in range(200)]
    found = importances(space, values, [objective(own) for own in values])
    assert found is not None
    assert next(iter(found)) == "objective.beta"
    assert 0.6 < found["objective.beta"] <= sum(found.values()) <= 1
    assert "optimizer.learning_rate" not in found, "it decides nothing"


def test_little_is_known_of_few_trials_or_of_equal_ones():
    space = sweep_settings(space=SPACE).space
    values = [random_values(space, seed=1, number=number) for number in range(20)]
    assert importances(space, values[:5], [1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert importances(space, values, [1.0] * 20) is None


@pytest.mark.slow
def test_importance_finds_the_true_setting_of_small_sweeps_and_nothing_in_noise():
    """Sweeps of 30 trials each. One setting explains three quarters of the spread, or none does."""
    space = sweep_settings(space=SPACE).space
    sweeps, in_noise, found_true = 100 if SOAK else 30, 0, 0
    for seed in range(sweeps):
        values = [random_values(space, seed=seed, number=number) for number in range(30)]
        noise = np.random.default_rng(seed).normal(size=30)
        in_noise += bool(importances(space, values, list(noise)))
        true = [own["objective.beta"] * EFFECT + one for own, one in zip(values, noise, strict=True)]
        found_true += "objective.beta" in (importances(space, values, true) or {})
    assert in_noise <= 0.1 * sweeps
    assert found_true >= 0.7 * sweeps


def test_what_cannot_be_trained_is_drawn_again_otherwise():
    search = LearningSearch(sweep_settings(search="tpe", space=SPACE))
    state = state_of()
    first = [search.values(3, state, attempt=attempt) for attempt in range(5)]
    assert first == [search.values(3, state, attempt=attempt) for attempt in range(5)]
    assert len({repr(values) for values in first}) == 5


def test_trials_of_a_space_that_was_another_one_are_left_out():
    sweep = sweep_settings(search="tpe", space=SPACE, budget={"trials": 60, "steps": 90})
    state = state_of()
    for number in range(12):
        values = {**random_values(sweep.space, seed=0, number=number), "objective.beta": 7.0, "gone.setting": 1}
        for record in (drawn(number, **values), Start(f"t{number}", 0, 90, 2.0), end(f"t{number}", 0, 1.0)):
            state.add(record)
    assert 0 <= LearningSearch(sweep).values(12, state)["objective.beta"] <= 1


def test_running_trials_and_results_of_another_sweep_are_learnt_from():
    sweep = sweep_settings(search="tpe", space=SPACE, budget={"trials": 60, "steps": 90})
    state = state_of()
    tried(LearningSearch(sweep), state, range(20))
    alone = LearningSearch(sweep).values(21, state)
    state.add(drawn(20, **alone))
    state.add(Start("t20", 0, 90, 2.0))
    assert LearningSearch(sweep).values(21, state) != alone, "not what is being tried already"
    there = [random_values(sweep.space, seed=5, number=number) for number in range(40)]
    imported = [Imported("/other", f"o{n}", v, {"90": objective(v)}, 2.0) for n, v in enumerate(there)]
    warm = LearningSearch(sweep).values(0, state_of(*imported))
    assert warm != random_values(sweep.space, seed=0, number=0), "it begins with what the other knew"
    assert abs(warm["objective.beta"] - 0.3) < 0.3


def test_after_a_promotion_optuna_is_handed_that_trial_alone(monkeypatch):
    sweep = sweep_settings(search="tpe", space=SPACE, asha={"first_steps": 10}, budget={"trials": 60, "steps": 90})
    state = state_of()
    for number in range(30):
        values = random_values(sweep.space, seed=0, number=number)
        for record in (drawn(number, **values), Start(f"t{number}", 0, 10, 2.0)):
            state.add(record)
        state.add(end(f"t{number}", 0, objective(values), step=10))
    handed = []

    def counted(**fields):
        handed.append(fields)
        return FrozenTrial(**fields)

    search = LearningSearch(sweep)
    monkeypatch.setattr("jobs.sweeps.search.FrozenTrial", counted)
    search.values(30, state)
    assert len(handed) == 30
    state.add(Start("t7", 1, 30, 2.0))
    state.add(end("t7", 1, 5.0, step=30))
    drawn_then = search.values(30, state)
    assert len(handed) == 31
    assert drawn_then == LearningSearch(sweep).values(30, state), "as after a restart"


def test_a_gaussian_process_learns_and_keeps_away_from_what_diverges():
    pytest.importorskip("scipy")
    space = {"objective.beta": {"uniform": [0.0, 1.0]}, "model.latent": {"log_integer": [4, 64]}}
    sweep = sweep_settings(search="gp", space=space, budget={"trials": 30, "steps": 90})
    state, late = state_of(), []
    for number in range(18):
        values = LearningSearch(sweep).values(number, state)
        state.add(drawn(number, **values))
        state.add(Start(f"t{number}", 0, 90, 2.0))
        diverges = values["objective.beta"] > 0.6
        result = 100 * (values["objective.beta"] - 0.3) ** 2
        outcome = {"state": "diverged", "category": "diverged"} if diverges else {"value": result}
        state.add(end(f"t{number}", 0, **outcome))
        late += [values["objective.beta"]] if number >= 10 else []
    assert sum(beta < 0.6 for beta in late) >= 6
    assert min(abs(beta - 0.3) for beta in late) < 0.05


def test_seeds_are_not_learnt_from():
    space = {"train.seed": {"grid": [0, 1]}, "objective.beta": {"uniform": [0.0, 1.0]}}
    sweep = sweep_settings(search="tpe", space=space, budget={"trials": 40, "steps": 90})
    state, search = state_of(), LearningSearch(sweep)
    for number in range(16):
        values = search.values(number, state)
        assert values["train.seed"] == number % 2
        for record in (
            drawn(number, **values),
            Start(f"t{number}", 0, 90, 2.0),
            end(f"t{number}", 0, float(number % 2)),
        ):
            state.add(record)
    found = importances(sweep.space, [t.drawn.values for t in state.trials.values()], [float(n % 2) for n in range(16)])
    assert found is not None
    assert "train.seed" not in found
