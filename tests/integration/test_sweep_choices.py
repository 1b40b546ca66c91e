"""What a sweep tries, as whole commands: known-good values, other sweeps, more steps, seeds; and how Optuna sees it.

Trials are not trained: their figure is `objective.beta`.
"""

import json
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import optuna
import pytest

from jobs.command.command_line import console
from jobs.sweep import compare, report
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import read_ledger
from jobs.sweeps.settings import random_values
from jobs.sweeps.status import best_of
from jobs.sweeps.study import open_study
from musicvae.errors import ConfigError
from tests.support.commands import CHECKOUT, job_command
from tests.support.sweeps.inline_sweep import run_inline
from tests.support.sweeps.sweep_trainers import broken, do_nothing
from tests.support.sweeps.tiny_sweep import SPACE, STEPS, sweep_file, table

NEW_KEYS, NEW_KIND, NEW_RESOURCE = ("first", "learn_from"), "log_integer", "memory_gib"


def starts(out) -> int:
    return (out / "ledger.jsonl").read_text().count('"kind": "start"')


def as_before(ledger) -> None:
    """Takes out what the commit before did not write."""
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "sweep":
            for key in NEW_KEYS:
                del line["sweep"][key]
            del line["sweep"]["resources"][NEW_RESOURCE]
            for dimension in line["sweep"]["space"].values():
                del dimension[NEW_KIND]
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_metric_that_no_evaluation_gives_costs_nothing(small_shards, tmp_path):
    file = sweep_file(tmp_path / "typo.yaml", metric="validation.negativ_elbo")
    with pytest.raises(ConfigError, match=r"did you mean validation\.negative_elbo\?"):
        run_inline(do_nothing, file, small_shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sweep_whose_first_trials_fail_alike_stops_with_the_cause(small_shards, tmp_path):
    out = tmp_path / "out"
    file = sweep_file(tmp_path / "broken.yaml")
    with pytest.raises(ConfigError, match=r"all trials failed in the same way(.|\n)*a bug that all trials have"):
        run_inline(broken, file, small_shards, out)
    assert starts(out) == 3
    run_inline(do_nothing, file, small_shards, out, retry=True)
    assert (starts(out), len(read_ledger(out).numbers)) == (3 + 6, 6)


def test_a_warm_start_outlives_the_other_sweep_and_a_ledger_of_before_goes_on(small_shards, tmp_path):
    cold, warm = tmp_path / "cold", tmp_path / "warm"
    file = sweep_file(tmp_path / "cold.yaml", budget={"trials": 12, "steps": STEPS})
    run_inline(do_nothing, file, small_shards, cold)
    as_before(cold / "ledger.jsonl")
    run_inline(do_nothing, sweep_file(file, budget={"trials": 16, "steps": STEPS}), small_shards, cold)
    assert (starts(cold), len(read_ledger(cold).numbers)) == (16, 16)

    good = {"objective.beta": 0.11, "optimizer.learning_rate": 0.002}
    narrow = {**SPACE, "objective.beta": {"uniform": [0.1, 0.85]}}
    options = {"search": "tpe", "space": narrow, "first": [good], "learn_from": str(cold)}
    file = sweep_file(tmp_path / "warm.yaml", budget={"trials": 6, "steps": STEPS}, **options)
    printed = run_inline(do_nothing, file, small_shards, warm)
    state = read_ledger(warm)
    inside = [t for t in read_ledger(cold).trials.values() if t.drawn.values["objective.beta"] <= 0.85]
    assert {*state.imported} == {trial.id for trial in inside}
    assert f"learns from {len(inside)} results" in printed
    assert f"{16 - len(inside)} more are outside" in printed
    drawn = [state.trials[state.numbers[number]].drawn.values for number in range(6)]
    assert drawn[0] == good
    sweep = SweepFolder(warm).read()[0]
    assert drawn[1] != random_values(sweep.space, seed=0, number=1)
    assert all(row["trial"] in state.trials for row in table(warm)), "what was learnt from is no trial"

    shutil.rmtree(cold)
    sweep_file(file, budget={"trials": 8, "steps": STEPS}, **options)
    run_inline(do_nothing, file, small_shards, warm)
    assert (starts(warm), len(read_ledger(warm).imported)) == (8, len(inside))


@pytest.fixture(scope="module")
def longer(small_shards, tmp_path_factory):
    """A sweep with early stopping and repeats, whose steps were raised when it had ended."""
    folder = tmp_path_factory.mktemp("longer")
    options = {"asha": {"first_steps": 10}, "repeats": {"seeds": 3, "of_best": 1}, "resources": {"at_once": 1}}
    for steps in (90, 270):
        file = sweep_file(folder / "longer.yaml", budget={"trials": 9, "steps": steps}, **options)
        run_inline(do_nothing, file, small_shards, folder / "out")
    return folder / "out"


def test_more_steps_take_the_winner_and_its_repeats_along(longer):
    sweep, state = SweepFolder(longer).read()
    winner = best_of(sweep, state)
    assert (winner.steps, len(winner.results)) == (270, 3)
    assert winner.values["objective.beta"] == min(t.drawn.values["objective.beta"] for t in state.trials.values())


def test_optuna_reads_the_sweep_and_its_journal(longer):
    sweep, state = SweepFolder(longer).read()
    report(longer)
    backend = optuna.storages.journal.JournalFileBackend(str(longer / "study.journal"))
    for repeats, trials in ((False, 9), (True, 2)):
        study = open_study(longer, repeats=repeats)
        loaded = optuna.load_study(study_name=study.study_name, storage=optuna.storages.JournalStorage(backend))
        assert len(loaded.trials) == len(study.trials) == trials
        assert [trial.state for trial in loaded.trials] == [trial.state for trial in study.trials]
        assert loaded.best_trial.params == study.best_trial.params == dict(best_of(sweep, state).values)


def test_sweeps_are_compared_in_a_table(longer, small_shards, tmp_path, monkeypatch):
    space = {"objective.beta": {"grid": [0.25]}, "train.seed": {"grid": [0, 1]}}
    options = {"search": "grid", "space": space, "metric": "validation.kl_bits"}
    file = sweep_file(tmp_path / "other.yaml", budget={"trials": 2, "steps": STEPS}, **options)
    run_inline(do_nothing, file, small_shards, longer.parent / "other")
    monkeypatch.chdir(longer.parent)
    with console.capture() as printed:
        compare([Path("out"), Path("other")])
    _, *rows = (line.split() for line in printed.get().splitlines() if not line.startswith(" "))
    best = best_of(*SweepFolder(longer).read()).text.split()
    assert [row[: 4 + len(best)] for row in rows[:1]] == [["out", "negative_elbo", *best, "9/9", "0.00"]]
    assert rows[1] == ["other", "kl_bits", "0.25", "±", "0", "2/2", "0.00", "objective.beta=0.25"]


def test_a_command_of_the_user_is_run_when_a_sweep_is_done_or_fails(small_shards, tmp_path):
    file, out, told = sweep_file(tmp_path / "tiny.yaml"), tmp_path / "out", tmp_path / "told"
    notify = f'echo "$SWEEP_STATE $SWEEP_FOLDER $(echo "$SWEEP_MESSAGE" | head -1)" >> {told}; exit 3'
    with pytest.raises(ConfigError, match="all trials failed"):
        run_inline(broken, file, small_shards, out, notify=notify)
    run_inline(do_nothing, file, small_shards, out, retry=True, notify=notify)  # its failure does not matter
    assert told.read_text().splitlines() == [
        f"failed {out} all trials failed in the same way",
        f"done {out} sweep tiny: done; 6 finished",
    ]


@pytest.mark.slow
def test_the_dashboard_shows_the_sweep_and_refuses_to_change_it(longer):
    pytest.importorskip("optuna_dashboard")
    before = (longer / "ledger.jsonl").read_bytes()
    with subprocess.Popen(
        job_command("sweep", "dashboard", longer, "--port", 0), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as server:
        address = server.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/studies/0", timeout=60) as answer:
            assert len(json.load(answer)["trials"]) == 9
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(f"{address}api/studies/0", method="DELETE"), timeout=60)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert (longer / "ledger.jsonl").read_bytes() == before


def test_seeds_of_a_grid_give_a_mean_and_paired_differences(small_shards, tmp_path):
    space = {"objective.beta": {"grid": [0.2, 0.4]}, "train.seed": {"grid": [0, 1, 2]}}
    file = sweep_file(tmp_path / "seeds.yaml", search="grid", space=space, budget={"trials": 6, "steps": STEPS})
    printed = run_inline(do_nothing, file, small_shards, tmp_path / "out")
    assert "over 3 seed(s)" in printed
    assert "difference to the winner" in (tmp_path / "out" / "report.html").read_text()
    assert [float(row["objective.beta"]) for row in table(tmp_path / "out")] == [0.2] * 3 + [0.4] * 3
