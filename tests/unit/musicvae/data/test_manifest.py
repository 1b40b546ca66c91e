"""The manifest: what it promises and what it refuses."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from musicvae.data.manifest import MANIFEST_NAME, ShardEntry, ShardManifest, SplitEntry
from musicvae.errors import ConfigError, DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

SHARD = ShardEntry("train-000000.tar", 5, 100, "ab" * 32)
MANIFEST = ShardManifest(
    GridSpec(),
    DrumMap.load("roland"),
    {"train": SplitEntry(8, 2, (SHARD, replace(SHARD, name="b.tar", windows=3))), "validation": SplitEntry(0, 0, ())},
)


def test_round_trip(tmp_path):
    MANIFEST.write(tmp_path)
    back = ShardManifest.read(tmp_path)
    assert back.splits == MANIFEST.splits
    assert back.grid == MANIFEST.grid
    assert dict(back.drum_map.pitches) == dict(MANIFEST.drum_map.pitches)
    assert back.fingerprint == MANIFEST.fingerprint
    MANIFEST.write(tmp_path / ".")
    assert list(tmp_path.iterdir()) == [tmp_path / MANIFEST_NAME]


def test_the_fingerprint_follows_the_content():
    other = [
        replace(MANIFEST, grid=GridSpec(bars=2)),
        replace(MANIFEST, drum_map=DrumMap.load("general_midi")),
        replace(MANIFEST, splits={"train": replace(MANIFEST.splits["train"], files=3)}),
        replace(MANIFEST, splits={"train": SplitEntry(5, 2, (replace(SHARD, sha256="ac" * 32),))}),
    ]
    assert len({manifest.fingerprint for manifest in [MANIFEST, *other]}) == 5


def damage(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [{"schema": 2}, {"splits": {}}, {"splits": {"dev": {}}}, {"grid": {"bars": 0}}, {"fingerprint": "0" * 16}],
)
def test_an_edited_manifest_is_refused(tmp_path, changes):
    MANIFEST.write(tmp_path)
    damage(tmp_path, **changes)
    with pytest.raises(DataError, match=r"manifest\.json"):
        ShardManifest.read(tmp_path)


def test_a_cut_manifest_is_refused(tmp_path):
    MANIFEST.write(tmp_path)
    path = tmp_path / MANIFEST_NAME
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match=r"manifest\.json"):
        ShardManifest.read(tmp_path)


def test_no_manifest(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        ShardManifest.read(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no manifest\.json in it"):
        ShardManifest.read(tmp_path)


def test_a_split_that_is_not_there_or_empty():
    assert MANIFEST.split("train").windows == 8
    with pytest.raises(ConfigError, match="no split 'test'"):
        MANIFEST.split("test")
    with pytest.raises(ConfigError, match="which is empty"):
        MANIFEST.split("validation")


@pytest.mark.parametrize("name", ["../a.tar", "a/b.tar", ".a.tar", "/etc/passwd"])
def test_shard_names_stay_in_the_folder(name):
    with pytest.raises(ValueError, match="plain file name"):
        replace(SHARD, name=name)


def test_counts_add_up():
    with pytest.raises(ValueError, match="hold 5 windows"):
        SplitEntry(6, 1, (SHARD,))
    with pytest.raises(ValueError, match="twice"):
        SplitEntry(10, 1, (SHARD, SHARD))
    with pytest.raises(ValueError, match="must hold windows"):
        replace(SHARD, windows=0)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("grid", "bars"), 4.0),
        (("grid", "bars"), 10**9),
        (("grid", "bars"), True),
        (("splits", "train", "windows"), "2"),
        (("splits", "train", "files"), -1),
        (("splits", "train", "shards", 0, "bytes"), 1e9),
        (("drum_map", "pitches", 0, 1, 0), 36.0),
    ],
)
def test_values_of_another_type_or_range_are_damage(small_shards, tmp_path, place, value):
    values = json.loads((small_shards / "manifest.json").read_text())
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match="cannot be used") as raised:
        ShardManifest.read(tmp_path)
    assert "fingerprint" not in raised.value.details["found"]


def test_a_manifest_that_is_nested_without_end_or_no_file_is_damage(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="RecursionError"):
        ShardManifest.read(tmp_path)
    (tmp_path / "manifest.json").unlink()
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(DataError, match="no regular file"):
        ShardManifest.read(tmp_path)
