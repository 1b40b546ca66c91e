"""`jobs.sweep` from the first plan to the winner that trains again."""

import json

import pytest
import yaml

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import read_ledger
from tests.support.commands import ok, run_job
from tests.support.runs.tiny_run import status
from tests.support.runs.wandb_files import of_kind, offline_folders
from tests.support.sweeps.tiny_sweep import STEPS, results, run_with_trainer, sweep_file, table


def sweep(*arguments: object, **options: str) -> str:
    return ok(run_job("sweep", *arguments, **options)).stdout


@pytest.fixture(scope="module")
def swept(small_shards, tmp_path_factory):
    """The folder of a sweep with early stopping and repeats, on a Ray that is told what each trial needs; and what the
    command printed."""
    folder = tmp_path_factory.mktemp("sweep")
    options = {"repeats": {"seeds": 2, "of_best": 1}, "resources": {"memory_gib": 0.25}}
    file = sweep_file(folder / "tiny.yaml", asha={"first_steps": 5, "eta": 2}, **options)
    out = folder / "out"
    return out, sweep("run", file, "--shards", small_shards, "--out", out)


@pytest.mark.slow
def test_a_sweep_ends_with_outcomes_tables_and_a_winner(swept):
    out, printed = swept
    state = read_ledger(out)
    assert len(state.numbers) == 6
    assert printed.count("trial ") > 6
    assert "sweep tiny: done" in printed
    rows = table(out)
    assert {row["trial"] for row in rows} == set(state.trials)
    assert {row["outcome"] for row in rows} == {"finished", "stopped"}
    for row in rows:
        trial = state.trials[row["trial"]]
        assert float(row["value"]) == trial.value
        assert int(row["steps"]) == trial.reached
    assert sum(bool(row["repeat_of"]) for row in rows) == 1, "the best is repeated with one more seed"
    winner = [float(row["value"]) for row in rows if rows[0]["trial"] in (row["trial"], row["repeat_of"])]
    assert len(winner) == 2
    assert f"{sum(winner) / 2:.6g}" in printed


@pytest.mark.slow
def test_the_winner_trains_again_with_the_printed_command(swept, small_shards, tmp_path):
    out, printed = swept
    command = next(line for line in printed.splitlines() if line.startswith("train it: ")).split()
    arguments = [str(tmp_path / "again") if part == "RUN" else part for part in command[4:]]
    assert command[1:4] == ["it:", "python", "-m"]
    ok(run_job("train", *arguments[1:]))
    again = tmp_path / "again"
    assert (status(again)["state"], status(again)["step"]) == ("finished", STEPS)
    best = table(out)[0]
    assert yaml.safe_load((again / "config.yaml").read_text())["run_id"] == best["trial"], "it is the same run"


@pytest.mark.slow
def test_a_trial_is_an_ordinary_run(swept):
    out, _ = swept
    best = SweepFolder(out).run(table(out)[0]["trial"])
    assert "finished" in ok(run_job("report", best)).stdout
    stopped = next(row["trial"] for row in table(out) if row["outcome"] == "stopped")
    run = SweepFolder(out).run(stopped)
    assert (run / "best.safetensors").exists()
    assert not (run / "checkpoints").exists(), "what was stopped keeps its weights alone"
    assert (run / "metrics.jsonl").exists()


@pytest.mark.slow
def test_status_and_best_are_read_from_the_folder_alone(swept):
    out, _ = swept
    assert "sweep tiny: done" in sweep("status", out)
    (out / "best.yaml").unlink()
    assert "train it: python -m jobs.train --config" in sweep("best", out)
    assert (out / "best.yaml").exists()
    refused = run_job("sweep", "status", out / "runs")
    assert (refused.returncode, "no sweep in" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_the_same_command_again_does_nothing_and_another_sweep_is_refused(swept, small_shards):
    out, _ = swept
    before = results(out)
    file = out.parent / "tiny.yaml"
    printed = sweep("run", file, "--shards", small_shards, "--out", out)
    assert "finished at step" not in printed
    assert results(out) == before
    other = sweep_file(out.parent / "other.yaml", settings={"model.latent": 4})
    refused = run_job("sweep", "run", other, "--shards", small_shards, "--out", out)
    assert refused.returncode == 2
    assert "the folder contains another sweep" in refused.stderr


def test_a_dry_run_checks_everything_and_starts_nothing(small_shards, tmp_path):
    file = sweep_file(tmp_path / "tiny.yaml")
    printed = sweep("run", file, "--shards", small_shards, "--out", tmp_path / "out", "--dry-run")
    assert "6 trials of up to 20 steps" in printed
    assert "disk: about" in printed
    assert not (tmp_path / "out").exists()


def test_a_sweep_that_cannot_be_meant_is_refused_before_anything_starts(small_shards, tmp_path):
    file = sweep_file(tmp_path / "bad.yaml", space={"model.latent": {"choice": [8, -8]}}, search="grid")
    refused = run_job("sweep", "run", file, "--shards", small_shards, "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "1 of 2 trials cannot be trained" in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_equal_configurations_run_once_and_more_trials_keep_those_that_are_there(small_shards, tmp_path):
    out = tmp_path / "out"
    space = {"objective.beta": {"choice": [0.1, 0.2, 0.3]}}
    file = sweep_file(tmp_path / "tiny.yaml", space=space, budget={"trials": 12, "steps": 20})
    ok(run_with_trainer("do_nothing", file, small_shards, out))
    before = results(out)
    assert len(before) == 3, "twelve draws of three values"
    assert len(read_ledger(out).numbers) == 12
    wider = {"objective.beta": {"uniform": [0.0, 1.0]}, "objective.free_bits": {"choice": [4, 6]}}
    sweep_file(file, space=wider, budget={"trials": 20, "steps": 20})
    ok(run_with_trainer("do_nothing", file, small_shards, out))
    after = results(out)
    assert {trial: after[trial] for trial in before} == before
    assert len(after) == 3 + 8
    kinds = [json.loads(line)["kind"] for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert kinds.count("start") == kinds.count("end") == len(after), "nothing ran twice"


@pytest.mark.slow
def test_trials_are_a_group_in_wandb(small_shards, tmp_path):
    offline = {"tracking.wandb": "offline"}
    file = sweep_file(tmp_path / "grouped.yaml", budget={"trials": 2, "steps": 5}, settings=offline)
    sweep("run", file, "--shards", small_shards, "--out", tmp_path / "out")
    runs = [folder for trial in (tmp_path / "out" / "runs").iterdir() for folder in offline_folders(trial)]
    assert len(runs) == 2
    assert {run.run_group for folder in runs for run in of_kind(folder, "run")} == {"grouped"}
