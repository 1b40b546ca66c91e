"""Copies of shards on disk: the oldest give way, what is in use stays, and what a kill left is cleared."""

import hashlib
import os
import tempfile
import time
from pathlib import Path

import pytest

from musicvae.data.cache import ABANDONED_SECONDS, IN_USE_SECONDS, ShardCache
from musicvae.data.manifest import ShardEntry
from musicvae.errors import ConfigError


def shard(number: int, size: int = 100) -> ShardEntry:
    return ShardEntry(f"train-{number}.tar", 1, size, hashlib.sha256(bytes([number])).hexdigest())


def filled(cache: ShardCache, numbers: range) -> dict[int, Path]:
    """Copies of 100 bytes, each last used an hour after the one before, the last of them an hour ago."""
    paths = {}
    for number in numbers:
        paths[number] = cache.get(shard(number), lambda aside: aside.write_bytes(bytes(100)) and None)
        hours = len(numbers) - number
        os.utime(paths[number], (time.time() - 3600 * hours, 0))
    return paths


def test_the_copies_used_longest_ago_give_way(tmp_path):
    cache = ShardCache(tmp_path, 450)
    paths = filled(cache, range(4))
    assert cache.get(shard(0), pytest.fail) == paths[0], "a copy that is there is not fetched"
    cache.get(shard(9), lambda aside: aside.write_bytes(bytes(100)) and None)
    assert [number for number, path in paths.items() if path.exists()] == [0, 2, 3]


def test_a_copy_in_use_stays_even_above_the_limit(tmp_path):
    cache = ShardCache(tmp_path, 200)
    first, second = (cache.get(shard(n), lambda aside: aside.write_bytes(bytes(100)) and None) for n in (0, 1))
    os.utime(first, (time.time() - IN_USE_SECONDS - 9, 0))
    cache.get(shard(2, size=200), lambda aside: aside.write_bytes(bytes(200)) and None)
    assert not first.exists()
    assert second.exists()


def test_using_a_copy_keeps_its_modification_time_by_which_readers_know_it(tmp_path):
    cache = ShardCache(tmp_path, 1000)
    (path,) = filled(cache, range(1)).values()
    before = path.stat()
    cache.get(shard(0), pytest.fail)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_atime > before.st_atime


def test_what_a_killed_process_left_is_cleared_and_what_grows_is_not(tmp_path):
    old, new = tmp_path / ".a.tar.1.tmp", tmp_path / ".b.tar.2.tmp"
    for path in (old, new):
        path.write_bytes(b"part")
    os.utime(old, (0, time.time() - ABANDONED_SECONDS - 9))
    filled(ShardCache(tmp_path, 1000), range(1))
    assert not old.exists()
    assert new.exists()


def test_a_failed_fetch_leaves_nothing_and_the_next_one_succeeds(tmp_path):
    def fails(aside: Path) -> None:
        aside.write_bytes(b"part")
        raise ConnectionError

    cache = ShardCache(tmp_path, 1000)
    with pytest.raises(ConnectionError):
        cache.get(shard(0), fails)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    filled(cache, range(1))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"data\.cache_dir"):
        ShardCache(tmp_path / "file" / "cache", 1).get(shard(0), pytest.fail)


def test_the_default_folder_is_this_users_own():
    folder = ShardCache.at().folder
    assert folder.is_relative_to(tempfile.gettempdir())
    assert str(os.getuid()) in str(folder)
