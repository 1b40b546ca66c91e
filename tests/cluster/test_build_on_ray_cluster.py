"""jobs.build_shards attached to a real Ray cluster of two nodes."""

from pathlib import Path

import pytest

from tests.cluster.ray_cluster import RayCluster, ray_cluster
from tests.commands import ok, run_job

pytestmark = pytest.mark.slow
DEMO = ("--source", "demo", "demo.performances=200", "shard.windows=300")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    with ray_cluster(tmp_path_factory.mktemp("ray")) as running:
        yield running


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_nodes_give_the_bytes_of_one_process(cluster: RayCluster, tmp_path: Path):
    ok(run_job("build_shards", *DEMO, "--out", tmp_path / "here", "--workers", 0))
    on_cluster = ["--out", tmp_path / "there", "--ray-address", cluster.address]
    result = ok(run_job("build_shards", *DEMO, *on_cluster, **cluster.environment))
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert "Traceback" not in result.stderr


def test_a_client_without_the_token_is_told_so(cluster: RayCluster, tmp_path: Path):
    arguments = [*DEMO, "--out", tmp_path / "out", "--ray-address", cluster.address]
    result = run_job("build_shards", *arguments, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert result.returncode == 2
    assert "RAY_AUTH_MODE" in result.stderr
    assert list(tmp_path.iterdir()) == []
