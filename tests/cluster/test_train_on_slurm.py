"""`docs/train.sbatch` on a real SLURM of two virtual nodes: trains, is preempted, requeues itself, goes on."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from musicvae.durable import read_lines
from tests.cluster.slurm_cluster import SlurmCluster
from tests.support.commands import CHECKOUT, ok, run_job

pytestmark = pytest.mark.slow
TINY = ["model.latent=8", "model.encoder_hidden=16", "model.conductor_hidden=16", "model.decoder_hidden=16"]
SETTINGS = [*TINY, "data.lanes=8", "train.global_batch=16", "train.log_every=1", "train.checkpoint_every=100000"]
SETTINGS += ["train.evaluate_every=100000", "resources.threads=1"]


def submit(slurm: SlurmCluster, log: Path, *arguments: object) -> str:
    """Submits the script for both nodes and gives the job's number."""
    options = [
        "--parsable",
        "-N2",
        "--cpus-per-task=2",
        f"--chdir={CHECKOUT}",
        f"--output={log}",
        f"--export=ALL,PYTHON={sys.executable}",
    ]
    return slurm.client("sbatch", *options, CHECKOUT / "docs" / "train.sbatch", *arguments)


def wait_for(condition: Callable[[], bool], log: Path, seconds: float = 180) -> None:
    """Waits until a condition holds; shows the job's log if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8") if log.exists() else "no log"
        time.sleep(0.2)


def status(run: Path) -> dict:
    path = run / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_two_nodes_train_what_one_process_trains_through_a_preemption(slurm, small_shards, tmp_path):
    run, log = tmp_path / "run", tmp_path / "job.log"
    arguments = ["--shards", small_shards, "--run", run, *SETTINGS, "train.steps=500"]
    job = submit(slurm, log, *arguments)
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 20, log)
    slurm.client("scancel", "--signal=USR2", "--batch", job)
    wait_for(lambda: status(run).get("state") == "preempted", log)
    stopped_at = status(run)["step"]
    wait_for(lambda: status(run).get("state") == "finished", log)
    wait_for(lambda: slurm.job_state(job) == "COMPLETED", log)

    assert "preempted: requeued" in log.read_text()
    assert f"resumed from step {stopped_at}" in log.read_text()
    assert status(run)["restarts"] == 1
    for rank in (0, 1):
        assert "CPUs 0-1; SLURM gave 2 CPU(s)\n" in (run / "logs" / f"rank-0000{rank}.log").read_text()
    records = read_lines(run / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 501))

    alone = tmp_path / "alone"
    ok(run_job("train", "--shards", small_shards, "--run", alone, *SETTINGS, "train.steps=25"))
    losses = [record["loss"] for record in read_lines(alone / "metrics.jsonl")]
    assert [record["loss"] for record in records[:25]] == pytest.approx(losses, rel=1e-5)


def test_a_job_that_cannot_work_is_not_requeued(slurm, small_shards, tmp_path):
    log = tmp_path / "job.log"
    job = submit(slurm, log, "--shards", small_shards, "--run", tmp_path / "run", "train.step=3")
    wait_for(lambda: slurm.job_state(job) == "FAILED", log)
    assert "unknown setting train.step (did you mean train.steps?)" in log.read_text()
    assert not (tmp_path / "run").exists()
