"""What befalls a training on two nodes of a real SLURM: it ends as if undisturbed, and `jobs.status` names the cause."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.submission import read_submission
from tests.cluster.slurm_cluster import SlurmCluster
from tests.support.commands import TINY, ok
from tests.support.harm.small_disk import enlarge, fill, small_disk
from tests.support.processes.process_tree import command_of, processes_with
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, status, train
from tests.support.services.submitted import rows, run_in, submit, verdicts, wait_for

pytestmark = [pytest.mark.slow, only_in_a_soak]
STEPS, DISTURBED_AT = 600, 100
SETTINGS = (*TINY, "train.checkpoint_every=50", "resources.hang_seconds=8", f"train.steps={STEPS}")


@dataclass(frozen=True, slots=True)
class Job:
    """A training under way."""

    slurm: SlurmCluster
    submission: Path
    number: str
    run: Path

    def process(self, words: str) -> int:
        """The first process of the second node whose command line has some words."""
        pids = [pid for pid in processes_with("SLURMD_NODENAME=node2\0") if words in command_of(pid)]
        return min(pids)

    def scontrol(self, *words: str) -> None:
        self.slurm.client("scontrol", *words)

    def waits_for_steps(self, more: int) -> None:
        """Until the run is at work and some steps further."""
        step = status(self.run).get("step", 0)
        wait_for(lambda: status(self.run).get("step", 0) >= step + more, self.submission)


def preempt(job: Job) -> None:
    job.slurm.client("sbatch", "--partition=urgent", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")


def requeue(job: Job) -> None:
    job.scontrol("requeue", job.number)


def node_down(job: Job) -> None:
    job.scontrol("update", "nodename=node2", "state=down", "reason=test")
    wait_for(lambda: job.slurm.job_state(job.number) != "RUNNING", job.submission)
    time.sleep(5)
    if "DOWN" in job.slurm.client("sinfo", "--noheader", "--nodes=node2", "--format=%T").upper():
        job.scontrol("update", "nodename=node2", "state=resume")


def node_lost(job: Job) -> None:
    job.slurm.lose_node("node2")
    wait_for(lambda: job.slurm.job_state(job.number) != "RUNNING", job.submission)
    job.slurm.start_node("node2")


def scancel_step(job: Job) -> None:
    job.slurm.client("scancel", f"{job.number}.0")


def scancel_batch(job: Job) -> None:
    job.slurm.client("scancel", job.number)


def limit_without_notice(job: Job) -> None:
    """The job has run for longer already."""
    wait_for(
        lambda: job.slurm.client("squeue", "--noheader", "--format=%M", f"--jobs={job.number}") > "1:", job.submission
    )
    job.scontrol("update", f"jobid={job.number}", "timelimit=1")


def notice_of_the_limit(job: Job) -> None:
    job.slurm.client("scancel", "--signal=USR2", "--batch", job.number)


def controller_restart(job: Job) -> None:
    job.slurm.stop_controller()
    job.waits_for_steps(50)
    job.slurm.start_controller()


def full_disk(job: Job) -> None:
    fill(job.run.parent)


def kill_agent(job: Job) -> None:
    os.kill(job.process("jobs.training.torchrun_agent"), signal.SIGKILL)


def kill_rank(job: Job) -> None:
    os.kill(max(_ranks(job)), signal.SIGKILL)


def kill_launcher(job: Job) -> None:
    os.kill(job.process("jobs.train --ranks"), signal.SIGKILL)


def stop_rank(job: Job) -> None:
    os.kill(max(_ranks(job)), signal.SIGSTOP)


def suspend(job: Job) -> None:
    job.scontrol("suspend", job.number)
    time.sleep(20)
    job.scontrol("resume", job.number)


def _ranks(job: Job) -> list[int]:
    """The rank of the second node."""
    return [pid for pid in processes_with("SLURMD_NODENAME=node2\0") if b"\0RANK=" in _environ(pid)]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


ALL: dict[str, Callable[[Job], None]] = {
    function.__name__: function
    for function in (
        preempt, requeue, node_down, node_lost, scancel_step, scancel_batch, limit_without_notice, notice_of_the_limit,
        controller_restart, full_disk, kill_agent, kill_rank, kill_launcher, stop_rank, suspend,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(small_shards, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small_shards, run, *SETTINGS, ranks=2)
    return run


@pytest.fixture
def emptied(slurm) -> Iterator[None]:
    """Whatever a test leaves is cancelled."""
    yield
    slurm.client("scancel", "--user=root")
    wait_for(lambda: not slurm.client("squeue", "--noheader"), slurm.folder)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("emptied")
def test_it(slurm, small_shards, undisturbed, tmp_path, name):
    with small_disk(tmp_path / "disk", "200m") as disk:
        run = disk / "run"
        where = ["--on", "slurm", "--nodes", 2, "--cpus-per-node", 2]
        submission = submit(
            tmp_path, "train", *where, "--", "--shards", small_shards, "--run", run, *SETTINGS, **slurm.environment
        )
        (receipt,) = read_submission(submission).receipts()
        number = receipt.number
        job = Job(slurm, submission, number, run)
        wait_for(lambda: status(run).get("step", 0) >= DISTURBED_AT, submission)
        began = time.monotonic()
        ALL[name](job)
        seen = []
        while time.monotonic() - began < 200:
            row = rows(tmp_path, submission, **slurm.environment)["train"]
            now = (row["state"], row["why"], slurm.job_state(number), verdicts(submission, "train"), row["restarts"])
            if not seen or seen[-1] != now:
                seen.append(now)
            if now[0] in ("done", "failed", "cancelled", "lost"):
                break
            time.sleep(1)
        text = ok(run_in(tmp_path, "status", submission, **slurm.environment)).stdout
        print(f"@@@ {name} {time.monotonic() - began:.0f}s")
        for s in seen:
            print("   ", s)
        print(text)
        print(
            "LOG",
            "\n".join(
                l
                for l in [*submission.glob("logs/train-*.log")][0].read_text().splitlines()
                if not l.startswith("step ")
            )[-1800:],
        )
        if now[0] != "done":
            enlarge(disk, "400m")
            (disk / "filler").unlink(missing_ok=True)
            print(ok(run_in(tmp_path, "retry", "--failed", "--cancelled", **slurm.environment)).stdout)
            wait_for(lambda: verdicts(submission, "train")[-1:] == ["done"], submission)
        assert_same_state(undisturbed, run, STEPS)
        print("SAME")
