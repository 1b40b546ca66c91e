"""Clusters as people run them: no node has the project, one is unlike the others, and the head is lost in the end."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.code import BASELINES, CODE_PACKAGES, SHIPPED_MODELS
from jobs.sweeps.ledger import read_ledger
from musicvae.durable import read_lines
from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command
from tests.support.processes.running_job import running_job, wait_for
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import status
from tests.support.sweeps.tiny_sweep import sweep_file

pytestmark = pytest.mark.slow
EDIT = """

import os, pathlib, time
pathlib.Path({marks!r}, str(os.getpid())).write_text(__file__)
while "working_dir_files" in __file__ and os.path.exists({held!r}):
    time.sleep(0.05)
"""
"""Of a package of the checkout: each process that imports it says from where, and waits on a node while it is held."""
STRANGE = """
import io, os, sys

HIDDEN = {hidden!r}

def hiding(call):
    def hidden(path, *arguments, **options):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(HIDDEN):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        return call(path, *arguments, **options)
    return hidden

os.stat, io.open = hiding(os.stat), hiding(io.open)

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "jobs.sweeps.ray_pool":
            with open({births!r}, "a+") as births:
                births.write("x")
                if births.tell() == {enough}:
                    os.unlink({held!r})
            raise ImportError("this node cannot start a trial")

sys.meta_path.insert(0, Refusing())
"""
"""Run first by every Python of a node that does not see a folder, and on which the processes of a sweep die.

Whatever the other node does, it waits until they have died often enough for this node to be left out.
"""
BIRTHS = 3
OTHER_TORCH = "Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9\n"


@dataclass(frozen=True, slots=True)
class Checkout:
    """An edited copy of the checkout.

    Attributes:
        marks: where its processes say what they have imported.
        hidden: a folder that one node of the cluster does not see.
        held: while this file exists, the other nodes do nothing.
    """

    path: Path
    marks: Path
    hidden: Path
    held: Path

    def run(self, name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the copy."""
        return subprocess.run(
            job_command(name, *arguments),
            cwd=self.path,
            env=self.environment(variables),
            capture_output=True,
            text=True,
        )

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        return {**os.environ, **QUIET, "PYTHONPATH": str(self.path), **variables}

    def imported_on_nodes(self) -> set[str]:
        """What has been imported from elsewhere than the copy since this was asked last."""
        imported = {path.read_text() for path in self.marks.iterdir()}
        for path in self.marks.iterdir():
            path.unlink()
        return {path for path in imported if not path.startswith(str(self.path))}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    folder = tmp_path_factory.mktemp("edited")
    copy = Checkout(folder / "checkout", folder / "marks", folder / "hidden", folder / "held")
    copy.marks.mkdir()
    copy.hidden.mkdir()
    for package in CODE_PACKAGES:
        left_out = shutil.ignore_patterns(
            "__pycache__", *(Path(weights).name for weights in (BASELINES, SHIPPED_MODELS))
        )
        shutil.copytree(CHECKOUT / package, copy.path / package, ignore=left_out)
    player = Path(SHIPPED_MODELS, "performance")  # which `sample` sends to the nodes
    shutil.copytree(CHECKOUT / player, copy.path / player)
    edited = copy.path / "musicvae" / "__init__.py"
    edited.write_text(edited.read_text() + EDIT.format(marks=str(copy.marks), held=str(copy.held)))
    return copy


@pytest.fixture(scope="module")
def cluster(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A head, and a strange node."""
    strange = tmp_path_factory.mktemp("strange")
    (strange / "sitecustomize.py").write_text(
        STRANGE.format(
            hidden=str(checkout.hidden),
            held=str(checkout.held),
            births=str(strange / "births"),
            enough=BIRTHS,
        )
    )
    (strange / "torch-9.9.9.dist-info").mkdir()
    (strange / "torch-9.9.9.dist-info" / "METADATA").write_text(OTHER_TORCH)
    with ray_cluster(variables={1: {"PYTHONPATH": str(strange)}}) as running:
        yield running


def test_the_code_travels_and_a_strange_node_is_left_out(checkout, cluster, small_shards, sample_run, tmp_path):
    out, sweep = checkout.hidden, sweep_file(tmp_path / "tiny.yaml", budget={"trials": 2, "steps": 10})
    where = ["--ray-address", cluster.address]
    settings = [*TINY, "train.steps=10"]
    commands = {
        "build_shards": (["--source", "demo", "--out", out / "build", "demo.performances=80"], "it does not see"),
        "sample": (["--run", sample_run, "--count", 8, "--out", out / "grooves"], "torch 9.9.9, but 2."),
        "train_on_ray": (["--shards", small_shards, "--run", out / "run", *settings], "torch 9.9.9, but 2."),
        "sweep": (
            ["run", sweep, "--shards", small_shards, "--out", out / "sweep"],
            f"{BIRTHS} processes in a row died",
        ),
    }
    for name, (arguments, problem) in commands.items():
        if name == "sweep":
            checkout.held.touch()
        result = checkout.run(name, *arguments, *where, **cluster.environment)
        assert result.returncode == 0, f"{name}: {result.stderr}"
        assert result.stderr.count("is left out: ") == 1, f"{name}: {result.stderr}"
        assert f"is left out: {problem}" in result.stderr, f"{name}: {result.stderr}"
        imported = checkout.imported_on_nodes()
        assert imported, f"{name}: the edit was not seen on a node"
        assert all("working_dir_files" in path for path in imported), f"{name}: {imported}"
    assert "this node cannot start a trial" in result.stderr
    assert (out / "build" / "manifest.json").exists()
    assert status(out / "run")["state"] == "finished"
    assert {trial.state for trial in read_ledger(out / "sweep").trials.values()} == {"finished"}


def test_a_lost_head_ends_a_sampling_in_our_words(checkout, cluster, sample_run, tmp_path):
    """The last one of the cluster, which does not come back."""
    out = tmp_path / "grooves"
    command = [
        "--feel",
        "mean",
        "--run",
        sample_run,
        "--count",
        500_000,
        "--chunk",
        64,
        "--out",
        out,
        "--ray-address",
        cluster.address,
    ]
    variables = {"PYTHONPATH": str(checkout.path), **cluster.environment}
    with running_job("sample", *command, folder=checkout.path, **variables) as job:
        wait_for(lambda: [*out.glob("sampling-work/parts/[0-9]*")], job, "grooves")
        cluster.lose_node(0)
        _, stderr = job.communicate(timeout=60)
    cluster.lose_node(1)  # it would look for its head for a while
    assert job.returncode == 75, stderr
    assert f"error: the Ray cluster at {cluster.address} has ended" in stderr
    assert "run the same command again to resume" in stderr
    assert "Traceback" not in stderr


@only_in_a_soak
@pytest.mark.parametrize("name", ["train_on_ray", "sweep"])
def test_a_lost_head_ends_a_training_in_our_words(small_shards, tmp_path, name):
    out, endless = tmp_path / "out", ["train.steps=1000000"]
    sweep = sweep_file(tmp_path / "endless.yaml", budget={"trials": 2, "steps": 1_000_000})
    arguments = ["--run", out, *TINY, *endless] if name == "train_on_ray" else ["run", sweep, "--out", out]
    run = out if name == "train_on_ray" else out / "runs" / "*"
    with ray_cluster() as cluster:
        command = [*arguments, "--shards", small_shards, "--ray-address", cluster.address]
        with running_job(name, *command, **cluster.environment) as driver:
            wait_for(lambda: any(read_lines(path) for path in logs(run)), driver, "steps")
            cluster.lose_node(0)
            _, stderr = driver.communicate(timeout=120)
    assert driver.returncode == 75, stderr
    assert f"the Ray cluster at {cluster.address} has ended" in stderr
    if name == "train_on_ray":
        assert status(out)["state"] == "preempted"


def logs(run: Path) -> list[Path]:
    """metrics.jsonl of the runs that a path names."""
    return sorted(Path("/").glob(f"{str(run)[1:]}/metrics.jsonl"))
