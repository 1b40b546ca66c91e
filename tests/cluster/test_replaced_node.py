"""Each command on two nodes, one of which is lost and replaced in the middle: as at home, byte for byte."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.support.commands import TINY, ok, run_job
from tests.support.processes.running_build import finished_parts
from tests.support.processes.running_job import running_job, wait_for
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, losses
from tests.support.services.submitted import submit, verdicts
from tests.support.services.submitted import wait_for as wait_for_submitted
from tests.support.shards.build_fixtures import contents
from tests.support.sweeps.tiny_sweep import results, sweep_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), only_in_a_soak]
STEPS = 300


@dataclass(frozen=True)
class Work:
    """A command.

    Attributes:
        arguments: but for the output.
        out: the option of the output.
        under_way: whether it has done some of it there.
        check: whether two outputs are the same.
        home: the command without a cluster, and what it wants there.
    """

    arguments: list[object]
    out: str
    under_way: Callable[[Path], object]
    check: Callable[[Path, Path], object]
    home: tuple[str, list[object]]


def same_shards(first: Path, second: Path) -> None:
    assert contents(first) == contents(second)


def same_grooves(first: Path, second: Path) -> None:
    for name in ("grooves-00000.tar", "manifest.jsonl", "z.npy"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def same_run(first: Path, second: Path) -> None:
    assert losses(first) == losses(second)
    assert_same_state(first, second, STEPS)


def same_trials(first: Path, second: Path) -> None:
    assert results(first) == results(second)


@pytest.fixture
def works(small_shards, sample_run, tmp_path) -> dict[str, Work]:
    settings = ["--shards", small_shards, *TINY, f"train.steps={STEPS}", "train.checkpoint_every=50"]
    sweep = sweep_file(tmp_path / "tiny.yaml")
    return {
        "build_shards": Work(
            ["--source", "demo", "demo.performances=1500"],
            "--out",
            lambda out: finished_parts(out),
            same_shards,
            ("build_shards", ["--workers", 0]),
        ),
        "sample": Work(
            [
                "--run",
                sample_run,
                "--count",
                6000,
                "--chunk",
                64,
                "--pack",
                "tar",
                "--no-gallery",
                "--all",
                "--feel",
                "mean",
            ],
            "--out",
            lambda out: len([*out.glob("sampling-work/parts/*")]) > 4,
            same_grooves,
            ("sample", ["--workers", 1]),
        ),
        "train": Work(
            settings,
            "--run",
            lambda run: (run / "metrics.jsonl").exists() and len(losses(run)) > 60,
            same_run,
            ("train", ["--ranks", 2]),
        ),
        "sweep": Work(
            ["run", sweep, "--shards", small_shards],
            "--out",
            lambda out: len([*out.glob("runs/*/metrics.jsonl")]) > 1,
            same_trials,
            ("sweep", []),
        ),
    }


@contextmanager
def under_way(cluster: RayCluster, kind: str, work: Work, out: Path, folder: Path, submitted: bool) -> Iterator[None]:
    """The command at work; at the end of the block it is waited for."""
    if submitted:
        words = work.arguments[1:] if kind == "sweep" else work.arguments
        where = ["--on", "ray", "--ray-jobs", cluster.ray_jobs, *(["--nodes", 2] if kind == "train" else [])]
        submission = submit(folder, kind, *where, "--", *words, work.out, out, **cluster.environment)
        wait_for_submitted(lambda: work.under_way(out), submission)
        yield
        wait_for_submitted(lambda: verdicts(submission, kind)[-1:] == ["done"], submission)
        return
    name, more = ("train_on_ray", ["--workers", 2]) if kind == "train" else (kind, [])
    arguments = [*work.arguments, *more, work.out, out, "--ray-address", cluster.address]
    with running_job(name, *arguments, **cluster.environment) as process:
        wait_for(lambda: work.under_way(out), process, "parts of the work")
        yield
        assert process.wait(timeout=300) == 0


@pytest.mark.parametrize("submitted", [False, True], ids=["from a node", "submitted"])
@pytest.mark.parametrize("kind", ["build_shards", "sample", "train", "sweep"])
def test_a_node_that_is_lost_and_replaced_changes_no_byte(works, tmp_path, kind, submitted):
    work, out, home = works[kind], tmp_path / "out", tmp_path / "home"
    with (
        ray_cluster(cpus=2 if kind == "train" else 1, dashboard=submitted) as cluster,
        under_way(cluster, kind, work, out, tmp_path, submitted),
    ):
        cluster.lose_node(1)
        cluster.replace_node(1)
    name, more = work.home
    ok(run_job(name, *work.arguments, *more, work.out, home))
    work.check(home, out)
