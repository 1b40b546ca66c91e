"""`jobs.train_on_ray` on real Ray: workers and nodes are lost, drivers stopped and killed, and the run is the same."""

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from musicvae.durable import read_lines
from tests.cluster.ray_cluster import ray_cluster
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command, ok, run_job
from tests.support.processes.process_tree import command_of, descendants, hosts_listened_on
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, losses, status, train

pytestmark = pytest.mark.slow
WAIT_SECONDS = 150
STEPS = 200
SETTINGS = (*TINY, f"train.steps={STEPS}", "train.checkpoint_every=20", "train.evaluate_every=1000")
MORE = "train.steps=100000"
"""So many that a run is stopped long before."""


@contextmanager
def driver(shards: Path, run: Path, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`jobs.train_on_ray` in a process group of its own, killed if it still runs at the end."""
    process = subprocess.Popen(
        job_command("train_on_ray", "--shards", shards, "--run", run, *arguments),
        cwd=CHECKOUT,
        env={**os.environ, **QUIET, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, "".join(process.communicate())
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s"
        time.sleep(0.1)


def logged(run: Path) -> int:
    """The last step in metrics.jsonl."""
    return len(read_lines(run / "metrics.jsonl"))


def record(run: Path, rank: int) -> dict:
    """What a rank last said of itself, empty before it gives a sign of life."""
    path = run / "ranks" / f"rank-{rank:05d}.json"
    return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture(scope="module")
def undisturbed(small_shards, tmp_path_factory) -> Path:
    """What torchrun makes of the settings with two ranks."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(small_shards, run, *SETTINGS, ranks=2)
    return run


@only_in_a_soak
def test_a_killed_worker_changes_nothing(small_shards, undisturbed, tmp_path):
    run = tmp_path / "run"
    with driver(small_shards, run, "--workers", 2, *SETTINGS) as process:
        wait_until(lambda: logged(run) >= 50 and record(run, 1), process)
        os.kill(record(run, 1)["pid"], signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, stderr
    assert "rank 1 of 2 on " in stderr
    assert "ended without a report" in stderr
    assert "all ranks restart from step " in stderr
    assert f"best weights: {run / 'best.safetensors'}\nnext: python -m jobs.sample --run {run} " in stdout
    assert status(run)["state"] == "finished"
    assert status(run)["restarts"] == 1
    assert losses(run) == losses(undisturbed)
    assert_same_state(undisturbed, run, STEPS)


def test_a_ray_of_its_own_and_its_ranks_can_be_reached_by_nobody_else(small_shards, tmp_path):
    run, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    with driver(small_shards, run, "--workers", 2, *SETTINGS, MORE, TMPDIR=str(temporary)) as process:
        wait_until(lambda: logged(run) >= 5 and record(run, 1), process)
        below = descendants(process.pid)
        assert record(run, 1)["pid"] in below
        assert hosts_listened_on([process.pid, *below]) <= {"127.0.0.1", "::1"}
        (stores,) = temporary.glob("ray-train-*/musicvae-ranks-*")
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in (stores, stores.parent)} == {0o700}
        (raylet,) = [pid for pid in below if command_of(pid).split(" ")[0].endswith("/raylet")]
        variables = Path(f"/proc/{raylet}/environ").read_text(encoding="utf-8")
        token = Path(re.findall(r"RAY_AUTH_TOKEN_PATH=([^\0]+)", variables)[0])
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert not [pid for pid in below if token.read_text(encoding="utf-8") in command_of(pid)]
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 75, stderr
    assert not [*temporary.iterdir()]
    assert not token.parent.exists()


def test_a_killed_worker_a_lost_node_a_stop_and_a_killed_driver(small_shards, undisturbed, tmp_path):
    run = tmp_path / "run"
    with ray_cluster() as cluster:
        place = ["--ray-address", cluster.address, "--workers", "1:2", *SETTINGS, MORE]
        with driver(small_shards, run, *place, **cluster.environment) as process:
            wait_until(lambda: logged(run) >= 50 and record(run, 1), process)
            assert record(run, 1)["world_size"] == 2
            os.kill(record(run, 1)["pid"], signal.SIGKILL)
            wait_until(lambda: status(run)["restarts"] == 1 and logged(run) >= 90, process)
            exact = losses(run)[:90]
            cluster.lose_node(1)
            wait_until(lambda: record(run, 0)["world_size"] == 1 and status(run)["state"] == "running", process)
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 75, stderr
        assert status(run)["state"] == "preempted"
        assert "rank 1 of 2 on " in stderr
        assert "ended without a report" in stderr
        assert "all ranks restart from step " in stderr
        stopped_at = status(run)["step"]
        assert f"stopped at step {stopped_at}; run the same command again to resume" in stderr

        with driver(small_shards, run, *place, **cluster.environment) as process:
            wait_until(lambda: logged(run) >= stopped_at + 50, process)
            rank = record(run, 0)["pid"]
            process.kill()
            deadline = time.monotonic() + WAIT_SECONDS
            while command_of(rank):
                assert time.monotonic() < deadline, "a rank outlives its driver"
                time.sleep(0.1)

    assert exact == losses(undisturbed)[:90]
    saved = logged(run)
    ok(run_job("train", "--shards", small_shards, "--run", run, *SETTINGS, f"train.steps={saved + 20}"))
    both = min(STEPS, saved)
    assert losses(run)[:both] == pytest.approx(losses(undisturbed)[:both], rel=1e-4)


@only_in_a_soak
def test_a_damaged_shard_ends_the_run_without_a_restart(small_shards_copy, tmp_path):
    run = tmp_path / "run"
    shard = small_shards_copy / "train-000001.tar"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    result = run_job("train_on_ray", "--shards", small_shards_copy, "--run", run, "--workers", 2, *SETTINGS)
    assert result.returncode == 3, result.stderr
    assert result.stderr.count("train-000001.tar") == 1, result.stderr
    assert "start again" not in result.stderr
    assert status(run)["state"] == "failed"


def test_what_cannot_work_is_told_before_ray_starts(small_shards, tmp_path):
    run = tmp_path / "run"
    for arguments, message in (
        (["train.step=3"], "unknown setting train.step (did you mean train.steps?)"),
        (["--workers", "9", *SETTINGS], "9 ranks cannot share the data"),
        (["--workers", "2:1", *SETTINGS], "--workers 2:1 is not a number of workers"),
    ):
        result = run_job("train_on_ray", "--shards", small_shards, "--run", run, *arguments)
        assert result.returncode == 2, result.stderr
        assert result.stderr.count(message) == 1
    assert not run.exists()
