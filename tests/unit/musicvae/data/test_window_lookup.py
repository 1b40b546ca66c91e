"""Single windows by their ids: the right ones, in the order asked for, from no more shards than hold them."""

import numpy as np
import pytest

from musicvae.data.manifest import FolderShards, ShardManifest
from musicvae.data.shards import read_shard
from musicvae.data.store import find_windows
from musicvae.errors import ConfigError, DataError
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID


def test_each_id_gives_its_window_in_the_order_asked_for(small_shards):
    manifest = ShardManifest.read(small_shards)
    blocks = [
        read_shard(small_shards / shard.name, shard, grid=GRID, num_drums=DRUM_MAP.num_drums)
        for shard in manifest.split("train").shards
    ]
    tokens = np.concatenate([block.tokens for block in blocks])
    sources = [meta.source for block in blocks for meta in block.meta]
    ids = [199, 0, 70, 69, 130, 131, 0]
    found = find_windows(FolderShards(small_shards), manifest, "train", ids)
    assert [(window.split, window.id) for window in found] == [("train", i) for i in ids]
    assert [window.meta.source for window in found] == [sources[i] for i in ids]
    assert all(np.array_equal(window.groove.tokens, tokens[window.id]) for window in found)


def test_only_the_shards_that_hold_them_are_read(small_shards_copy):
    manifest = ShardManifest.read(small_shards_copy)
    (small_shards_copy / "train-000000.tar").unlink()
    assert len(find_windows(FolderShards(small_shards_copy), manifest, "train", [70, 199])) == 2
    with pytest.raises(DataError, match=r"train-000000\.tar"):
        find_windows(FolderShards(small_shards_copy), manifest, "train", [70, 69])


@pytest.mark.parametrize(("split", "window"), [("train", 200), ("train", -1), ("validation", 41), ("test", 0)])
def test_what_is_not_there_is_refused(small_shards, split, window):
    with pytest.raises(ConfigError, match=f"no window {window} in split|no split 'test'"):
        find_windows(FolderShards(small_shards), ShardManifest.read(small_shards), split, [0, window])
