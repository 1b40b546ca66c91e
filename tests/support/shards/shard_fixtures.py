"""Shards that whole commands read in tests."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.shards import write_shard
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from tests.support.commands import ok, run_job

GRID = GridSpec()
DRUM_MAP = DrumMap.load("general_midi")
STYLES = ("jazz/swing", "jazz", "", "rock")
"""Of `styled_windows`, in turn."""
SMALL_SPLITS = {"train": (70, 61, 69), "validation": (41,)}


def patterned_windows(count: int, seed: int) -> WindowBlock:
    """Windows of a few repeating one-bar patterns with some noise: a model can learn them, yet no two are equal."""
    rng = np.random.default_rng(seed)
    bars = np.random.default_rng(0).random((6, GRID.steps_per_bar, DRUM_MAP.num_drums)) < 0.15
    hits = np.tile(bars[rng.integers(0, 6, count)], (1, GRID.bars, 1)) ^ (
        rng.random((count, GRID.num_steps, DRUM_MAP.num_drums)) < 0.01
    )
    tokens = (hits * (1 << np.arange(DRUM_MAP.num_drums))).sum(axis=-1).astype(np.int16)
    velocity = np.where(hits, rng.integers(1, 128, hits.shape), 0).astype(np.uint8)
    offset = np.where(hits, rng.integers(-9000, 9000, hits.shape), 0).astype(np.int16)
    return WindowBlock(tokens, velocity, offset, [WindowMeta(f"{seed}-{i}.mid", 0, 100.0 + i) for i in range(count)])


def styled_windows(count: int, seed: int = 0, styles: Sequence[str] = STYLES) -> WindowBlock:
    """Windows whose velocity, timing and tempo differ from style to style."""
    block = patterned_windows(count, seed)
    kind = np.arange(count) % len(styles)
    hit = block.velocity > 0
    velocity = np.where(hit, 40 + 20 * kind[:, None, None], 0).astype(np.uint8)
    offset = np.where(hit, 4096 * (kind[:, None, None] - 1), 0).astype(np.int16)
    meta = [
        replace(one, style=styles[own], tempo=100.0 + row)
        for row, (one, own) in enumerate(zip(block.meta, kind.tolist(), strict=True))
    ]
    return WindowBlock(block.tokens, velocity, offset, meta)


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 training windows in three shards and 41 validation windows; not to be changed."""
    folder = tmp_path_factory.mktemp("shards") / "small"
    folder.mkdir()
    splits = {}
    seed = 0
    for split, counts in SMALL_SPLITS.items():
        entries = []
        for number, count in enumerate(counts):
            seed += 1
            entries.append(write_shard(folder / f"{split}-{number:06d}.tar", patterned_windows(count, seed)))
        splits[split] = SplitEntry(sum(counts), sum(counts), tuple(entries))
    ShardManifest(GRID, DRUM_MAP, splits).write(folder)
    return folder


@pytest.fixture
def small_shards_copy(small_shards: Path, tmp_path: Path) -> Path:
    """A copy of `small_shards` that a test may damage."""
    return Path(shutil.copytree(small_shards, tmp_path / "shards"))


@pytest.fixture(scope="session")
def groove_shards(groove_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GMD's train and validation windows."""
    folder = tmp_path_factory.mktemp("shards") / "groove"
    ok(run_job("build_shards", "--source", "groove", "--out", folder, "--workers", 0, GROOVE_DIR=str(groove_dir)))
    return folder
