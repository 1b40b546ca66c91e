"""Whatever is killed, the same command goes on: each trial once, with the figures of an undisturbed sweep."""

import json
import os
import re
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from jobs.sweeps.ledger import read_ledger
from tests.support.commands import SOAK, ok, run_job
from tests.support.processes.running_job import running_job, wait_for
from tests.support.sweeps.sweep_trainers import LATENT
from tests.support.sweeps.tiny_sweep import check_once, results, run_with_trainer, sweep_file, table

pytestmark = pytest.mark.slow

KILLS = 5 if SOAK else 1


def lines(out: Path) -> int:
    path = out / "ledger.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def failures(out: Path) -> int:
    return sum(trial.failures for trial in read_ledger(out).trials.values())


def test_a_driver_told_to_leave_a_killed_trial_and_killed_drivers(
    repeated_sweep, undisturbed_sweep, small_shards, tmp_path
):
    out = tmp_path / "out"
    command = ("sweep", "run", repeated_sweep, "--shards", small_shards, "--out", out)

    with running_job(*command) as driver:
        wait_for(lambda: list(out.glob("runs/*/metrics.jsonl")), driver, "trials at work")
        os.killpg(driver.pid, signal.SIGTERM)  # as scancel does, and a shell that ends
        assert driver.wait(timeout=200) == 75
    assert failures(out) == 0
    assert all(not trial.is_open for trial in read_ledger(out).trials.values()), "running trials saved and left"

    def a_trial_was_killed() -> bool:
        records = [json.loads(path.read_text()) for path in out.glob("runs/*/ranks/rank-00000.json")]
        for record in records:
            # One that the signal above met while it started has left a record without an end, and no process.
            with suppress(ProcessLookupError):
                if not record["ended"]:
                    os.kill(record["pid"], signal.SIGKILL)
                    return True
        return False

    with running_job(*command) as driver:
        wait_for(a_trial_was_killed, driver, "trials at work")
        wait_for(lambda: failures(out), driver, "a trial in the ledger that failed")
        driver.kill()
    assert failures(out) == 1

    moments = sorted(np.random.default_rng(0).choice(lines(out) + np.arange(1, 10), KILLS, replace=False))
    for moment in moments:
        with running_job(*command) as driver:
            wait_for(lambda at=moment: lines(out) >= at, driver, f"{moment} lines in the ledger")
            driver.kill()
    ok(run_job(*command))
    assert results(out) == undisturbed_sweep
    state = read_ledger(out)
    check_once(state, out / "ledger.jsonl")
    assert failures(out) == 1


def test_a_second_driver_is_refused_and_status_is_read_beside_the_first(small_shards, tmp_path):
    out = tmp_path / "out"
    endless = sweep_file(tmp_path / "endless.yaml", budget={"trials": 6, "steps": 1_000_000})
    with running_job("sweep", "run", endless, "--shards", small_shards, "--out", out) as driver:
        wait_for(lambda: list(out.glob("runs/*/metrics.jsonl")), driver, "trials at work")
        second = run_job("sweep", "run", endless, "--shards", small_shards, "--out", out)
        assert second.returncode == 2
        assert f"{out} is in use" in second.stderr
        shown = ok(run_job("sweep", "status", out)).stdout
        assert "sweep endless: not done" in shown
        assert re.search(r"running [0-9a-f]{12}: step [\d,]+ of 1,000,000", shown)


def test_trials_that_do_harm_are_classed_and_the_rest_is_unaffected(small_shards, tmp_path):
    file, out = tmp_path / "harm.yaml", tmp_path / "out"
    sweep_file(
        file,
        search="grid",
        space={
            "model.latent": {"integer": [4, 13]},
            "optimizer.learning_rate": {"choice": [1e30], "when": {"model.latent": [LATENT["diverge"]]}},
        },
        settings={"resources.hang_seconds": 6},
        budget={"trials": 10, "steps": 10},
        attempts=2,
    )
    ok(run_with_trainer("faulty", file, small_shards, out))
    state = read_ledger(out)
    ends = {trial.drawn.values["model.latent"]: trial for trial in state.trials.values()}
    assert Counter(trial.state for trial in ends.values()) == {"finished": 5, "failed": 4, "diverged": 1}
    found = {kind: ends[latent].last_end.category for kind, latent in LATENT.items()}
    assert found == {"raise": "code", "hang": "hang", "memory": "memory", "diverge": "diverged", "kill": "killed"}
    assert {kind: ends[latent].starts for kind, latent in LATENT.items()} == dict.fromkeys(LATENT, 1) | {"kill": 2}
    assert "a bug in a trial" in ends[LATENT["raise"]].last_end.message
    assert "main thread is at" in ends[LATENT["hang"]].last_end.message

    if SOAK:
        clean, whole = tmp_path / "clean.yaml", tmp_path / "clean"
        sweep_file(clean, search="grid", space={"model.latent": {"integer": [6, 8]}}, budget={"trials": 3, "steps": 10})
        ok(run_job("sweep", "run", clean, "--shards", small_shards, "--out", whole))
        assert results(whole).items() <= results(out).items()

    again = run_with_trainer("faulty", file, small_shards, out, "--retry")
    assert "3 failed trial(s) are trained again" in ok(again).stdout
    assert "1 have failed 2 times" in again.stdout
    assert {row["outcome"] for row in table(out)} == {"finished", "failed", "diverged"}
    if SOAK:
        spent = ok(run_with_trainer("faulty", file, small_shards, out, "--retry"))
        assert "0 failed trial(s) are trained again" in spent.stdout
