"""`jobs.submit --on slurm --ray` on a real SLURM of two virtual nodes: Ray begins and ends with the job."""

import json
from pathlib import Path

import pytest

from musicvae.durable import read_lines
from tests.cluster.slurm_cluster import SlurmCluster
from tests.support.commands import TINY, ok, run_job
from tests.support.processes.process_tree import processes_with
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, train
from tests.support.services.submitted import attempts, rows, submit, verdicts, wait_for

pytestmark = pytest.mark.slow
ON_TWO_NODES = ("--on", "slurm", "--ray", "--nodes", 2, "--cpus-per-node", 1)
STEPS = 400


def number_of(submission: Path) -> str:
    """SLURM's number of a submission of one job."""
    return json.loads((submission / "receipts.jsonl").read_text().splitlines()[-1])["number"]


def check_torn_down(slurm: SlurmCluster, submission: Path) -> None:
    """Neither a process nor a token nor a folder of Ray's is left."""
    wait_for(lambda: not slurm.client("squeue", "--noheader", "--states=RUNNING,COMPLETING"), submission)
    assert processes_with(f"SLURM_JOB_ID={number_of(submission)}\0") == []
    assert list(submission.glob("ray-token*")) == []
    assert list(Path("/tmp").glob(f"ray-{number_of(submission)}-*")) == []


@only_in_a_soak
def test_a_training_that_is_told_to_leave_comes_again_with_a_ray_of_its_own(slurm, small_shards, tmp_path):
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    settings = (*TINY, "train.checkpoint_every=100000", f"train.steps={STEPS}")
    arguments = ["--shards", small_shards, "--run", run, *settings]
    submission = submit(tmp_path, "train", *ON_TWO_NODES, "--", *arguments, **slurm.environment)
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 50, submission)
    slurm.client("scancel", "--signal=USR2", "--batch", number_of(submission))
    wait_for(lambda: verdicts(submission, "train")[-1:] == ["done"], submission)
    assert verdicts(submission, "train") == ["again", "done"]
    starts = [event for event in attempts(submission, "train") if event["event"] == "start"]
    assert starts[-1]["step"] >= 50
    assert len(list((submission / "logs").glob("ray-train-*-[01].log"))) == 2
    check_torn_down(slurm, submission)
    train(small_shards, undisturbed, *settings, ranks=2)
    assert_same_state(undisturbed, run, STEPS)


@only_in_a_soak
def test_cancel_leaves_no_process(slurm, small_shards, tmp_path):
    run = tmp_path / "run"
    arguments = ["--shards", small_shards, "--run", run, *TINY, "train.steps=1000000"]
    submission = submit(tmp_path, "train", *ON_TWO_NODES, "--", *arguments, **slurm.environment)
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 5, submission)
    ok(run_job("cancel", submission, **slurm.environment))
    wait_for(lambda: rows(tmp_path, submission, **slurm.environment)["train"]["state"] == "cancelled", submission)
    wait_for(lambda: not slurm.client("squeue", "--noheader", "--states=RUNNING,COMPLETING"), submission)
    assert processes_with(f"SLURM_JOB_ID={number_of(submission)}\0") == []
