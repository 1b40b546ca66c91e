"""The commands of the pages in docs/, run as they are written."""

import pytest

from musicvae.durable import read_lines
from musicvae.manifest import ShardManifest
from tests.commands import CHECKOUT
from tests.fenced_code import run_shell_blocks

pytestmark = pytest.mark.slow


def test_preprocessing(tmp_path):
    printed = run_shell_blocks(CHECKOUT / "docs" / "preprocessing.md", tmp_path)
    shards = {folder.name: ShardManifest.read(folder) for folder in sorted((tmp_path / "shards").iterdir())}
    assert set(shards) == {"archive", "demo", "folder", "full", "list"}
    windows = {name: sum(split.windows for split in own.splits.values()) for name, own in shards.items()}
    assert windows["folder"] == windows["archive"] == windows["demo"] > windows["full"] > windows["list"] > 0
    assert "# Bars of a window." in printed


def test_ray(tmp_path):
    run_shell_blocks(CHECKOUT / "docs" / "ray.md", tmp_path)
    steps = [record["step"] for record in read_lines(tmp_path / "runs" / "on-ray" / "metrics.jsonl")]
    assert max(steps) == 25
    assert len(set(steps)) == len(steps)
