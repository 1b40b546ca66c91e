"""What a launch makes of ranks that are killed, stuck, broken or at odds: exit status, message, and what goes on."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.training.torchrun import NAMED_SECONDS
from musicvae.durable import read_lines
from tests.support.commands import CHECKOUT, HANG_SECONDS, TINY, job_command, run_job
from tests.support.harm.interposed import harm_at_step, interposed
from tests.support.processes.process_tree import descendants, hosts_listened_on, kill_tree
from tests.support.processes.running_training import RunningTraining, running_training
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, losses, train

pytestmark = pytest.mark.slow
STEPS = 25


@pytest.fixture(scope="module")
def undisturbed(small_shards, tmp_path_factory):
    """The run of two ranks that nothing happened to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with running_training(small_shards, run, "--ranks", 2, f"train.steps={STEPS}") as training:
        code, said = training.ended()
    assert code == 0, said
    return run


def assert_equals_undisturbed(training: RunningTraining, undisturbed) -> None:
    records = read_lines(training.run / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, STEPS + 1)), "every step stands once"
    assert [record["loss"] for record in records] == [r["loss"] for r in read_lines(undisturbed / "metrics.jsonl")]
    assert_same_state(undisturbed, training.run, STEPS)
    assert training.status()["state"] == "finished"


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "killed: ended without a report", id="killed"),
        pytest.param(
            "raise KeyError('no such drum')", "code: KeyError: 'no such drum'", id="error", marks=only_in_a_soak
        ),
        pytest.param("time.sleep(3600)", "hang: no progress for", id="stuck"),
        pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", "sends no heartbeat", id="stopped", marks=only_in_a_soak),
        pytest.param("ctypes.PyDLL(None).sleep(3600)", "sends no heartbeat", id="interpreter held"),
    ],
)
def test_a_rank_that_fails_once_is_named_and_all_go_on_to_the_same_end(small_shards, tmp_path, undisturbed, harm, told):
    environment = interposed(tmp_path / "site", harm_at_step(harm, rank=1, step=13))
    arguments = ["--ranks", 2, f"train.steps={STEPS}", "resources.hang_seconds=6"]
    with running_training(small_shards, tmp_path / "run", *arguments, **environment) as training:
        code, said = training.ended()
        assert code == 0, said
        assert "rank 1 of 2 on" in said
        assert told in said
        assert "all ranks restart from step 10" in said
        assert "Traceback" not in said, "the console is for summaries; the rank's log has it all"
        assert_equals_undisturbed(training, undisturbed)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("harm", "category", "cause"),
    [
        ("os.kill(os.getpid(), signal.SIGSTOP)", "hang", "sends no heartbeat: it is stopped"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "ended without a report"),
        ("raise KeyError('no such drum')", "code", "KeyError: 'no such drum'"),
        ("raise OSError(28, 'No space left on device')", "disk", "No space left on device"),
    ],
)
def test_of_three_ranks_the_one_that_fails_is_named_in_time_with_cause_and_step(
    small_shards, tmp_path, harm, category, cause
):
    environment = interposed(tmp_path / "site", harm_at_step(harm, rank=1, step=13))
    arguments = ["--ranks", 3, "train.steps=100000", f"resources.hang_seconds={HANG_SECONDS}"]
    arguments += ["resources.max_restarts=0"]
    with running_training(small_shards, tmp_path / "run", *arguments, **environment) as training:
        training.wait_until(lambda: training.steps() >= 11)
        began = time.time()
        code, said = training.ended(HANG_SECONDS + 180)
        seconds = time.time() - began
    if category == "hang":  # the stopped rank is killed only after the time that ranks have to save
        (named,) = (line for line in said.splitlines() if line.endswith("; waiting for all ranks to end"))
        assert "rank 1 of 3 on" in named
        assert HANG_SECONDS <= int(re.search(r"step 13: hang: no progress for (\d+) s", named)[1]) < HANG_SECONDS + 30
        records = (tmp_path / "run" / "ranks").glob("*.error.json")
        seconds = max(json.loads(path.read_text())["when"] for path in records) - began + NAMED_SECONDS
    assert seconds < HANG_SECONDS + 30
    assert code == 1, said
    *_, summary = said.partition("error: ")
    assert summary.startswith(f"{category}: rank 1 of 3 failed first, on ")
    assert "at step 13 in phase 'training'" in summary
    assert cause in summary


def test_a_rank_whose_wait_no_death_ends_leaves_once_the_rank_it_waits_for_is_killed(small_shards, tmp_path):
    """Under NCCL, unlike gloo, a wait goes on whoever dies: so does the one at the store here, deaf to signals too."""
    wait = "d._store_based_barrier(0, d._get_default_store(), 'deaf', 3, datetime.timedelta(days=1))"
    deaf = f"import datetime; import torch.distributed.distributed_c10d as d; {wait}"
    kill = "time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)"
    harm = harm_at_step(deaf, rank=0, step=13) + harm_at_step(kill, rank=1, step=13)
    arguments = ["--ranks", 2, f"train.steps={STEPS}", "resources.max_restarts=0"]
    environment = interposed(tmp_path / "site", harm)
    with running_training(small_shards, tmp_path / "run", *arguments, **environment) as training:
        code, said = training.ended()
        assert code == 1, said
        assert "rank 1 of 2 failed first" in said
        survivor = json.loads((training.run / "ranks" / "rank-00000.error.json").read_text())
        assert survivor["secondary"]
        assert survivor["message"].startswith(f"rank 1 on {socket.gethostname()} (process ")
        assert survivor["message"].endswith(" has died, and this rank waited for it")


def test_a_rank_that_fails_again_and_again_ends_the_launch_with_its_cause(small_shards, tmp_path):
    harm = harm_at_step("raise KeyError('no such drum')", rank=1, step=3, attempts=99)
    arguments = ["--ranks", 2, "train.steps=20", "resources.max_restarts=1"]
    with running_training(
        small_shards, tmp_path / "run", *arguments, **interposed(tmp_path / "site", harm)
    ) as training:
        code, said = training.ended()
        assert code == 1, said
        *_, summary = said.partition("error: ")
        assert summary.startswith("code: rank 1 of 2 failed first, on ")
        assert "KeyError: 'no such drum'" in summary
        assert "harmed" in summary, "the last lines of the traceback"
        assert "1 without a new checkpoint after step 0; resources.max_restarts = 1" in summary
        assert "rank-00001.log" in summary
        assert training.status()["state"] == "failed"
        log = (training.run / "logs" / "rank-00001.log").read_text()
        assert log.count("KeyError: 'no such drum'") == 2


@pytest.mark.parametrize(
    ("error", "code", "category"),
    [
        (
            "from musicvae.errors import DataError; raise DataError('train-000001.tar is damaged', do='copy it')",
            3,
            "data",
        ),
        pytest.param("raise MemoryError", 1, "memory", marks=only_in_a_soak),
    ],
    ids=["data", "memory"],
)
def test_what_a_restart_cannot_cure_ends_the_launch_at_once(small_shards, tmp_path, error, code, category):
    environment = interposed(tmp_path / "site", harm_at_step(error, rank=1, step=3, attempts=99))
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.steps=2000", **environment) as training:
        found, said = training.ended()
        assert found == code, said
        assert f"error: {category}: rank 1 of 2 failed first" in said
        assert "start again" not in said
        assert training.record(1)["attempt"] == 0


def test_ranks_that_die_before_their_first_record_are_counted_too(small_shards, tmp_path):
    environment = interposed(tmp_path / "site", 'import os\nif os.environ.get("RANK"):\n    os._exit(9)')
    arguments = ["--ranks", 2, "train.steps=20", "resources.max_restarts=1"]
    with running_training(small_shards, tmp_path / "run", *arguments, **environment) as training:
        code, said = training.ended(60)
        assert code == 1, said
        assert said.count("all ranks restart from step 0") == 1
        assert "ended before it could report why, like all others" in said
        assert "1 without a new checkpoint after step 0; resources.max_restarts = 1" in said
        assert training.status()["state"] == "failed"


def test_ranks_whose_logs_cannot_be_written_train(small_shards, tmp_path):
    train(small_shards, tmp_path / "run", "train.steps=2")
    for rank in (0, 1):
        (tmp_path / "run" / "logs" / f"rank-{rank:05d}.log").mkdir(parents=True)
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.steps=4") as training:
        code, said = training.ended()
    assert code == 0, said
    assert "rank 1 has no log: " in said
    assert len(losses(tmp_path / "run")) == 4


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_training_whose_standard_streams_are_closed_trains(small_shards, tmp_path, ranks):
    run = tmp_path / "run"
    command = job_command("train", "--shards", small_shards, "--run", run, *TINY, "train.steps=4", ranks=ranks)
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    assert subprocess.run(closed, cwd=CHECKOUT, timeout=60).returncode == 0
    assert len(losses(run)) == 4


def test_a_run_that_diverges_ends_with_4_and_is_not_started_again(small_shards, tmp_path):
    arguments = ["--ranks", 2, "train.steps=2000", "optimizer.learning_rate=1e30", "train.clip=1e30"]
    with running_training(small_shards, tmp_path / "run", *arguments) as training:
        code, said = training.ended()
        assert code == 4, said
        assert "error: diverged: rank 0 of 2 failed first" in said
        assert said.count("not finite at step") == 1
        assert "start again" not in said
        assert training.status()["state"] == "diverged"


def test_a_launch_whose_launcher_is_killed_saves_and_leaves(small_shards, tmp_path):
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.steps=100000") as training:
        training.wait_until(lambda: training.steps() >= 5)
        training.process.kill()
        training.process.wait()
        with subprocess.Popen(["sleep", "600"], text=True) as anything:
            waiting = RunningTraining(anything, training.run)
            try:
                waiting.wait_until(lambda: training.status()["state"] == "preempted")
                waiting.wait_until(lambda: training.record(0)["ended"] and training.record(1)["ended"])
            finally:
                anything.kill()
        step = training.status()["step"]
        assert (training.run / "checkpoints" / f"step-{step:08d}").is_dir()


def test_a_killed_agent_is_a_preemption(small_shards, tmp_path):
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.steps=100000") as training:
        training.wait_until(lambda: training.steps() >= 5)
        (agent,) = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(training.process.pid)], capture_output=True, text=True
        ).stdout.split()
        subprocess.run(["kill", "-KILL", agent], check=True)
        code, said = training.ended()
        assert code == 75, said
        assert "run the same command again to resume" in said
        assert training.status()["state"] == "preempted"


def test_a_pause_longer_than_the_watch_is_no_hang(small_shards, tmp_path):
    arguments = ["--ranks", 2, "train.steps=100000", "resources.hang_seconds=8"]
    with running_training(small_shards, tmp_path / "run", *arguments) as training:
        training.wait_until(lambda: training.steps() >= 5)
        training.process.send_signal(signal.SIGTSTP)
        for pid in (training.process.pid, training.record(1)["pid"]):
            training.wait_until(lambda pid=pid: _is_stopped(pid))
        subprocess.run(["sleep", "20"], check=True)
        before = training.steps()
        training.process.send_signal(signal.SIGCONT)
        training.wait_until(lambda: training.steps() >= before + 100)
        training.process.send_signal(signal.SIGUSR2)
        code, said = training.ended()
        assert code == 75, said
        assert "hang:" not in said


def _is_stopped(pid: int) -> bool:
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.startswith("T")


def other_code(folder: Path) -> str:
    """What makes rank 1 import a copy of the code that is not the same."""
    for package in ("musicvae", "jobs", "cluster", "preprocess"):
        shutil.copytree(CHECKOUT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "musicvae" / "loader.py").open("a") as file:
        file.write("# another version\n")
    # The agent's working folder decides which copy a rank imports.
    return f"os.chdir({str(folder)!r})"


def other_device(_: Path) -> str:
    """What makes rank 1 see two GPUs."""
    return "import torch.cuda.nccl; torch.cuda.device_count = lambda: 2; torch.cuda.nccl.version = lambda: (2, 28)"


@pytest.mark.parametrize(
    ("differ", "first", "second"),
    [
        (other_code, "source code (jobs, musicvae, preprocess, cluster): ", "on rank 1 ("),
        (other_device, "device: cpu on rank 0 (", "cuda on rank 1 ("),
    ],
)
def test_a_rank_that_differs_is_refused_and_both_are_named(small_shards, tmp_path, differ, first, second):
    site = f'import os\nif os.environ.get("RANK") == "1":\n    {differ(tmp_path / "other")}\n'
    with running_training(
        small_shards, tmp_path / "run", "--ranks", 2, "train.steps=20", **interposed(tmp_path / "site", site)
    ) as training:
        code, said = training.ended()
        assert code == 2, said
        assert said.count("the ranks have different versions") == 1
        assert first in said
        assert "on rank 0 (" in said
        assert second in said
        assert training.steps() == 0


@pytest.mark.parametrize("ranks", [[], ["--ranks", 2]], ids=["alone", "two ranks"])
def test_a_second_launch_is_refused_before_it_writes_anything(small_shards, tmp_path, ranks):
    with running_training(small_shards, tmp_path / "run", *ranks, "train.steps=100000") as training:
        training.wait_until(lambda: training.steps() >= 5)
        before = {rank: training.record(rank).get("pid") for rank in (0, 1)}
        files = _files_of_the_launch(training)
        second = run_job("train", "--shards", small_shards, "--run", training.run, *TINY, "train.steps=100000", ranks=2)
        assert second.returncode == 2, second.stderr
        assert f"{training.run} is in use" in second.stderr
        assert {rank: training.record(rank).get("pid") for rank in (0, 1)} == before
        assert _files_of_the_launch(training) == files
        training.process.send_signal(signal.SIGUSR2)
        code, said = training.ended()
        assert code == 75, said


def _files_of_the_launch(training: RunningTraining) -> dict[str, bytes]:
    """Stacks and logs, but for rank 0's, which grows."""
    paths = [*training.run.glob("ranks/*.stack"), *training.run.glob("logs/*")]
    return {path.name: path.read_bytes() for path in paths if path.name != "rank-00000.log"}


def test_ranks_of_one_machine_can_be_reached_by_nobody_else(small_shards, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    arguments = ["--ranks", 2, "train.steps=100000"]
    with running_training(small_shards, tmp_path / "run", *arguments, TMPDIR=str(temporary)) as training:
        training.wait_until(lambda: training.steps() >= 3)
        pids = [training.process.pid, *descendants(training.process.pid)]
        assert hosts_listened_on(pids) <= {"127.0.0.1", "::1"}
        (stores,) = temporary.glob("musicvae-ranks-*")
        assert stat.S_IMODE(stores.stat().st_mode) == 0o700, "nobody else reads or sets a key of the ranks' store"
        training.process.send_signal(signal.SIGUSR2)
        code, said = training.ended()
        assert code == 75, said
    assert not [*temporary.glob("musicvae-ranks-*")]


def test_an_error_before_the_ranks_start_is_told_once(small_shards, tmp_path):
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.step=20") as training:
        code, said = training.ended()
    assert code == 2
    assert said.count("error: ") == 1
    assert "unknown setting train.step (did you mean train.steps?)" in said
    assert not (tmp_path / "run").exists()


def test_plain_torchrun_does_not_start_a_preempted_launch_again(small_shards, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "3", "-m", "jobs.train", "--", "--shards", small_shards, "--run", run]
    agent = subprocess.Popen(
        [*map(str, command), *TINY, "train.steps=100000"],
        cwd=CHECKOUT,
        # Without it an attempt that ends while its ranks are joining makes the next one hang (torch 2.13).
        env={**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    training = RunningTraining(agent, run)
    try:
        training.wait_until(lambda: training.steps() >= 5)
        training.kill_rank(0, signal.SIGUSR2)  # the ranks are told, the agent is not
        code, said = training.ended()
        assert code == 1  # torchrun's own
        assert training.status()["state"] == "preempted"
        step = training.status()["step"]
        assert f"stopped at step {step};" in said
        assert training.steps() == step, "three restarts refused to train, or this would not have ended"
    finally:
        kill_tree(agent.pid)
