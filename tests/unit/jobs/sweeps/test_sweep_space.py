"""What a sweep draws: legal values, equally on every machine, and the same ones when the space or the sweep grows."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.sweeps.pools import room_on
from jobs.sweeps.settings import Dimension, SweepSettings, TrialResources, grid_values, random_values
from musicvae.errors import ConfigError
from musicvae.settings import parse_settings

SPACE = {
    "a": Dimension(log_uniform=(1e-4, 1e-1)),
    "b": Dimension(choice=("x", "y")),
    "c": Dimension(integer=(2, 11), step=3, when={"b": ("x",)}),
    "d": Dimension(uniform=(-1.0, 1.0)),
}
LEAST = {"preset": "demo", "space": {"a": {"choice": [1, 2]}}, "budget": {"trials": 4, "steps": 90}}


@given(st.integers(0, 2**32), st.integers(0, 10_000))
def test_every_value_is_legal_and_conditions_hold(seed, number):
    values = random_values(SPACE, seed=seed, number=number)
    assert 1e-4 <= values["a"] <= 1e-1
    assert -1 <= values["d"] < 1
    assert ("c" in values) == (values["b"] == "x")
    assert values.get("c", 2) in (2, 5, 8, 11)


def test_draws_fill_their_ranges_evenly():
    drawn = [random_values(SPACE, seed=0, number=number) for number in range(2000)]
    below = sum(values["a"] < math.sqrt(1e-4 * 1e-1) for values in drawn)
    assert 900 < below < 1100, "half of a log-uniform range lies below its geometric mean"
    assert 900 < sum(values["b"] == "x" for values in drawn) < 1100
    assert set(Counter(values["c"] for values in drawn if "c" in values)) == {2, 5, 8, 11}
    assert abs(sum(values["d"] for values in drawn)) < 60


def test_a_range_of_whole_numbers_is_never_written_out():
    space = {"n": Dimension(integer=(0, 10**9)), "l": Dimension(log_integer=(1, 10**6))}
    drawn = [random_values(space, seed=0, number=number) for number in range(2000)]
    assert 900 < sum(values["n"] < 5 * 10**8 for values in drawn) < 1100
    assert 900 < sum(values["l"] < 1000 for values in drawn) < 1100, "half of the logarithm"
    assert {Dimension(log_integer=(1, 4)).at(share / 100) for share in range(100)} == {1, 2, 3, 4}
    assert space["n"].holds(10**9)
    assert not space["n"].holds(10**9 + 1)
    assert not space["n"].holds(0.5)


def test_the_direction_is_that_of_the_figure():
    accuracy = {"metric": "validation.token_accuracy_free_running"}
    assert parse_settings(SweepSettings, LEAST).direction == "minimize"
    assert parse_settings(SweepSettings, {**LEAST, **accuracy}).direction == "maximize"
    for file, direction in ((LEAST, "minimize"), ({**LEAST, **accuracy}, "maximize")):
        assert parse_settings(SweepSettings, {**file, "direction": None}).direction == direction
    assert parse_settings(SweepSettings, {**LEAST, **accuracy, "direction": "minimize"}).direction == "minimize"


def test_a_setting_that_is_added_leaves_the_others_as_they_were():
    wider = {"new": Dimension(choice=(1, 2)), **SPACE, "last": Dimension(uniform=(0, 1))}
    for number in range(50):
        before, after = (random_values(space, seed=3, number=number) for space in (SPACE, wider))
        assert {name: after[name] for name in before} == before
    assert random_values(SPACE, seed=3, number=0) != random_values(SPACE, seed=4, number=0)


def test_a_grid_has_every_combination_once_and_conditions_take_some_out():
    space = {"b": SPACE["b"], "c": SPACE["c"]}
    assert list(grid_values(space)) == [*({"b": "x", "c": c} for c in (2, 5, 8, 11)), {"b": "y"}]


def test_grid_settings_take_turns_in_a_random_search():
    space = {"g": Dimension(grid=(1, 2)), "h": Dimension(grid=("u", "v", "w")), "d": SPACE["d"]}
    pairs = Counter((v["g"], v["h"]) for v in (random_values(space, seed=0, number=n) for n in range(12)))
    assert pairs == {(g, h): 2 for g in (1, 2) for h in ("u", "v", "w")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {"a": {"choice": [1], "uniform": [0, 1]}}}, "exactly one of"),
        ({"space": {"a": {}}}, "found none"),
        ({"space": {"a": {"uniform": [1, 0]}}}, "from a smaller to a larger"),
        ({"space": {"a": {"log_uniform": [0, 1]}}}, "positive numbers"),
        ({"space": {"a": {"choice": [1], "step": 2}}}, "step belongs to integer"),
        ({"space": {"a": {"chioce": [1]}}}, "chioce"),
        ({"space": {"a": {"choice": [1], "when": {"b": [1]}}}}, "must precede it"),
        ({"space": {"b": {"choice": [1]}, "a": {"choice": [1], "when": {"b": [2]}}}}, "never drawn"),
        ({"space": {"b": {"uniform": [0, 1]}, "a": {"choice": [1], "when": {"b": [1]}}}}, "drawn from a range"),
        ({"search": "grid", "space": {"a": {"uniform": [0, 1]}}}, "a grid needs"),
        ({"settings": {"a": 1}}, "both settings and space"),
        ({"space": {"train.seed": {"choice": [1, 2]}}, "repeats": {"seeds": 2}}, "repeats set it too"),
        ({"asha": {"first_steps": 90}}, "less than budget.steps"),
        ({"serach": "tpe"}, "did you mean search"),
        ({"metric": "loss"}, "metric"),
        ({"space": {"a": {"log_integer": [0, 5]}}}, "positive numbers"),
        ({"space": {"a": {"log_integer": [1, 5], "step": 2}}}, "step belongs to integer"),
        ({"space": {"a": {"integer": [0, 10**9]}}, "search": "grid"}, "combinations"),
        ({"first": [{"b": 1}]}, "b of first is not in space"),
        ({"learn_from": "sweeps/other"}, "a search that learns"),
        ({"search": "gp", "asha": {"first_steps": 10}}, "leave asha out"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        parse_settings(SweepSettings, {**LEAST, **change})


def test_comparisons_come_after_eta_times_as_many_steps():
    sweep = parse_settings(SweepSettings, {**LEAST, "asha": {"first_steps": 10, "eta": 3}})
    assert sweep.rungs == (10, 30, 90)
    assert parse_settings(SweepSettings, LEAST).rungs == (90,)


@pytest.mark.parametrize(
    ("cpus", "gpus", "memory_gib", "room"),
    [
        *((1, 0, None, 16), (3, 0, None, 5), (1, 1, None, 2), (1, 0.5, None, 4), (1, 0.3, None, 6), (8, 0.25, None, 2)),
        *((1, 0, 3, 5), (1, 0.2, 1.7, 9), (1, 1, 3, 2), (1, 0, 17, 0)),
    ],
)
def test_a_node_holds_as_many_trials_as_cores_gpus_and_memory_allow(cpus, gpus, memory_gib, room):
    node = {"CPU": 16.0, "GPU": 2.0, "memory": 16.0 * 2**30}
    assert room_on(node, TrialResources(cpus=cpus, gpus=gpus, memory_gib=memory_gib)) == room
