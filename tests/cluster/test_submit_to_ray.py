"""`jobs.submit --on ray` on a real Ray cluster that asks for a token: a cancel, a lost node, a lost cluster."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.sweeps.ledger import read_ledger
from musicvae.durable import read_lines
from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.support.commands import CHECKOUT, QUIET, TINY, ok
from tests.support.processes.process_tree import command_of, processes_with
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, status, train
from tests.support.services.submitted import attempts, rows, run_in, submit, verdicts, wait_for
from tests.support.shards.build_fixtures import contents
from tests.support.sweeps.tiny_sweep import sweep_file

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


def test_ray_job_submit_from_a_checkout(small_shards, sample_run, tmp_path):
    sweep = sweep_file(tmp_path / "tiny.yaml", budget={"trials": 1, "steps": 10})
    settings = [*TINY, "train.steps=10"]
    commands: dict[str, list[object]] = {
        "build_shards": ["--source", "demo", "--out", tmp_path / "build", "demo.performances=20"],
        "sample": ["--run", sample_run, "--count", 8, "--out", tmp_path / "grooves"],
        "train_on_ray": ["--shards", small_shards, "--run", tmp_path / "run", "--workers", 2, *settings],
        "sweep": ["run", sweep, "--shards", small_shards, "--out", tmp_path / "sweep"],
    }
    with ray_cluster(dashboard=True) as cluster:
        begin = [cluster.python, "-m"]
        lines = [[*begin, f"jobs.{name}", *given, "--ray-address", "auto"] for name, given in commands.items()]
        # One without an address: a Ray of its own has nothing of what the job brought.
        alone = [*begin, "jobs.build_shards", "--source", "demo", "--out", tmp_path / "alone", "--workers", 1]
        script = " && ".join(shlex.join(map(str, line)) for line in [*lines, [*alone, "demo.performances=20"]])
        ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
        submitted = subprocess.run(
            [*ray, "job", "submit", "--address", cluster.ray_jobs, "--working-dir", ".", "--", "bash", "-c", script],
            cwd=CHECKOUT,
            env={**os.environ, **QUIET, **cluster.environment},
            capture_output=True,
            text=True,
        )
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        assert len(set(cluster.sent_packages())) == 1, "the code travels once"
        assert len(cluster.sent_packages()) == 2, "to both nodes"
    assert status(tmp_path / "run")["state"] == "finished"
    assert (tmp_path / "grooves" / "manifest.jsonl").exists()
    assert {trial.state for trial in read_ledger(tmp_path / "sweep").trials.values()} == {"finished"}
    assert contents(tmp_path / "build") == contents(tmp_path / "alone")


def test_where_no_cluster_answers(tmp_path):
    refused = run_in(tmp_path, "submit", "report", "--on", "ray", "--ray-jobs", "http://127.0.0.1:1", "--", "run")
    assert refused.returncode == 2
    assert "no Ray cluster answers at http://127.0.0.1:1" in refused.stderr
