"""Copies of shards on disk: the oldest give way, what is in use stays, and what a kill left is cleared."""

import hashlib
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

from musicvae.data import cache as cache_module
from musicvae.data.cache import ABANDONED_SECONDS, IN_USE_SECONDS, ShardCache
from musicvae.data.manifest import ShardEntry
from musicvae.durable import aside_of
from musicvae.errors import ConfigError


def shard(number: int, size: int = 100) -> ShardEntry:
    return ShardEntry(f"train-{number}.tar", 1, size, hashlib.sha256(bytes([number])).hexdigest())


def fetched(aside: Path) -> None:
    aside.write_bytes(bytes(100))


def used(path: Path, when: float) -> None:
    """Lets a copy have been used last at a time, in seconds since the epoch."""
    for file in (path, path.with_suffix(".lock")):
        os.utime(file, (when, when))


def filled(cache: ShardCache, numbers: range) -> dict[int, Path]:
    """Copies of 100 bytes, each last used an hour after the one before, the last of them an hour ago."""
    paths = {}
    for number in numbers:
        paths[number] = cache.get(shard(number), lambda aside: aside.write_bytes(bytes(100)) and None)
        hours = len(numbers) - number
        used(paths[number], time.time() - 3600 * hours)
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
    used(first, time.time() - IN_USE_SECONDS - 9)
    cache.get(shard(2, size=200), lambda aside: aside.write_bytes(bytes(200)) and None)
    assert not first.exists()
    assert second.exists()


def test_using_a_copy_leaves_its_times_by_which_readers_know_it(tmp_path):
    cache = ShardCache(tmp_path, 1000)
    (path,) = filled(cache, range(1)).values()
    before, lock = path.stat(), path.with_suffix(".lock")
    used_before = lock.stat().st_mtime
    cache.get(shard(0), pytest.fail)
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    assert lock.stat().st_mtime > used_before + 3000


def test_what_a_killed_process_left_is_cleared_and_what_grows_is_not(tmp_path):
    old, new = (aside_of(tmp_path / f"{shard(number).sha256}.tar") for number in (7, 8))
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
    assert not [path.name for path in tmp_path.iterdir() if path.suffix in (".tar", ".tmp")]
    filled(cache, range(1))


def test_copies_are_looked_at_only_when_the_limit_is_reached(tmp_path, monkeypatch):
    looked_at: list[Path] = []
    monkeypatch.setattr(cache_module, "_last_use", lambda path: looked_at.append(path) or 0.0)
    cache = ShardCache(tmp_path, 3000)
    for number in range(30):
        cache.get(shard(number), fetched)
    assert not looked_at
    cache.get(shard(30), fetched)
    assert len(looked_at) == 30
    assert len(list(tmp_path.glob("*.tar"))) == 27 + 1, "5% of the limit is cleared beyond what is wanted"
    cache.get(shard(31), fetched)
    assert len(looked_at) == 30, "so the next one finds room"


def test_copies_that_others_removed_are_noticed_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "COUNTED_FETCHES", 3)
    cache = ShardCache(tmp_path, 10_000)
    for path in filled(cache, range(2)).values():
        path.unlink()
    (size,) = tmp_path.glob("user-*-size.lock")
    assert json.loads(size.read_text())[0] == 200
    filled(cache, range(2, 6))
    assert json.loads(size.read_text())[0] == 400


def test_nothing_but_copies_is_removed_or_written_over(tmp_path):
    theirs, elsewhere = ("backup.tar", "editor.lock", ".notes.tar.1.tmp"), tmp_path / "elsewhere"
    cache = ShardCache(tmp_path / "cache", 250)
    (tmp_path / "cache").mkdir()
    for name in theirs:
        (tmp_path / "cache" / name).write_bytes(bytes(100))
        os.utime(tmp_path / "cache" / name, (0, 0))
    elsewhere.write_text("mine")
    (tmp_path / "cache" / f"user-{os.getuid()}-size.lock").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match=r"data\.cache_dir"):
        cache.get(shard(0), fetched)
    assert elsewhere.read_text() == "mine"

    (tmp_path / "cache" / f"user-{os.getuid()}-size.lock").unlink()
    filled(cache, range(4))
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 2 + 1, "two copies and the file that is no copy"
    assert all((tmp_path / "cache" / name).stat().st_size == 100 for name in theirs)


def test_while_all_is_in_use_nobody_counts_again_and_again(tmp_path, monkeypatch):
    counts: list[float] = []
    monkeypatch.setattr(cache_module, "_last_use", lambda path: counts.append(0) or time.time())
    cache = ShardCache(tmp_path, 300)
    for number in range(8):
        cache.get(shard(number), fetched)
    assert len(counts) == 3, "when the fourth came"


def test_a_lock_goes_away_with_its_copy_and_who_waited_for_it_takes_the_next(tmp_path):
    cache = ShardCache(tmp_path, 450)
    filled(cache, range(5))
    assert len(list(tmp_path.glob("*.tar"))) == 4
    assert sorted(path.stem for path in tmp_path.glob("*.tar")) == sorted(
        path.stem for path in tmp_path.glob("*.lock") if not path.name.startswith("user-")
    )
    lock = tmp_path / "waited-for.lock"
    entered = threading.Event()

    def wait() -> None:
        with cache._locked(lock):
            assert lock.exists()
            entered.set()

    with cache._locked(lock):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not entered.wait(0.2)
        lock.unlink()
    waiting.join(30)
    assert entered.is_set()


def test_no_more_fetches_at_once_than_a_machine_is_to_make(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "FETCHES_AT_ONCE", 2)
    cache, at_once, most, lock = ShardCache(tmp_path, 10_000), 0, 0, threading.Lock()

    def fetch(aside: Path) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        fetched(aside)
        with lock:
            at_once -= 1

    threads = [threading.Thread(target=cache.get, args=(shard(number), fetch)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(list(tmp_path.glob("*.tar"))) == 6
    assert most == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"data\.cache_dir"):
        ShardCache(tmp_path / "file" / "cache", 1).get(shard(0), pytest.fail)


def test_the_default_folder_is_this_users_own():
    folder = ShardCache.at().folder
    assert folder.is_relative_to(tempfile.gettempdir())
    assert str(os.getuid()) in str(folder)


@pytest.fixture
def default(tmp_path, monkeypatch) -> Path:
    """The folder that everybody knows the name of, and may make before its owner does."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp" / f"musicvae-{os.getuid()}"


def test_the_default_folder_is_private(default):
    default.mkdir(mode=0o775)
    ShardCache.at().get(shard(0), fetched)
    assert default.stat().st_mode & 0o777 == 0o700


def test_a_link_at_the_place_of_the_default_folder_is_refused(default, tmp_path):
    (tmp_path / "theirs" / "shards").mkdir(parents=True)
    (tmp_path / "theirs" / "shards" / f"{shard(0).sha256}.tar").write_bytes(b"planted")
    default.symlink_to(tmp_path / "theirs")
    with pytest.raises(ConfigError, match="is a link, or belongs to another user"):
        ShardCache.at().get(shard(0), fetched)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder that is another user's")
def test_another_users_folder_at_the_place_of_the_default_one_is_refused(default):
    default.mkdir()
    os.chown(default, 12345, 12345)
    with pytest.raises(ConfigError, match="is a link, or belongs to another user"):
        ShardCache.at().get(shard(0), fetched)


@pytest.mark.parametrize("suffix", ["tar", "lock"])
def test_no_link_inside_is_followed(tmp_path, suffix):
    (tmp_path / "cache").mkdir()
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"planted")
    link = tmp_path / "cache" / f"{shard(0).sha256}.{suffix}"
    link.symlink_to(theirs)
    cache = ShardCache(tmp_path / "cache", 1000)
    if suffix == "lock":
        with pytest.raises(ConfigError, match="cannot keep copies"):
            cache.get(shard(0), fetched)
    else:
        assert cache.get(shard(0), fetched).read_bytes() == bytes(100)
        assert not link.is_symlink()
    assert theirs.read_bytes() == b"planted"
