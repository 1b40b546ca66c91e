"""GMD's windows, counted and compared with a reading written apart."""

import csv
import re
from collections import defaultdict
from pathlib import Path

import pytest

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard
from musicvae.data.windows import WindowMeta
from tests.support.commands import ok, run_job
from tests.support.midi.oracle_midi import four_bar_windows, onsets_by_mido, onsets_by_pretty_midi

TRAIN, VALIDATION = 15_694, 1_939
"""4-bar windows of the official splits, as counted for the dataset's description."""
Windows = dict[str, dict[int, list[int]]]


@pytest.fixture(scope="module")
def built(groove_shards: Path) -> tuple[dict[str, Windows], dict[str, WindowMeta]]:
    """Our tokens by split, file and first bar, and the first window's description of each file."""
    manifest = ShardManifest.read(groove_shards)
    tokens: dict[str, Windows] = {}
    metas: dict[str, WindowMeta] = {}
    for split, entry in manifest.splits.items():
        files: Windows = defaultdict(dict)
        for shard in entry.shards:
            block = read_shard(
                groove_shards / shard.name, shard, grid=manifest.grid, num_drums=manifest.drum_map.num_drums
            )
            for meta, window in zip(block.meta, block.tokens.tolist(), strict=True):
                files[meta.source][meta.bar] = window
                metas.setdefault(meta.source, meta)
        tokens[split] = files
    return tokens, metas


def test_the_counts_of_the_official_splits(groove_dir, tmp_path):
    result = ok(
        run_job(
            "build_shards", "--source", "groove", "--out", tmp_path / "s", "--workers", 0, GROOVE_DIR=str(groove_dir)
        )
    )
    rows = re.findall(
        r"│ (\w+) windows +│ +([\d,]+) │\n│ +left out, contained in another split +│ +([\d,]+) │", result.stdout
    )
    counts = {split: (int(kept.replace(",", "")), int(out.replace(",", ""))) for split, kept, out in rows}
    assert counts["validation"] == (VALIDATION, 0)
    assert sum(counts["train"]) == TRAIN
    assert ShardManifest.read(tmp_path / "s").split("train").windows == counts["train"][0]
    assert re.search(r"unknown pitch +│ +0 │", result.stdout)


def test_every_file_is_in_its_official_split(built, groove_dir):
    tokens, metas = built
    with (groove_dir / "info.csv").open(newline="") as table:
        rows = {row["midi_filename"]: row for row in csv.DictReader(table)}
    for split, files in tokens.items():
        assert {rows[name]["split"] for name in files} == {split}
    for name, meta in metas.items():
        assert meta.style == rows[name]["style"]
        assert meta.tempo == pytest.approx(float(rows[name]["bpm"]), abs=0.5)


@pytest.mark.slow
def test_pretty_midi_written_apart_gives_the_same_tokens_in_fifty_files(built, groove_dir):
    tokens, _ = built
    compared = 0
    for name in sorted(tokens["validation"]) + sorted(tokens["train"])[::4]:
        onsets = onsets_by_pretty_midi(groove_dir / name)
        if onsets != onsets_by_mido(groove_dir / name):
            continue  # pretty_midi leaves hits of this file out; mido reads it below
        theirs = four_bar_windows(groove_dir / name, onsets)
        ours = tokens["validation"].get(name) or tokens["train"][name]
        assert {bar: theirs[bar] for bar in ours} == ours, name
        compared += 1
    assert compared >= 50


@pytest.mark.slow
def test_mido_written_apart_gives_every_window_of_every_file_and_the_same_are_left_out(built, groove_dir):
    tokens, _ = built
    with (groove_dir / "info.csv").open(newline="") as table:
        splits = {row["midi_filename"]: row["split"] for row in csv.DictReader(table)}
    theirs = {name: four_bar_windows(groove_dir / name, onsets_by_mido(groove_dir / name)) for name in splits}
    validation = {tuple(w) for name, split in splits.items() if split == "validation" for w in theirs[name].values()}
    for name, windows in theirs.items():
        if splits[name] == "train":
            windows = {bar: window for bar, window in windows.items() if tuple(window) not in validation}
        assert tokens[splits[name]].get(name, {}) == windows, name
