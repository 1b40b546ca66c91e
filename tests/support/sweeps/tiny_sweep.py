"""Sweeps so small that whole ones can be repeated in tests, and what they leave; fixtures of one, for all files."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.sweeps.ledger import SweepState, read_ledger
from tests.support.commands import CHECKOUT, QUIET, TINY, ok, run_job

STEPS = 20
SPACE = {"optimizer.learning_rate": {"log_uniform": [1e-3, 1e-1]}, "objective.beta": {"uniform": [0.1, 1.0]}}


Results = dict[str, tuple[str | None, dict[int, float]]]


@pytest.fixture(scope="session")
def repeated_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose best trial is trained with a second seed."""
    return sweep_file(tmp_path_factory.mktemp("sweep") / "tiny.yaml", repeats={"seeds": 2, "of_best": 1})


@pytest.fixture(scope="session")
def undisturbed_sweep(repeated_sweep: Path, small_shards: Path) -> Results:
    """What one driver that nothing happens to makes of it."""
    out = repeated_sweep.parent / "undisturbed"
    ok(run_job("sweep", "run", repeated_sweep, "--shards", small_shards, "--out", out))
    return results(out)


def sweep_file(path: Path, **changes: Any) -> Path:
    """Writes a random search over six trials of a tiny model, with some of its keys changed."""
    settings = dict(setting.split("=") for setting in TINY)
    content = {
        "preset": "demo",
        "settings": {name: yaml.safe_load(value) for name, value in settings.items()} | {"train.evaluate_every": 10},
        "space": SPACE,
        "budget": {"trials": 6, "steps": STEPS},
    }
    for name, value in changes.items():
        content[name] = {**content["settings"], **value} if name == "settings" else value
    content["settings"] = {name: value for name, value in content["settings"].items() if name not in content["space"]}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def results(out: Path) -> Results:
    """State and metric by steps of each trial."""
    return {trial.id: (trial.state, trial.values) for trial in read_ledger(out).trials.values()}


def check_once(state: SweepState, lines: Path) -> None:
    """Every trial was trained to its end, and to no end twice."""
    finished = []
    ledgers = (lines, *lines.parent.glob("elements/*/ledger.jsonl"))
    for line in "".join(path.read_text(encoding="utf-8") for path in ledgers).splitlines():
        record = json.loads(line)
        if record["kind"] == "end" and record["state"] == "finished":
            finished.append((record["trial"], record["step"]))
    assert len(finished) == len(set(finished)), "a trial came to its end twice"
    assert {trial for trial, _ in finished} == set(state.trials)


def table(out: Path) -> list[dict[str, str]]:
    """The rows of trials.csv."""
    with (out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def trainer_command(trainer: str, file: Path, shards: Path, out: Path, *more: str) -> list[str]:
    """The argv of a sweep with a function of `tests.support.sweeps.sweep_trainers` in place of the trainer."""
    arguments = (trainer, file, "--shards", shards, "--out", out, *more)
    return [sys.executable, "-m", "tests.support.sweeps.sweep_trainers", *map(str, arguments)]


def run_with_trainer(trainer: str, file: Path, shards: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs such a sweep to its end."""
    return subprocess.run(
        trainer_command(trainer, file, shards, out, *more),
        cwd=CHECKOUT,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        timeout=600,
    )
