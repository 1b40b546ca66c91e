"""The same shards from any number of workers, from two nodes, and in whatever order a file system lists its files."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.support.commands import QUIET, SOAK, job_command, ok, run_job
from tests.support.harm.interposed import SHUFFLED_LISTING, interposed
from tests.support.requirements import only_in_a_soak
from tests.support.shards.build_fixtures import contents, write_mixed_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed") / "midi"
    write_mixed_folder(folder, 400)
    return folder


def check_ways(source: Path, folder: Path, cluster: RayCluster, *names: str) -> None:
    """Builds in several ways and compares all bytes, those of the reports too; in a soak in every way."""
    expected: dict[str, bytes] = {}
    shuffled = interposed(folder / "site", SHUFFLED_LISTING)
    ways: dict[str, tuple[list[object], dict[str, str]]] = {
        "here": (["--workers", 0], {}),
        "one": (["--workers", 1], {}),
        "two": (["--workers", 2], {}),
        "eight": (["--workers", 8], {}),
        "nodes": (["--ray-address", cluster.address], cluster.environment),
        "shuffled": (["--workers", 0], shuffled),
    }
    for way in ways if SOAK else names:
        options, variables = ways[way]
        ok(run_job("build_shards", "--source", source, "--out", folder / way, *options, **variables))
        expected = expected or contents(folder / way)
        assert contents(folder / way) == expected, way


@only_in_a_soak
def test_a_mixed_folder(mixed, tmp_path, cluster):
    check_ways(mixed, tmp_path, cluster, "here", "eight", "shuffled")


def test_gmd(groove_dir, tmp_path, cluster):
    check_ways(groove_dir, tmp_path, cluster, "here", "two", "nodes")


def test_a_client_without_the_token_is_told_so(cluster, tmp_path):
    arguments = ["--source", "demo", "--out", tmp_path / "out", "--ray-address", cluster.address]
    result = run_job("build_shards", *arguments, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert result.returncode == 2
    assert "RAY_AUTH_MODE" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_does_not_see_the_source_is_named(mixed, cluster, tmp_path):
    # This path leads each process to its own folder, as a path on a local disk leads each node to its own.
    shutil.copytree(mixed, tmp_path / "midi", symlinks=True)
    arguments = ["--source", "/proc/self/cwd/midi", "--out", tmp_path / "out", "--ray-address", cluster.address]
    result = subprocess.run(
        job_command("build_shards", *arguments),
        cwd=tmp_path,
        env={**os.environ, **QUIET, **cluster.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2, result.stderr
    assert "can do the work" in result.stderr
    assert ": it does not see /proc/self/cwd/midi/" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["midi"]
