"""`jobs.submit --on ray` on a real Ray cluster that asks for a token: a cancel, a lost node, a lost cluster."""

import json
from pathlib import Path

import pytest

from musicvae.durable import read_lines
from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.support.commands import TINY, ok
from tests.support.processes.process_tree import command_of, processes_with
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, status, train
from tests.support.services.submitted import attempts, rows, run_in, submit, verdicts, wait_for

pytestmark = pytest.mark.slow
STEPS = 300
SETTINGS = (*TINY, "train.checkpoint_every=50")


def on(cluster: RayCluster) -> list[str]:
    return ["--on", "ray", "--ray-jobs", cluster.ray_jobs]


def logged(run: Path) -> int:
    return len(read_lines(run / "metrics.jsonl"))


def processes_of(run: Path) -> list[int]:
    """The ranks that have said where they are."""
    return [json.loads(path.read_text())["pid"] for path in (run / "ranks").glob("rank-?????.json")]


def test_a_cancel_and_a_cluster_that_does_not_let_in(small_shards, tmp_path):
    with ray_cluster(cpus=2, dashboard=True) as cluster:
        run = tmp_path / "run"
        arguments = ["--shards", small_shards, "--run", run, *SETTINGS, "train.steps=100000"]
        submission = submit(tmp_path, "train", *on(cluster), "--nodes", 2, "--", *arguments, **cluster.environment)
        wait_for(lambda: logged(run) > 20, submission)
        assert rows(tmp_path, submission, **cluster.environment)["train"]["state"] == "running"
        ranks = processes_of(run)
        assert len(ranks) == 2
        assert processes_with(submission.name)
        for _ in range(2):
            ok(run_in(tmp_path, "cancel", submission, **cluster.environment))
        wait_for(lambda: not any(command_of(rank) for rank in ranks), submission)
        wait_for(lambda: not processes_with(submission.name), submission)
        wait_for(lambda: rows(tmp_path, submission, **cluster.environment)["train"]["state"] == "cancelled", submission)

        refused = run_in(
            tmp_path, "submit", "report", *on(cluster), "--", run, **{**cluster.environment, "RAY_AUTH_TOKEN": "x"}
        )
        assert refused.returncode == 2
        assert "refuses the request: 40" in refused.stderr
        assert "RAY_AUTH_TOKEN_PATH" in refused.stderr


@only_in_a_soak
def test_a_lost_node_and_then_the_cluster_change_nothing(small_shards, tmp_path):
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    train(small_shards, undisturbed, *SETTINGS, f"train.steps={STEPS}", ranks=2)
    wish = ["--nodes", 2, "--", "--shards", small_shards, "--run", run, *SETTINGS, f"train.steps={STEPS}"]
    with ray_cluster(nodes=3, dashboard=True) as cluster:
        submission = submit(tmp_path, "train", *on(cluster), *wish, **cluster.environment)
        wait_for(lambda: logged(run) >= 60, submission)
        cluster.lose_node(1)
        wait_for(lambda: status(run).get("step", 0) >= 150 or logged(run) >= 150, submission)
        for node in (2, 0):
            cluster.lose_node(node)
        # Not while its last heartbeat is fresh.
        wait_for(lambda: rows(tmp_path, submission, **cluster.environment)["train"]["state"] == "lost", submission)
        lost = rows(tmp_path, submission, **cluster.environment)["train"]
        assert f"no Ray cluster answers at {cluster.ray_jobs}" in lost["why"]
        (failure,) = lost["failures"]
        assert failure["category"] == "node"
    with ray_cluster(dashboard=True) as cluster:
        ok(run_in(tmp_path, "submit", "train", *on(cluster), *wish, **cluster.environment))
        assert len([*tmp_path.glob("submissions/[!.]*")]) == 1, "another cluster, the same submission"
        wait_for(lambda: verdicts(submission, "train")[-1:] == ["done"], submission)
    assert len([event for event in attempts(submission, "train") if event["event"] == "start"]) == 2
    assert_same_state(undisturbed, run, STEPS)


def test_where_no_cluster_answers(tmp_path):
    refused = run_in(tmp_path, "submit", "report", "--on", "ray", "--ray-jobs", "http://127.0.0.1:1", "--", "run")
    assert refused.returncode == 2
    assert "no Ray cluster answers at http://127.0.0.1:1" in refused.stderr
