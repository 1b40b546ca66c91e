"""A sweep on a Ray cluster: lost nodes, trials that no node holds, and others who take its CPUs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.sweeps.ledger import read_ledger
from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.support.commands import ok, run_job
from tests.support.processes.process_tree import kill_tree
from tests.support.processes.running_job import running_job, wait_for
from tests.support.sweeps.tiny_sweep import check_once, results, sweep_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Two nodes of one CPU."""
    with ray_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return sweep_file(tmp_path_factory.mktemp("sweep") / "tiny.yaml")


@pytest.fixture(scope="module")
def embedded(file, small_shards):
    out = file.parent / "embedded"
    ok(run_job("sweep", "run", file, "--shards", small_shards, "--out", out))
    return results(out)


def test_a_trial_that_no_node_can_hold_is_refused(cluster, small_shards, tmp_path):
    large, out = sweep_file(tmp_path / "large.yaml", resources={"cpus": 4}), tmp_path / "out"
    where = ("--shards", small_shards, "--out", out, "--ray-address", cluster.address)
    refused = run_job("sweep", "run", large, *where, **cluster.environment)
    assert refused.returncode == 2
    assert "no node can hold a trial" in refused.stderr
    assert "at most 1 CPU" in refused.stderr


def test_status_says_what_trials_wait_for_and_so_does_a_command(cluster, small_shards, sample_run, tmp_path):
    out = tmp_path / "out"
    endless = sweep_file(tmp_path / "endless.yaml", budget={"trials": 6, "steps": 1_000_000})
    where = ("--shards", small_shards, "--out", out, "--ray-address", cluster.address)
    with (
        holding_a_cpu(cluster, tmp_path),
        running_job("sweep", "run", endless, *where, **cluster.environment) as driver,
    ):
        wait_for(lambda: list(out.glob("runs/*/metrics.jsonl")), driver, "a trial at work")
        waits = "waiting: 1 process(es) to start. Each requests 1 CPU; free on the cluster: 0 CPU"
        wait_for(lambda: waits in ok(run_job("sweep", "status", out)).stdout, driver, "word of what is waited for")
        assert ok(run_job("sweep", "status", out)).stdout.count("  running ") == 1

        sampling = ["--run", sample_run, "--count", 4, "--out", tmp_path / "grooves", "--ray-address", cluster.address]
        with running_job("sample", *sampling, **cluster.environment) as job:
            assert job.stderr is not None
            waits = next(line for line in job.stderr if line.startswith("waiting for"))
            job.send_signal(signal.SIGTERM)
            _, stderr = job.communicate(timeout=20)
        assert "a task requests 1 CPU; free on the Ray cluster: 0 CPU of 2 CPU" in waits
        assert (job.returncode, "Traceback" in stderr) == (75, False), stderr


def test_a_lost_node_costs_no_trial(cluster, file, embedded, small_shards, tmp_path):
    """The last one: the node does not come back."""
    out = tmp_path / "out"
    arguments = ("run", file, "--shards", small_shards, "--out", out, "--ray-address", cluster.address)
    with running_job("sweep", *arguments, **cluster.environment) as driver:
        wait_for(lambda: len(list(out.glob("runs/*/metrics.jsonl"))) >= 2, driver, "two trials at work")
        cluster.lose_node(1)
        assert driver.wait(timeout=500) == 0
    assert results(out) == embedded
    check_once(read_ledger(out), out / "ledger.jsonl")


@contextmanager
def holding_a_cpu(cluster: RayCluster, folder: Path) -> Iterator[None]:
    """Somebody else's job, which takes a CPU of the cluster."""
    script, begun = folder / "other.py", folder / "begun"
    script.write_text(
        "import pathlib, ray, time\n"
        f"ray.init(address={cluster.address!r})\n"
        f"hold = lambda: (pathlib.Path({str(begun)!r}).touch(), time.sleep(600))\n"
        "ray.get(ray.remote(num_cpus=1)(hold).remote())\n"
    )
    environment = {**os.environ, **cluster.environment}
    process = subprocess.Popen([sys.executable, script], env=environment, text=True, start_new_session=True)
    try:
        wait_for(begun.exists, process, "a CPU held")
        yield
    finally:
        kill_tree(process.pid)
        process.wait()
