"""Optuna learns from the ledger alone, and its importances are right where the answer is known."""

import pytest

from jobs.sweeps.ledger import Start, SweepState
from jobs.sweeps.settings import Values, random_values
from jobs.sweeps.tpe import TpeSearch, importances
from tests.support.sweep_ledgers import drawn, end, state_of, sweep_settings

SPACE = {
    "objective.beta": {"uniform": [0.0, 1.0]},
    "optimizer.learning_rate": {"log_uniform": [1e-5, 1e-1]},
    "model.decoder": {"choice": ["hierarchical", "flat"]},
    "model.conductor_layers": {"integer": [1, 3], "when": {"model.decoder": ["hierarchical"]}},
}


def objective(values: Values) -> float:
    """Beta decides nearly alone; the decoder matters a little, the learning rate not at all."""
    return 100 * (values["objective.beta"] - 0.3) ** 2 + (values["model.decoder"] == "flat")


def tried(search: TpeSearch, state: SweepState, numbers: range) -> list[Values]:
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
    undisturbed = tried(TpeSearch(sweep), state_of(), range(40))
    late, early = undisturbed[20:], undisturbed[:10]
    assert early == [random_values(sweep.space, seed=0, number=number) for number in range(10)]
    assert sum(map(objective, late)) / 20 < sum(map(objective, early)) / 10 / 2
    assert all(("model.conductor_layers" in v) == (v["model.decoder"] == "hierarchical") for v in undisturbed)

    state = state_of()
    restarted = [values for number in range(40) for values in tried(TpeSearch(sweep), state, range(number, number + 1))]
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
    search = TpeSearch(sweep)
    drawn_then = [search.values(number, state)["objective.beta"] for number in range(30, 60)]
    assert sum(beta < 0.5 for beta in drawn_then) > 20


def test_the_setting_that_decides_is_the_most_important():
    space = sweep_settings(space=SPACE).space
    values = [random_values(space, seed=1, number=number) for number in range(200)]
    results = [objective(own) for own in values]
    found = importances(space, values, results, maximize=False)
    assert next(iter(found)) == "objective.beta"
    assert found["objective.beta"] > 0.6
    assert sum(found.values()) == pytest.approx(1)
    worst = importances(space, values, [-result for result in results], maximize=True)
    assert worst == pytest.approx(found)


def test_little_is_known_of_few_trials_or_of_equal_ones():
    space = sweep_settings(space=SPACE).space
    values = [random_values(space, seed=1, number=number) for number in range(20)]
    assert importances(space, values[:5], [1.0, 2.0, 3.0, 4.0, 5.0], maximize=False) == {}
    assert importances(space, values, [1.0] * 20, maximize=False) == {}


def test_what_cannot_be_trained_is_drawn_again_otherwise():
    search = TpeSearch(sweep_settings(search="tpe", space=SPACE))
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
    assert 0 <= TpeSearch(sweep).values(12, state)["objective.beta"] <= 1
