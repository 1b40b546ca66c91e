"""What ended a job, from SLURM's word for it, its exit status, and what it said; the real failures are elsewhere."""

import json
import sys
import time

import pytest

from cluster.attempts import begin, finish
from cluster.job import Job, SchedulerState
from cluster.local import run_here
from cluster.site import Site
from cluster.status import statuses_from
from cluster.submission import Submission
from jobs.submission.failures import CURES, failures_of
from jobs.submission.run_view import read_run_view
from musicvae.training.rank_records import RankError, RankRecord, RankRecords

TRACEBACK = "Traceback (most recent call last):\n  File 'a.py', line 3, in f\n    g()\nKeyError: 'no such drum'\n"
REFUSAL = "loading\nerror: unknown setting train.step (did you mean train.steps?)\n  do        correct it\n"


@pytest.fixture
def submission(tmp_path):
    job = Job("train", (sys.executable, "-c", "raise SystemExit(75)"), retries=1)
    made = Submission(tmp_path / "s", "slurm", tmp_path, Site(), (job,))
    made.write_plan()
    return made


def summary(submission, *, state=None, code=None, asked=False, log="", run=None):
    """The summary of a job that was taken as number 7, ended as told, and said something."""
    (job,) = submission.jobs
    submission.take_receipt(job, "7", [0])
    begin(submission.folder, job, 0, launch_id="7", restart=0, pid=1)
    if code is not None:
        finish(submission.folder, job, 0, code=code, asked=asked)
    (submission.logs / "train-7.log").write_text(log)
    told = {("7", 0): SchedulerState(state, "None")} if state else {}
    view = run and read_run_view(run)
    (found,) = failures_of(submission, tuple(statuses_from(submission, told)), view)
    return found


def test_the_ranks_of_another_launch_say_nothing_of_this_one(submission, tmp_path):
    """Another submission trains in the run, whose killed rank may be anybody's; this one was refused."""
    run = tmp_path / "run"
    (run / "ranks").mkdir(parents=True)
    (run / "status.json").write_text(json.dumps({"state": "running", "step": 40, "launch": "6.0"}))
    RankRecords(run / "ranks").write(
        RankRecord(0, 1, "node3", 1, 40, "training", "6.0", 0, time.time(), 9, False, False)
    )
    used = "error: run is in use by process 1 on node3\n  do        wait for it\n"
    refused = summary(submission, code=2, log=used, run=run)
    assert (refused.category, refused.cause.splitlines()[0]) == ("in use", "run is in use by process 1 on node3")
    place = (1, 2, "node4", 2, 7, "training", "7.0", 0, 1.0)
    RankRecords(run / "ranks").write_error(RankError(*place, "data", "a shard is damaged", "", False, None))
    damaged = summary(submission, code=3, log=used, run=run)
    assert (damaged.category, damaged.cause) == ("data", "a shard is damaged"), "of its own launch"


@pytest.mark.parametrize(
    ("state", "category"),
    [
        ("OUT_OF_MEMORY", "out of memory"),
        ("TIMEOUT", "time limit"),
        ("DEADLINE", "time limit"),
        ("NODE_FAIL", "node"),
        ("BOOT_FAIL", "node"),
        ("PREEMPTED", "preempted"),
    ],
)
def test_what_slurm_says(submission, state, category):
    found = summary(submission, state=state, log="step 3\n")
    assert found.category == category
    assert found.do == CURES[category].replace("SUBMISSION", str(submission.folder))


@pytest.mark.parametrize(
    ("code", "log", "category", "cause"),
    [
        (2, REFUSAL, "configuration", "unknown setting train.step"),
        (3, "error: train-000001.tar is damaged\n", "data", "train-000001.tar is damaged"),
        (4, "", "diverged", "exit status 4"),
        (130, "", "interrupted", "exit status 130"),
        (1, TRACEBACK, "code", "KeyError: 'no such drum'"),
        (1, TRACEBACK.replace("KeyError", "MemoryError"), "out of memory", "MemoryError"),
        (1, "OSError: [Errno 28] No space left on device\n", "disk", ""),
        (137, "step 3\nKilled\n", "node", ""),
        (1, "error: the setup of the site failed: module load cuda/99\n", "setup", "module load cuda/99"),
        (1, "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0.\n", "out of memory", ""),
    ],
)
def test_what_it_says_itself(submission, code, log, category, cause):
    found = summary(submission, code=code, log=log)
    assert found.category == category
    assert cause in found.cause
    assert f"exit status {code}" in found.where


def test_ranks_that_cannot_write_down_why_they_failed_have_filled_the_disk(submission, tmp_path):
    run = tmp_path / "run"
    (run / "ranks").mkdir(parents=True)
    (run / "status.json").write_text(json.dumps({"state": "running", "step": 40, "launch": "7.0"}))
    silent = RankRecord(0, 1, "node3", 1, 40, "training", "7.0", 0, time.time(), 9, False, False)
    RankRecords(run / "ranks").write(silent)
    full = "error: run cannot be written to\n  found     No space left on device\n"
    summed = summary(submission, code=1, log=full, run=run)
    assert (summed.category, summed.cause.splitlines()[0]) == ("disk", "run cannot be written to")
    assert summed.do == CURES["disk"]


def test_a_node_that_ended_before_the_others_had_met_it_is_named(submission):
    gone = "node7 ended with status 137 before all nodes had met\n"
    killed = summary(submission, code=137, log=f"waiting\n{gone}")
    assert (killed.where, killed.cause) == ("node7, exit status 137", "node7 ended before all nodes had met")
    refused = summary(submission, code=3, log="error: train-000001.tar is damaged\n" + gone.replace("137", "3"))
    assert (refused.where, refused.cause) == ("node7, exit status 3", "train-000001.tar is damaged")


@pytest.mark.parametrize(
    ("log", "category"),
    [
        (
            "slurmstepd: error: *** JOB 7 ON node1 CANCELLED AT 2027-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
            "time limit",
        ),
        ("slurmstepd: error: *** JOB 7 ON node1 CANCELLED AT 2027-01-01T00:00:00 DUE TO NODE FAILURE ***\n", "node"),
        ("step 3\n", "node"),
    ],
)
def test_what_is_left_when_slurm_has_forgotten_it(submission, log, category):
    assert summary(submission, log=log).category == category


def test_one_that_saved_again_and_again_without_getting_further_was_preempted(submission):
    (job,) = submission.jobs
    here = Submission(submission.folder, "local", submission.working_folder, Site(), (job,))
    here.take_receipt(job, "7", [0])
    assert run_here(here, {"train": [0]}, "7", lambda line: None) == 75
    (found,) = failures_of(here, tuple(statuses_from(here, None)), None)
    assert found.category == "preempted"
    assert len(here.attempts(job, 0)) == 2


def test_the_summary_is_one_screen(submission):
    text = str(summary(submission, code=1, log="x\n" * 500 + TRACEBACK * 30))
    assert len(text.splitlines()) <= 24
    assert text.splitlines()[0] == "train of s failed: code: KeyError: 'no such drum'"
