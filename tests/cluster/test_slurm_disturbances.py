"""What befalls a training on two nodes of SLURM: it ends as if undisturbed, and `jobs.status` names the cause."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.attempts import TOO_SHORT
from cluster.submission import read_submission
from tests.cluster.slurm_cluster import SlurmCluster
from tests.support.commands import TINY, ok
from tests.support.harm.small_disk import enlarge, fill, small_disk
from tests.support.processes.process_tree import command_of
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, status, train
from tests.support.services.submitted import rows, run_in, submit, verdicts, wait_for

pytestmark = [pytest.mark.slow, only_in_a_soak]
STEPS, DISTURBED_AT = 600, 100
SETTINGS = (*TINY, "train.checkpoint_every=50", "resources.hang_seconds=8")
WHERE = ("--on", "slurm", "--nodes", 2, "--cpus-per-node", 2)


@dataclass(frozen=True, slots=True)
class Job:
    """A training under way."""

    slurm: SlurmCluster
    submission: Path
    number: str
    run: Path

    def scontrol(self, *words: str) -> None:
        self.slurm.client("scontrol", *words)

    def on_second_node(self, program: str, words: str = "") -> int:
        """The first process there of a program whose command line holds some words."""
        commands = {pid: command_of(pid) for pid in self.slurm.processes("node2")}
        return min(pid for pid, line in commands.items() if program in line.split(" ")[0] and words in line)

    @property
    def second_rank(self) -> int:
        return json.loads((self.run / "ranks" / "rank-00001.json").read_text())["pid"]

    def reaches(self, step: int) -> None:
        wait_for(lambda: status(self.run).get("step", 0) >= step, self.submission)

    def leaves_the_nodes(self) -> None:
        wait_for(lambda: self.slurm.job_state(self.number) != "RUNNING", self.submission)


def preempted(job: Job) -> None:
    job.slurm.client("sbatch", "--partition=urgent", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")


def requeued(job: Job) -> None:
    job.scontrol("requeue", job.number)


def node_down(job: Job) -> None:
    job.scontrol("update", "nodename=node2", "state=down", "reason=test")
    job.leaves_the_nodes()
    time.sleep(5)
    if "DOWN" in job.slurm.client("sinfo", "--noheader", "--nodes=node2", "--format=%T").upper():
        job.scontrol("update", "nodename=node2", "state=resume")


def node_lost(job: Job) -> None:
    job.slurm.lose_node("node2")
    job.leaves_the_nodes()
    job.slurm.start_node("node2")


def step_cancelled(job: Job) -> None:
    job.slurm.client("scancel", f"{job.number}.0")


def cancelled(job: Job) -> None:
    job.slurm.client("scancel", job.number)


def notice(job: Job) -> None:
    job.slurm.client("scancel", "--signal=USR2", "--batch", job.number)


def controller_restarted(job: Job) -> None:
    job.slurm.stop_controller()
    job.reaches(DISTURBED_AT + 50)
    job.slurm.start_controller()


def disk_full(job: Job) -> None:
    fill(job.run.parent)


def agent_killed(job: Job) -> None:
    os.kill(job.on_second_node("python", "-m jobs.training.torchrun_agent"), signal.SIGKILL)


def rank_killed(job: Job) -> None:
    os.kill(job.second_rank, signal.SIGKILL)


def launcher_killed(job: Job) -> None:
    os.kill(job.on_second_node("python", "-m jobs.train --ranks"), signal.SIGKILL)


def rank_stopped(job: Job) -> None:
    os.kill(job.second_rank, signal.SIGSTOP)


def suspended(job: Job) -> None:
    job.scontrol("suspend", job.number)
    time.sleep(20)
    job.scontrol("resume", job.number)


def task_killed(job: Job) -> None:
    """What srun has started on the second node, at once with what it runs."""
    os.kill(job.on_second_node("bash", "jobs.train --ranks"), signal.SIGKILL)


SIGNAL, LOST = "restarted after: signal from SLURM", "restarted after: lost process"
DISTURBANCES: dict[Callable[[Job], None], tuple[str, str]] = {
    preempted: ("done", "restarted after: preemption"),
    requeued: ("done", "restarted after: job requeue"),
    node_down: ("done", "restarted after: node failure"),
    node_lost: ("done", LOST),
    step_cancelled: ("done", LOST),
    cancelled: ("cancelled", ""),
    notice: ("done", SIGNAL),
    controller_restarted: ("done", ""),
    disk_full: ("failed", "failed: disk: "),
    agent_killed: ("done", LOST),
    rank_killed: ("done", ""),
    launcher_killed: ("done", LOST),
    task_killed: ("done", LOST),
    rank_stopped: ("done", ""),
    suspended: ("done", ""),
}
"""What `jobs.status` says when it is over: the state, and the cause; the launcher tells of what it cures by itself."""
TOLD_BY_LAUNCHER = {rank_killed: "killed: ", rank_stopped: "hang: "}


@pytest.fixture(scope="module")
def undisturbed(small_shards, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small_shards, run, *SETTINGS, f"train.steps={STEPS}", ranks=2)
    return run


@pytest.fixture
def emptied(slurm) -> Iterator[None]:
    """Whatever a test leaves is cancelled."""
    yield
    slurm.client("scancel", "--user=root")
    wait_for(lambda: not slurm.client("squeue", "--noheader"), slurm.folder)


def started(slurm: SlurmCluster, folder: Path, *words: object) -> Job:
    """A training of two nodes that has come so far that it can be disturbed; its run is in the folder `disk`."""
    run = folder / "disk" / "run"
    submission = submit(folder, "train", *WHERE, *words, "--run", run, *SETTINGS, **slurm.environment)
    (receipt,) = read_submission(submission).receipts()
    job = Job(slurm, submission, receipt.number, run)
    job.reaches(DISTURBED_AT)
    return job


def row_of(job: Job) -> dict[str, Any]:
    return rows(job.submission, job.submission, **job.slurm.environment)["train"]


@pytest.mark.usefixtures("emptied")
@pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda disturb: disturb.__name__)
def test_a_disturbed_training_ends_as_if_undisturbed(slurm, small_shards, undisturbed, tmp_path, disturb):
    state, cause = DISTURBANCES[disturb]
    with small_disk(tmp_path / "disk", "200m") as disk:
        job = started(slurm, tmp_path, "--", "--shards", small_shards, f"train.steps={STEPS}")
        disturb(job)
        wait_for(lambda: row_of(job)["state"] in ("done", "failed", "cancelled", "lost"), job.submission)
        shown = ok(run_in(tmp_path, "status", job.submission, **slurm.environment)).stdout
        assert row_of(job)["state"] == state, shown
        assert cause in shown
        assert bool(cause) == ("restarted" in shown or "failed" in shown), shown
        (log,) = job.submission.glob("logs/train-*.log")
        assert TOLD_BY_LAUNCHER.get(disturb, "") in log.read_text()
        if state != "done":
            enlarge(disk, "400m")
            ok(run_in(tmp_path, "retry", "--failed", "--cancelled", job.submission, **slurm.environment))
            wait_for(lambda: verdicts(job.submission, "train")[-1:] == ["done"], job.submission)
        assert_same_state(undisturbed, job.run, STEPS)


@pytest.mark.usefixtures("emptied")
def test_a_limit_of_time_without_notice_is_named(slurm, small_shards, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("sbatch: [--signal=B:CONT@1]\n")
    job = started(slurm, tmp_path, "--site", site, "--", "--shards", small_shards, "train.steps=100000")
    job.scontrol("update", f"jobid={job.number}", "timelimit=1")
    wait_for(lambda: row_of(job)["state"] == "failed", job.submission)
    assert "failed: time limit: " in ok(run_in(tmp_path, "status", job.submission, **slurm.environment)).stdout
    steps = status(job.run)["step"] + 20
    for run in (job.run, tmp_path / "undisturbed"):
        train(small_shards, run, *SETTINGS, f"train.steps={steps}", ranks=2)
    assert_same_state(tmp_path / "undisturbed", job.run, steps)


@pytest.mark.usefixtures("emptied")
def test_a_limit_of_time_that_is_too_short_for_a_start_is_named(slurm, small_shards, tmp_path):
    """The command, as its container or a slow file system would make it, has not begun when it is told to stop."""
    slow, site = tmp_path / "slow-python", tmp_path / "site.yaml"
    slow.write_text(f'#!/bin/sh\nsleep 300\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    site.write_text(f"python: {slow}\nsrun: [--cpu-bind=none]\nnotice_seconds: 10\n")
    words = ("--site", site, "--time", "1", "--retries", "1", "--", "--shards", small_shards, "--run", tmp_path / "run")
    submission = submit(tmp_path, "train", *WHERE, *words, *SETTINGS, **slurm.environment)
    train_row = partial(rows, submission, submission, **slurm.environment)
    wait_for(lambda: train_row()["train"]["state"] == "failed", submission)
    assert f"restarted after: {TOO_SHORT}" in train_row()["train"]["why"]
    shown = ok(run_in(tmp_path, "status", submission, **slurm.environment)).stdout
    assert f"failed: time limit: {TOO_SHORT}" in shown
    assert "use a longer --time" in shown
