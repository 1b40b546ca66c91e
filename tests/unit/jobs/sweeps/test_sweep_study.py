"""A sweep as Optuna sees it: computed from the ledger in every state, and never written to."""

import json

import optuna
import pytest
from optuna.trial import TrialState

from jobs.sweeps.elements import gather
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Begun, Ledger, Start, read_ledger
from jobs.sweeps.status import best_of, outcomes
from jobs.sweeps.study import open_study, write_journal
from musicvae.errors import ConfigError
from tests.support.sweeps.played_sweep import played_sweep
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, sweep_settings

STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "diverged": TrialState.FAIL,
}


def written(folder, state) -> None:
    """The ledger of a sweep that was played."""
    ledger = Ledger.open(folder)
    ledger.append(state.begun)
    for trial in state.trials.values():
        ledger.append(trial.drawn, *([trial.last_start] if trial.last_start else []))
        starts = [steps for steps in trial.values if steps != trial.last_start.steps]
        for attempt, steps in enumerate(starts):
            ledger.append(Start(trial.id, attempt, steps, 2.0), end(trial.id, attempt, trial.values[steps], step=steps))
        if starts:
            ledger.append(trial.last_start)
        if trial.last_end:
            ledger.append(trial.last_end)


@pytest.fixture
def swept(tmp_path):
    sweep, state = played_sweep()
    written(tmp_path, state)
    return sweep, state, tmp_path


def test_the_study_has_the_trials_of_the_ledger(swept):
    sweep, state, folder = swept
    study, became = open_study(folder), outcomes(sweep, state)
    own = [trial for trial in state.trials.values() if trial.drawn.repeat_of is None]
    assert [trial.user_attrs["trial"] for trial in study.trials] == [trial.id for trial in own]
    for shown, trial in zip(study.trials, own, strict=True):
        assert shown.state == STATES[became[trial.id]]
        assert shown.params == trial.drawn.values
        assert shown.intermediate_values == trial.values
        assert shown.number == study.trials.index(shown)
    assert study.metric_names == [sweep.metric]
    assert study.best_trial.user_attrs["trial"] == min(own, key=lambda t: t.values.get(90, 1e9)).id
    assert best_of(sweep, state) is not None
    repeats = open_study(folder, repeats=True).trials
    assert [trial.user_attrs["repeat_of"] for trial in repeats] == [
        trial.drawn.repeat_of for trial in state.trials.values() if trial.drawn.repeat_of
    ]


def test_the_journal_is_read_by_optuna_alone_and_gives_the_same_study(swept):
    _, _, folder = swept
    path = write_journal(SweepFolder(folder))
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    for repeats in (False, True):
        ours = open_study(folder, repeats=repeats)
        loaded = optuna.load_study(study_name=ours.study_name, storage=storage)
        assert [(t.state, t.params, t.values, t.intermediate_values, t.user_attrs) for t in loaded.trials] == [
            (t.state, t.params, t.values, t.intermediate_values, t.user_attrs) for t in ours.trials
        ]


def test_nobody_can_write_to_it(swept):
    _, _, folder = swept
    before = (folder / "ledger.jsonl").read_bytes()
    study = open_study(folder)
    for write in (
        study.ask,
        lambda: study.set_user_attr("note", "x"),
        lambda: study.add_trial(study.trials[0]),
        lambda: study.enqueue_trial({}),
        lambda: optuna.delete_study(study_name=study.study_name, storage=study._storage),
    ):
        with pytest.raises(ConfigError, match="cannot be changed"):
            write()
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_it_follows_a_running_sweep_and_an_extension(tmp_path):
    sweep = sweep_settings(asha={"first_steps": 10}, budget={"trials": 3, "steps": 90})
    ledger = Ledger.open(tmp_path)
    ledger.append(begun(sweep), drawn(0, **{"objective.beta": 0.5}))
    study = open_study(tmp_path)

    def shown() -> list[tuple[TrialState, float | None]]:
        return [(trial.state, trial.value) for trial in study.trials]

    assert shown() == [(TrialState.WAITING, None)]
    ledger.append(Start("t0", 0, 10, 2.0))
    assert shown() == [(TrialState.RUNNING, None)]
    ledger.append(end("t0", 0, 7.0, step=10))
    assert shown() == [(TrialState.WAITING, None)], "it is paused: others are to come that it is compared with"
    assert study.trials[0].intermediate_values == {10: 7.0}
    ledger.append(Start("t0", 1, 90, 2.0), end("t0", 1, 5.0, step=90))
    assert shown() == [(TrialState.COMPLETE, 5.0)]
    longer = sweep_settings(asha={"first_steps": 10}, budget={"trials": 3, "steps": 270})
    ledger.append(Begun("test", longer.model_dump(mode="json"), 3, "f" * 16, "/shards", 9.0), Start("t0", 2, 270, 9.0))
    assert shown() == [(TrialState.RUNNING, None)]


def test_places_stay_when_shares_are_gathered(tmp_path):
    sweep = sweep_settings(budget={"trials": 4, "steps": 90})
    for share in ("0-of-2", "1-of-2"):
        (tmp_path / "shares" / share).mkdir(parents=True)
    first, second = (Ledger.open(tmp_path / "shares" / share) for share in ("0-of-2", "1-of-2"))
    Ledger.open(tmp_path).append(begun(sweep))
    second.append(begun(sweep), drawn(1))
    study = open_study(tmp_path)
    assert [trial.user_attrs["trial"] for trial in study.trials] == ["t1"]
    first.append(begun(sweep), drawn(0), drawn(2))
    assert [trial.user_attrs["trial"] for trial in study.trials] == ["t1", "t0", "t2"]
    gather(SweepFolder(tmp_path))
    assert [trial.user_attrs["trial"] for trial in study.trials] == ["t1", "t0", "t2"]


def test_values_of_any_kind_and_of_a_space_that_was_another_one_are_shown(tmp_path):
    space = {
        "a": {"choice": [[1, 2], [3]]},
        "b": {"integer": [2, 10], "step": 4},
        "c": {"log_integer": [1, 1000]},
        "d": {"choice": [True, None]},
    }
    odd = {"a": [9], "b": 11, "c": 5000, "d": "x", "gone": 0.5}
    usual = {"a": [3], "b": 6, "c": 30, "d": None}
    ledger = Ledger.open(tmp_path)
    ledger.append(begun(sweep_settings(space=space)), drawn(0, **usual), drawn(1, **odd))
    write_journal(SweepFolder(tmp_path))
    shown = [trial.params for trial in open_study(tmp_path).trials]
    assert shown == [{**usual, "a": json.dumps([3])}, {**odd, "a": json.dumps([9])}]


def test_without_a_sweep_there_is_no_study(tmp_path):
    (tmp_path / "ledger.jsonl").touch()
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="no sweep in"):
            open_study(folder)


def test_ledgers_are_read_again_only_if_they_have_grown(swept, monkeypatch):
    _, _, folder = swept
    reads = []

    def counted(path):
        reads.append(path)
        return read_ledger(path)

    monkeypatch.setattr("jobs.sweeps.folder.read_ledger", counted)
    study = open_study(folder)
    for _ in range(3):
        assert study.trials
    so_far = len(reads)
    Ledger.open(folder).append(drawn(99))
    assert len(study.trials) == 15
    assert (so_far, len(reads)) == (2, 3), "once for the names, once for the trials, once for the new line"
