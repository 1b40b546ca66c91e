"""The shipped sweep `random` has the same trials with the same figures wherever it is run."""

from pathlib import Path

import pytest
import yaml

from jobs.sweeps.ledger import read_ledger
from jobs.sweeps.trials import SHIPPED
from tests.cluster.ray_cluster import ray_cluster
from tests.support.commands import SOAK, ok, run_job
from tests.support.requirements import only_in_a_soak
from tests.support.services.submitted import submit, verdicts, wait_for
from tests.support.sweeps.tiny_sweep import check_once, results

pytestmark = pytest.mark.slow
TRIALS, STEPS = (24, 60) if SOAK else (5, 20)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """The shipped file with a smaller budget."""
    sweep = yaml.safe_load((SHIPPED / "random.yaml").read_text())
    sweep["budget"] |= {"trials": TRIALS, "steps": STEPS}
    sweep["settings"] = {"train.evaluate_every": STEPS // 2}
    path = tmp_path_factory.mktemp("everywhere") / "random.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return path


@pytest.fixture(scope="module")
def embedded(file, small_shards):
    out = file.parent / "embedded"
    ok(run_job("sweep", "run", file, "--shards", small_shards, "--out", out))
    assert len(results(out)) == TRIALS
    return results(out)


@only_in_a_soak
def test_on_a_ray_cluster_of_two_nodes(file, embedded, small_shards, tmp_path):
    out = tmp_path / "out"
    with ray_cluster(nodes=2) as cluster:
        arguments = ("run", file, "--shards", small_shards, "--out", out, "--ray-address", cluster.address)
        ok(run_job("sweep", *arguments, **cluster.environment))
    assert results(out) == embedded


WAYS = [
    pytest.param(("--ray", "--nodes", 2), id="ray-in-slurm"),
    pytest.param(("--array", 3), id="slurm-array", marks=only_in_a_soak),
]


@pytest.mark.parametrize("how", WAYS)
def test_on_slurm(slurm, file, embedded, small_shards, tmp_path, how):
    out = tmp_path / "out"
    wish = ["sweep", "--on", "slurm", *how, "--cpus-per-node", 1, "--", file, "--shards", small_shards, "--out", out]
    submission = submit(tmp_path, *wish, **slurm.environment)
    elements = range(3) if "--array" in how else [0]
    wait_for(lambda: all(verdicts(submission, "sweep", element) for element in elements), submission, seconds=1200)
    assert {verdicts(submission, "sweep", element)[-1] for element in elements} == {"done"}
    assert results(out) == embedded
    check_once(read_ledger(out), out / "ledger.jsonl")
    assert (out / "report.html").exists()
