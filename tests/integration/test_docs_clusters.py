"""The commands of the pages in docs/ on Ray, SLURM and sweeps, run as they are written.

In the gate their options and settings are checked (`test_documented_commands`), and `tests/cluster` runs such jobs.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.sweeps.ledger import read_ledger
from musicvae.durable import read_lines
from tests.cluster.ray_cluster import ray_cluster
from tests.support.commands import CHECKOUT
from tests.support.pages.fenced_code import run_shell_blocks
from tests.support.requirements import only_in_a_soak
from tests.support.runs.sample_fixtures import manifest_of
from tests.support.runs.tiny_run import status
from tests.support.services.submitted import rows

pytestmark = [pytest.mark.slow, only_in_a_soak, pytest.mark.timeout(900)]  # whole pages of commands


def check_pipeline(folder: Path, shown: dict[str, dict[str, Any]]) -> None:
    """A pipeline of 20 steps on two nodes and of 60 grooves, in `first`, whose jobs are shown so."""
    first = folder / "first"
    assert {name: row["state"] for name, row in shown.items()} == dict.fromkeys(
        ("build_shards", "train", "evaluate", "sample", "report"), "done"
    )
    assert shown["train"]["run"]["step"] == shown["train"]["run"]["total"] == 20
    assert '"world_size": 2' in (first / "run" / "ranks" / "rank-00001.json").read_text()
    assert json.loads((first / "evaluation.json").read_text())["quick"]
    assert len(manifest_of(first / "grooves")) == len(list((first / "grooves").rglob("*.mid"))) == 60
    assert (first / "run" / "report.html").exists()


def test_ray(tmp_path):
    with ray_cluster(cpus=2, dashboard=True) as cluster:
        variables = {**cluster.environment, "RAY_API_SERVER_ADDRESS": cluster.ray_jobs}
        run_shell_blocks(CHECKOUT / "docs" / "ray.md", tmp_path, **variables)
        check_pipeline(tmp_path, rows(tmp_path, *tmp_path.glob("submissions/pipeline-*"), **cluster.environment))
    steps = [record["step"] for record in read_lines(tmp_path / "runs" / "on-ray" / "metrics.jsonl")]
    assert max(steps) == 25
    assert len(set(steps)) == len(steps)


def test_slurm(slurm, tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "slurm.md", tmp_path, **slurm.environment)
    shown = rows(tmp_path, *tmp_path.glob("submissions/pipeline-*"), **slurm.environment)
    check_pipeline(tmp_path, shown)
    assert shown["sample"]["elements"] == {"done": 3}
    assert len(manifest_of(tmp_path / "grooves")) == 1000
    assert "#SBATCH --nodes=2" in (tmp_path / "scripts.txt").read_text()
    shown = json.loads((tmp_path / "status.json").read_text())
    assert {row["state"] for row in shown} == {"done"}
    assert "sample 0-2499" in printed, "what was cancelled"
    assert not (tmp_path / "held").exists()
    assert status(tmp_path / "runs" / "on-ray")["state"] == "finished"


def test_sweeps(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "sweeps.md", tmp_path)
    assert "12 trials of up to 180 steps; the best 1/3 are continued after 20, 60 steps" in printed
    assert "0 failed trial(s) are trained again" in printed
    for name, trials in (("mine", 6), ("demo", 12)):
        swept = read_ledger(tmp_path / "sweeps" / name)
        assert len(swept.numbers) == trials
        assert all(trial.state == "finished" for trial in swept.trials.values())
        assert (tmp_path / "sweeps" / name / "report.html").stat().st_size > 10_000
    assert len(list((tmp_path / "grooves" / "winner").rglob("*.mid"))) == 4
