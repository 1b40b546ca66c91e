"""What a sweep does next follows from its ledger alone: wherever a driver is killed, the next one does the same."""

import statistics

import pytest

from jobs.sweeps.decisions import Draw, Idle, Resume, cut_trials, next_step, rung_rankings, same_failure
from jobs.sweeps.ledger import Ledger, Start, read_ledger
from jobs.sweeps.status import best_of, is_done, outcomes, ranking
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, played, state_of, sweep_settings

ASHA = sweep_settings(asha={"first_steps": 10, "eta": 3}, budget={"trials": 12, "steps": 90})


def quality(trial: str, steps: int) -> float:
    """t0 is the worst, t11 the best; all get better with more steps."""
    return 100 - int(trial.removeprefix("t").partition("-")[0]) + 10 / steps


def test_without_early_stopping_every_trial_is_trained_to_the_end_once():
    sweep = sweep_settings()
    for at_once in (1, 5):
        assert sorted(played(sweep, quality, at_once=at_once)) == sorted((f"t{n}", 90) for n in range(12))


@pytest.mark.parametrize("at_once", [1, 4, 12])
def test_asha_lets_the_best_third_go_on(at_once):
    starts = played(ASHA, quality, at_once=at_once)
    assert len(starts) == len(set(starts)), "nothing runs twice"
    assert {trial for trial, steps in starts if steps == 10} == {f"t{n}" for n in range(12)}
    further = {trial for trial, steps in starts if steps == 30}
    assert {f"t{n}" for n in range(8, 12)} <= further, "the best third of twelve"
    assert {"t11"} <= {trial for trial, steps in starts if steps == 90}
    assert not {trial for trial, steps in starts if steps == 90} - further


def test_asha_promotes_the_furthest_first_and_never_a_diverged_trial():
    records = [begun(ASHA)]
    for number, value in enumerate((5.0, 4.0, 3.0)):
        records += [drawn(number), Start(f"t{number}", 0, 10, 2.0), end(f"t{number}", 0, value, step=10)]
    state = state_of(*records)
    assert next_step(ASHA, state, planned=12, running=()) == Resume("t2", 30)
    assert next_step(ASHA, state, planned=12, running=("t2",)) == Draw(3)
    diverged = [drawn(0), Start("t0", 0, 10, 2.0), end("t0", state="diverged", category="diverged", step=3)]
    for number in (1, 2):
        diverged += [drawn(number), Start(f"t{number}", 0, 10, 2.0), end(f"t{number}", state="diverged")]
    assert next_step(ASHA, state_of(*diverged), planned=3, running=()) == Idle("done")
    assert len(rung_rankings(ASHA, state_of(*diverged))[10]) == 3, "it came to the comparison, with the worst value"


@pytest.mark.parametrize("sweep", [sweep_settings(repeats={"seeds": 3, "of_best": 2}), ASHA], ids=["repeats", "asha"])
def test_a_driver_that_is_killed_after_any_line_changes_nothing(sweep, tmp_path):
    undisturbed = played(sweep, quality)
    whole = Ledger.open(tmp_path)
    whole.append(begun(sweep))
    played(sweep, quality, state=whole.state, append=whole.append)
    lines = whole.path.read_bytes().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        torn = lines[kept][: len(lines[kept]) // 2]
        whole.path.write_bytes(b"".join(lines[:kept]) + torn)
        ledger = Ledger.open(tmp_path)
        played(sweep, quality, state=ledger.state, append=ledger.append)
        state = read_ledger(tmp_path)
        ends = [(trial.id, steps) for trial in state.trials.values() for steps in trial.values]
        assert sorted(ends) == sorted(undisturbed), f"killed after line {kept}"
        assert not state.unfinished
        assert is_done(sweep, state)


def test_more_trials_and_more_steps_keep_what_is_there():
    sweep = sweep_settings()
    state = state_of(begun(sweep))
    played(sweep, quality, state=state)
    more = sweep_settings(budget={"trials": 20, "steps": 90})
    assert played(more, quality, state=state) == [(f"t{number}", 90) for number in range(12, 20)]
    longer = sweep_settings(budget={"trials": 20, "steps": 200})
    assert sorted(played(longer, quality, state=state)) == sorted((f"t{number}", 200) for number in range(20))


def test_a_killed_trial_is_tried_again_so_often_and_others_not_at_all():
    sweep = sweep_settings(attempts=2)
    records = [begun(sweep), drawn(0), Start("t0", 0, 90, 2.0), end("t0", 0, state="failed", category="killed")]
    assert next_step(sweep, state_of(*records), planned=1, running=()) == Resume("t0", 90)
    records += [Start("t0", 1, 90, 2.0), end("t0", 1, state="failed", category="killed")]
    assert next_step(sweep, state_of(*records), planned=1, running=()) == Idle("done")
    raised = state_of(begun(sweep), drawn(0), Start("t0", 0, 90, 2.0), end("t0", state="failed", category="code"))
    assert next_step(sweep, raised, planned=1, running=()) == Idle("done")
    assert outcomes(sweep, raised) == {"t0": "failed"}


def test_hours_stop_new_trials_but_not_begun_ones():
    sweep = sweep_settings(budget={"trials": 12, "steps": 90, "hours": 0.002})
    state = state_of(
        begun(sweep), drawn(0), drawn(1), Start("t0", 0, 90, 2.0), Start("t1", 0, 90, 2.0), end("t0", 0, 5.0)
    )
    assert next_step(sweep, state, planned=12, running=()) == Resume("t1", 90)
    assert next_step(sweep, state, planned=12, running=("t1",)) == Idle("hours")


def test_the_winner_is_the_best_mean_and_not_the_luckiest_seed():
    sweep = sweep_settings(repeats={"seeds": 3, "of_best": 2}, budget={"trials": 4, "steps": 90})
    results = {
        "t1": 70.0,
        "t1-r1": 95.0,
        "t1-r2": 90.0,
        "t2": 72.0,
        "t2-r1": 73.0,
        "t2-r2": 74.0,
        "t0": 80.0,
        "t3": 81.0,
    }
    state = state_of(begun(sweep))
    starts = played(sweep, lambda trial, _: results[trial], state=state, at_once=2)
    assert sorted(trial for trial, _ in starts) == sorted(results)
    assert [c.id for c in ranking(sweep, state)] == ["t2", "t1", "t0", "t3"]
    winner = best_of(sweep, state)
    assert winner is not None
    assert (winner.mean, winner.deviation) == (73.0, 1.0)


def test_what_can_still_be_promoted_is_not_cut():
    state = state_of(begun(ASHA))
    for number, value in enumerate((5.0, 4.0, 3.0, 2.0, 1.0)):
        for record in (drawn(number), Start(f"t{number}", 0, 10, 2.0), end(f"t{number}", 0, value, step=10)):
            state.add(record)
    assert [trial.id for trial in cut_trials(ASHA, state, planned=12)] == ["t0"], "four of twelve will go on"
    assert {trial.id for trial in cut_trials(ASHA, state, planned=0)} == {"t0", "t1", "t2", "t3"}


@pytest.mark.parametrize("trials", [27, 9])
def test_more_steps_under_asha_promote_the_best_of_the_old_end_and_take_its_repeats_along(trials):
    asha, seeds = {"first_steps": 10, "eta": 3}, {"seeds": 3, "of_best": 1}
    short = sweep_settings(asha=asha, repeats=seeds, budget={"trials": trials, "steps": 90})
    long = sweep_settings(asha=asha, repeats=seeds, budget={"trials": trials, "steps": 270})
    state = state_of(begun(short))

    def result(trial: str, steps: int) -> float:
        return -quality(trial, steps)  # t0 is the best

    played(short, result, state=state)
    state.add(begun(long))
    assert "t0" not in {trial.id for trial in cut_trials(long, state, planned=0)}
    assert played(long, result, state=state) == [("t0", 270), ("t0-r1", 270), ("t0-r2", 270)]
    winner = best_of(long, state)
    assert (winner.id, winner.steps, len(winner.results)) == ("t0", 270, 3)
    assert is_done(long, state)


def test_a_few_trials_that_were_never_at_the_end_are_not_promoted():
    sweep = sweep_settings(asha={"first_steps": 10, "eta": 3}, budget={"trials": 2, "steps": 90})
    assert played(sweep, quality) == [("t0", 10), ("t1", 10)]


def test_seeds_of_the_space_are_replication():
    sweep = sweep_settings(
        search="grid",
        space={"train.seed": {"grid": [0, 1, 2]}, "model.latent": {"grid": [8, 16]}},
        budget={"trials": 6, "steps": 90},
    )
    results = {(0, 8): 70.0, (1, 8): 95.0, (2, 8): 90.0, (0, 16): 72.0, (1, 16): 73.0, (2, 16): 74.0}
    state = state_of(begun(sweep))
    for number, ((seed, latent), value) in enumerate(results.items()):
        values = {"train.seed": seed, "model.latent": latent}
        for record in (
            drawn(number, seed=seed, **values),
            Start(f"t{number}", 0, 90, 2.0),
            end(f"t{number}", 0, value),
        ):
            state.add(record)
    winner, other = ranking(sweep, state)
    assert (winner.values, winner.mean, winner.deviation) == ({"model.latent": 16}, 73.0, 1.0)
    assert [trial.drawn.seed for trial in winner.trials] == [0, 1, 2]
    mean, error = other.beside(winner)
    assert (mean, error) == (12.0, pytest.approx(statistics.stdev([-2, 22, 16]) / 3**0.5))


def failed(number: int, message: str, category: str = "code") -> list:
    return [
        drawn(number),
        Start(f"t{number}", 0, 90, 2.0),
        end(f"t{number}", state="failed", category=category, message=message),
    ]


@pytest.mark.parametrize(
    ("records", "alike"),
    [
        ([failed(n, f"t{n}: no room for {n + 3}.{n} GiB in /runs/t{n}") for n in range(3)], True),
        ([failed(n, "a bug") for n in range(2)], False),
        ([failed(n, "a bug" if n else "another") for n in range(3)], False),
        ([failed(n, "a bug", "code" if n else "hang") for n in range(3)], False),
        ([failed(n, "gone", "killed") for n in range(3)], False),
        ([*(failed(n, "a bug") for n in range(3)), [drawn(3), Start("t3", 0, 90, 2.0), end("t3", 0, 5.0)]], False),
        ([*(failed(n, "a bug") for n in range(3)), [Start("t0", 1, 90, 2.0)]], False),
    ],
    ids=["alike", "two", "messages", "categories", "killed", "one that ended well", "one that is tried again"],
)
def test_first_trials_that_all_fail_alike_have_one_cause(records, alike):
    state = state_of(begun(ASHA), *(record for some in records for record in some))
    assert (same_failure(state) is not None) == alike
