"""Sampling on a Ray cluster of two nodes and in a SLURM array: the bytes of one process alone."""

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.ray_cluster import ray_cluster
from tests.cluster.slurm_cluster import SlurmCluster
from tests.support.commands import CHECKOUT, ok, run_job
from tests.support.runs.sample_fixtures import output_of, sampled

pytestmark = pytest.mark.slow
COUNT, CHUNK = 2000, 64
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)


@pytest.fixture(scope="module")
def alone(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("alone") / "out"
    sampled(sample_run, out, count=COUNT)
    return output_of(out)


def test_two_ray_nodes_give_the_same_bytes(sample_run, alone, tmp_path):
    command = ["--feel", "mean", "--run", sample_run, "--count", COUNT, "--out", tmp_path / "out", "--chunk", CHUNK]
    with ray_cluster() as cluster:
        ok(run_job("sample", *command, "--ray-address", cluster.address, **cluster.environment))
    assert output_of(tmp_path / "out") == alone


def test_an_address_where_no_cluster_answers_ends_with_2(sample_run, tmp_path):
    command = ["--run", sample_run, "--count", 5, "--out", tmp_path / "out", "--ray-address", "127.0.0.1:1"]
    refused = run_job("sample", *command)
    assert refused.returncode == 2
    assert "no Ray cluster answers" in refused.stderr


def submit(slurm: SlurmCluster, folder: Path, tasks: str, *arguments: object) -> str:
    """Submits the array script and gives the job's number."""
    options = ["--parsable", f"--array={tasks}", f"--chdir={CHECKOUT}", f"--output={folder}/%a.log", "--no-requeue"]
    options.append(f"--export=ALL,PYTHON={sys.executable}")
    return slurm.client("sbatch", *options, CHECKOUT / "docs" / "sample.sbatch", *arguments)


def wait_for(condition: Callable[[], bool], folder: Path, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "\n".join(log.read_text() for log in folder.glob("*.log"))
        time.sleep(0.2)


def ended(slurm: SlurmCluster, job: str) -> bool:
    return not slurm.client("squeue", "--noheader", f"--jobs={job}", "--states=PENDING,RUNNING,COMPLETING")


def test_an_array_of_four_one_killed_and_only_that_one_submitted_again(slurm, sample_run, alone, tmp_path):
    out = tmp_path / "out"
    words = [
        "--feel",
        "mean",
        "--run",
        sample_run,
        "--count",
        COUNT,
        "--out",
        out,
        "--chunk",
        CHUNK,
        "--shard",
        "slurm/4",
    ]
    victim = random.Random(SEED).randrange(4)
    print(f"KILL_SEED={SEED}: task {victim} is killed")
    job = submit(slurm, tmp_path, "0-3", *words)
    span = range(victim * COUNT // 4, (victim + 1) * COUNT // 4)

    def victim_works() -> bool:
        return any(int(part.name[:8]) in span for part in out.glob("sampling-work/parts/[0-9]*"))

    wait_for(victim_works, tmp_path)
    slurm.client("scancel", "--signal=KILL", "--full", f"{job}_{victim}")
    wait_for(lambda: ended(slurm, job), tmp_path)
    assert not (out / "settings.json").exists()
    refused = run_job("sample", "merge", "--out", out)
    assert refused.returncode == 2
    assert f"(shares {victim} of 4)" in refused.stderr

    again = submit(slurm, tmp_path, str(victim), *words)
    wait_for(lambda: ended(slurm, again), tmp_path)
    assert (out / "settings.json").exists(), (tmp_path / f"{victim}.log").read_text()
    assert output_of(out) == alone


def test_an_array_without_shards_is_refused(slurm, sample_run, tmp_path):
    job = submit(
        slurm, tmp_path, "0-1", "--feel", "mean", "--run", sample_run, "--count", 10, "--out", tmp_path / "out"
    )
    wait_for(lambda: ended(slurm, job), tmp_path)
    for task in range(2):
        assert "no --shard slurm/M" in (tmp_path / f"{task}.log").read_text()
    assert not (tmp_path / "out").exists()
