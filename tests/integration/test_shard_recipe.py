"""The recipe for shards in docs/structure.md: it needs webdataset and numpy, and none of this project."""

import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard
from tests.support.commands import CHECKOUT, ONE_THREAD
from tests.support.pages.fenced_code import fenced
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID

MOST_LINES = 10
ALONE = "import importlib.util\nassert importlib.util.find_spec('musicvae') is None, 'the project can be imported'\n"


@pytest.fixture(scope="module")
def recipe() -> str:
    (found,) = [block for block in fenced(CHECKOUT / "docs" / "structure.md", "python") if "webdataset" in block]
    return found


def run_alone(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code where libraries can be imported but this project cannot: no site, so no editable installation."""
    return subprocess.run(
        [sys.executable, "-S", "-c", ALONE + code],
        cwd=folder,
        env={"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": "", **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_recipe_is_ten_lines(recipe):
    assert len([line for line in recipe.splitlines() if line.strip()]) <= MOST_LINES
    assert "pickle=False" in recipe
    assert "decode(" not in recipe


def test_the_recipe_reads_every_window(recipe, small_shards, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "demo").symlink_to(small_shards)
    result = run_alone(recipe, tmp_path)
    assert result.returncode == 0, result.stderr
    windows: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for line in result.stdout.splitlines():
        split, in_block, hits_of_block = re.match(r"(\w+) (\d+) windows, (\d+) hits", line).groups()  # type: ignore[union-attr]
        windows[split] += int(in_block)
        hits[split] += int(hits_of_block)
    manifest = ShardManifest.read(small_shards)
    assert windows == {split: entry.windows for split, entry in manifest.splits.items()}
    for split, entry in manifest.splits.items():
        blocks = [read_shard(small_shards / s.name, s, grid=GRID, num_drums=DRUM_MAP.num_drums) for s in entry.shards]
        assert hits[split] == sum(np.count_nonzero(block.velocity) for block in blocks)


def test_the_recipe_s_arrays_are_the_windows(recipe, small_shards, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "demo").symlink_to(small_shards)
    result = run_alone(f"{recipe}\nnp.savez('last.npz', tokens, velocity, offset)\nprint(meta[-1])", tmp_path)
    assert result.returncode == 0, result.stderr
    entry = ShardManifest.read(small_shards).split("validation").shards[-1]
    block = read_shard(small_shards / entry.name, entry, grid=GRID, num_drums=DRUM_MAP.num_drums)
    with np.load(tmp_path / "last.npz", allow_pickle=False) as last:
        for number, expected in enumerate((block.tokens, block.velocity, block.offset)):
            assert np.array_equal(last[f"arr_{number}"], expected)
    assert repr(block.meta[-1].source) in result.stdout
