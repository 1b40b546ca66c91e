"""`jobs.submit --on local` and what follows it: status, logs, retry, clean; the same records as on any target."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from cluster.local import descendants
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command, ok
from tests.support.processes.process_tree import command_of
from tests.support.processes.running_job import running_job
from tests.support.runs.sample_fixtures import manifest_of
from tests.support.runs.tiny_run import status
from tests.support.services.submitted import attempts, rows, run_in, submit, verdicts, wait_for


@pytest.mark.slow
def test_a_sampling_in_shares(sample_run, tmp_path):
    arguments = ["--feel", "mean", "--run", sample_run, "--count", 40, "--out", "my grooves"]
    submission = submit(tmp_path, "sample", "--array", 2, "--", *arguments)
    assert len(manifest_of(tmp_path / "my grooves")) == 40
    assert [verdicts(submission, "sample", element) for element in (0, 1)] == [["done"], ["done"]]
    assert rows(tmp_path)["sample"]["elements"] == {"done": 2}
    again = run_in(tmp_path, "submit", "sample", "--array", 2, "--", *arguments)
    assert again.returncode == 0
    assert "all jobs are done" in again.stderr
    ok(run_in(tmp_path, "submit", "sample", "--array", 2, "--again", "--", *arguments))
    assert verdicts(submission, "sample") == ["done"]
    assert len(list(submission.glob("logs/*_0.log"))) == 2
    assert "Nothing is left to do" in ok(run_in(tmp_path, "logs", submission)).stdout

    assert "would remove" in ok(run_in(tmp_path, "clean")).stdout
    assert submission.exists()
    ok(run_in(tmp_path, "clean", "--yes"))
    assert not submission.exists()
    assert (tmp_path / "my grooves" / "manifest.jsonl").exists()


@pytest.mark.slow
def test_the_code_of_a_submission_is_that_of_its_time(sample_run, tmp_path):
    before = _head()
    submission = submit(tmp_path, "sample", "--", "--feel", "mean", "--run", sample_run, "--count", 4, "--out", "out")
    about = json.loads((submission / "code" / "snapshot.json").read_text())
    assert about["commit"] in (before, _head()), "somebody may commit while this runs"
    broken = submission / "code" / "jobs" / "sample.py"
    broken.write_text("raise RuntimeError('the code of the submission')\n")
    (submission / "attempts" / "sample-000000.jsonl").unlink()
    retried = run_in(tmp_path, "retry", "--failed")
    assert retried.returncode == 1
    assert "the code of the submission" in retried.stdout
    shown = ok(run_in(tmp_path, "status")).stdout
    assert "failed: code: RuntimeError: the code of the submission" in shown
    ok(run_in(tmp_path, "submit", "sample", "--", "--feel", "mean", "--run", sample_run, "--count", 4, "--out", "out"))
    assert "RuntimeError" not in broken.read_text()


def _head() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_files_are_the_users_own(sample_run, tmp_path):
    command = job_command("submit", "sample", "--", "--run", str(sample_run), "--count", 4, "--out", "out")
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(CHECKOUT)}
    subprocess.run(command, cwd=tmp_path, env=environment, umask=0o077, check=True, capture_output=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["train", "--", "--shards", "s3://key:secret@bucket/x", "--run", "r"],
            "an argument contains a secret: s3://...",
        ),
        (["train", "--env", "WANDB_API_KEY=abc", "--", "--run", "r"], "WANDB_API_KEY in --env looks like a secret"),
        (["train", "--", "--shards", "s"], "a training needs --run"),
        (["train", "--nodes", "2", "--", "--run", "r"], "--on local has one node"),
        (
            ["train", "--on", "slurm", "--", "--run", "r", "--ranks", "2"],
            "--ranks cannot be an argument of a submitted",
        ),
        (["sample", "--", "--shard", "0/2"], "--shard cannot be an argument of a submitted sampling"),
        (["evaluate", "--array", "3", "--", "--shards", "s"], "evaluate cannot be an array"),
        (["train", "--on", "moon", "--", "--run", "r"], "there is no target 'moon'"),
        (["train", "--site", "nowhere", "--", "--run", "r"], "there is no site nowhere"),
        (["train", "--time", "soon", "--", "--run", "r"], "--time soon is not a time limit"),
        (["train", "--time=-1", "--", "--run", "r"], "--time -1 is not a time limit"),
        (["train", "--time", "1:2:3:4", "--", "--run", "r"], "--time 1:2:3:4 is not a time limit"),
        (["train", "--on", "slurm", "--time", "2", "--", "--run", "r"], "120 s, of which 0 are left"),
        (["train", "--partition", "gpu", "--", "--run", "r"], "--on local has no partition"),
        (["train", "--mem", "64", "--", "--run", "r"], "--mem 64G for gigabytes, --mem 64M for megabytes"),
        (["sample", "--array", "0", "--", "--out", "o"], "--array 0 cannot be used"),
        (
            ["pipeline", "--", "--out", "o"],
            "the arguments of a pipeline cannot be used: the following arguments are",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, arguments, told):
    refused = run_in(tmp_path, "submit", *arguments)
    assert refused.returncode == 2, refused.stderr
    assert told in refused.stderr
    assert not list(tmp_path.iterdir())


def test_without_slurm_a_dry_run_shows_all_and_a_submission_says_what_is_missing(tmp_path):
    wish = ["train", "--on", "slurm", "--nodes", "2", "--time", "8:00", "--gpus-per-node", 4, "--yes"]
    wish += ["--partition", "gpu", "--exclude", "n[1-2]", "--sbatch=--nice=5", "--after", "17"]
    arguments = ["--", "--shards", "my shards", "--run", "run"]
    bare = {"PATH": ""}
    planned = ok(run_in(tmp_path, "submit", *wish, "--dry-run", *arguments, **bare))
    shown = planned.stdout
    assert "8:00 hours are --time 8:00:00" in planned.stderr
    assert not list(tmp_path.iterdir())
    refused = run_in(tmp_path, "submit", *wish, *arguments, PATH=_path_without_slurm(tmp_path))
    assert refused.returncode == 2
    assert "sbatch was not found" in refused.stderr
    (submission,) = tmp_path.glob("submissions/[!.]*")
    script = (submission / "train.sbatch").read_text()
    after = "--dependency=afterok:17 --kill-on-invalid-dep=yes"
    assert shown == f"# sbatch --parsable {after} {submission}/train.sbatch\n{script}"
    asked = ("--partition=gpu", '--exclude="n[1-2]"', "--nice=5")
    assert all(f"#SBATCH {option}\n" in script for option in asked)
    assert "4 GPUs on each node, and no number of CPUs" in planned.stderr


def _path_without_slurm(folder: Path) -> str:
    """A PATH with git alone."""
    tools = folder / "tools"
    tools.mkdir()
    git = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True).stdout.strip()
    (tools / "git").symlink_to(git)
    return str(tools)


@pytest.mark.slow
def test_ctrl_c_ends_all_children_and_the_same_command_goes_on(small_shards, tmp_path):
    arguments = ["--shards", small_shards, "--run", "run", *TINY, "train.steps=800"]
    command = ["train", "--ranks-per-node", 2, "--", *arguments]
    with running_job("submit", *command, folder=tmp_path) as process:
        wait_for(lambda: status(tmp_path / "run").get("step", 0) > 20, tmp_path)
        (submission,) = tmp_path.glob("submissions/[!.]*")
        assert rows(tmp_path)["train"]["state"] == "running"
        children = descendants(process.pid)
        assert len(children) >= 4
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=180)
    assert process.returncode == 130
    wait_for(lambda: not any("jobs.train" in command_of(child) for child in children), tmp_path)
    stopped = status(tmp_path / "run")
    assert (stopped["state"], verdicts(submission, "train")) == ("interrupted", ["failed"])
    assert 20 < stopped["step"] < 800
    assert "failed: interrupted" in ok(run_in(tmp_path, "status", "submissions")).stdout

    ok(run_in(tmp_path, "submit", *command))
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["step"]) == ("finished", 800)
    assert verdicts(submission, "train") == ["failed", "done"]
    assert [event["step"] for event in attempts(submission, "train") if event["event"] == "start"] == [
        0,
        stopped["step"],
    ]


@pytest.mark.slow
def test_cancel_from_another_terminal(small_shards, tmp_path):
    arguments = ["train", "--ranks-per-node", 1, "--", "--shards", small_shards, "--run", "run", *TINY]
    with running_job("submit", *arguments, "train.steps=100000", folder=tmp_path) as process:
        wait_for(lambda: status(tmp_path / "run").get("step", 0) > 20, tmp_path)
        assert "train" in ok(run_in(tmp_path, "cancel", "run")).stdout
        process.wait(timeout=180)
    assert rows(tmp_path)["train"]["state"] == "cancelled"
    assert status(tmp_path / "run")["state"] == "preempted"
    assert ok(run_in(tmp_path, "retry", "--failed")).stdout == "no job has failed\n"
    assert "nothing waited or ran" in ok(run_in(tmp_path, "cancel", "run")).stdout
