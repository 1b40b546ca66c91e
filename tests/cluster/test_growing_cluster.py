"""A cluster that has no CPU until its autoscaler starts nodes: what waits is what they are started for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobs.sweeps.ledger import read_ledger
from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.support.commands import TINY, ok, run_job
from tests.support.processes.process_tree import command_of, descendants
from tests.support.processes.running_job import running_job, wait_for
from tests.support.runs.tiny_run import status
from tests.support.shards.build_fixtures import contents
from tests.support.sweeps.tiny_sweep import sweep_file

pytestmark = pytest.mark.slow
MOST_NODES = 2
GONE_SECONDS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(nodes=1, cpus=0, grows_by=MOST_NODES) as running:
        yield running


def started_nodes(cluster: RayCluster) -> int:
    """Nodes that run beside the head."""
    commands = map(command_of, descendants(cluster.nodes[0].pid))
    return sum(command.split(" ")[0].endswith("/raylet") for command in commands) - 1


@contextmanager
def nodes_come_and_go(cluster: RayCluster) -> Iterator[None]:
    """Begins without nodes, and ends when all are gone again: nobody asks for them any more."""
    wait_until_gone(cluster)
    yield
    wait_until_gone(cluster)


def wait_until_gone(cluster: RayCluster) -> None:
    until = time.monotonic() + GONE_SECONDS
    while started_nodes(cluster):
        assert time.monotonic() < until, "somebody still asks for nodes"
        time.sleep(0.2)


def test_a_build_with_more_workers_than_cpus(cluster, tmp_path):
    build = ["--source", "demo", "demo.performances=1500"]
    with nodes_come_and_go(cluster):
        command = [*build, "--out", tmp_path / "grown", "--workers", 3, "--ray-address", cluster.address]
        with running_job("build_shards", *command, **cluster.environment) as job:
            wait_for(lambda: started_nodes(cluster) == MOST_NODES, job, "two nodes")
            _, stderr = job.communicate(timeout=240)
        assert job.returncode == 0, stderr
    ok(run_job("build_shards", *build, "--out", tmp_path / "home", "--workers", 0))
    assert contents(tmp_path / "grown") == contents(tmp_path / "home")


def test_a_training_waits_for_nodes_that_are_started(cluster, small_shards, tmp_path):
    run = tmp_path / "run"
    with nodes_come_and_go(cluster):
        command = ["--shards", small_shards, "--run", run, "--workers", 2, *TINY, "train.steps=10"]
        ok(run_job("train_on_ray", *command, "--ray-address", cluster.address, **cluster.environment))
    assert status(run)["state"] == "finished"


def test_a_training_that_no_number_of_nodes_holds_is_refused(cluster, small_shards, tmp_path):
    command = ["--shards", small_shards, "--run", tmp_path / "run", "--workers", 3, *TINY]
    refused = run_job("train_on_ray", *command, "--ray-address", cluster.address, **cluster.environment)
    assert refused.returncode == 2
    waits = "3 worker(s) requests 3 CPU; free on the Ray cluster: 0 CPU of 0 CPU; its autoscaler sees the request"
    assert waits in refused.stderr
    assert "the Ray cluster is too small for 3 worker(s)" in refused.stderr


def test_a_sweep_asks_for_a_node_for_each_trial_at_once(cluster, small_shards, tmp_path):
    out = tmp_path / "sweep"
    sweep = sweep_file(tmp_path / "tiny.yaml", budget={"trials": 2, "steps": 200}, resources={"at_once": 2})
    with nodes_come_and_go(cluster):
        command = ["run", sweep, "--shards", small_shards, "--out", out, "--ray-address", cluster.address]
        with running_job("sweep", *command, **cluster.environment) as driver:
            wait_for(lambda: started_nodes(cluster) == MOST_NODES, driver, "two nodes")
            _, stderr = driver.communicate(timeout=240)
        assert driver.returncode == 0, stderr
    trials = read_ledger(out).trials.values()
    assert [(trial.state, trial.starts) for trial in trials] == [("finished", 1)] * 2
