"""Windows by their ids: only what is needed is read, memory is bounded, and a file that changes is noticed."""

import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from musicvae.data.manifest import FolderShards, ShardEntry, ShardManifest, SplitEntry
from musicvae.data.order import DataOrder
from musicvae.data.shards import BLOCK_WINDOWS, write_shard
from musicvae.data.store import WindowStore, reread_warning
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.errors import DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from tests.support.harm.damage import damage_file, each_damage

GRID = GridSpec()
DRUM_MAP = DrumMap.load("general_midi")
SIZES = (3 * BLOCK_WINDOWS + 5, 2 * BLOCK_WINDOWS, 7)


class WatchedFolder(FolderShards):
    """A folder that notes which shards are asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[str] = []

    def local(self, shard: ShardEntry) -> Path:
        self.asked.append(shard.name)
        return super().local(shard)


Written = tuple[Path, ShardManifest, np.ndarray]


def written(folder: Path, sizes: tuple[int, ...]) -> Written:
    """Shards of random tokens; returns folder, manifest and all tokens."""
    tokens = np.random.default_rng(0).integers(0, 512, (sum(sizes), GRID.num_steps)).astype(np.int16)
    entries, first = [], 0
    for number, size in enumerate(sizes):
        cells = np.zeros((size, GRID.num_steps, 9))
        own = tokens[first : first + size]
        block = WindowBlock(own, cells.astype(np.uint8), cells.astype(np.int16), [WindowMeta("a.mid", 0, 120.0)] * size)
        entries.append(write_shard(folder / f"train-{number:06d}.tar", block))
        first += size
    return folder, ShardManifest(GRID, DRUM_MAP, {"train": SplitEntry(first, 1, tuple(entries))}), tokens


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Written:
    return written(tmp_path_factory.mktemp("shards"), SIZES)


@pytest.fixture
def own_shards(tmp_path) -> Written:
    return written(tmp_path, (40, 60))


def store(shards: Written, *, cached_blocks: int = 3) -> WindowStore:
    return WindowStore(FolderShards(shards[0]), shards[1], "train", cached_blocks=cached_blocks)


@pytest.mark.parametrize("cached_blocks", [1, 2, 5, 2048])
def test_any_windows_in_any_order_and_any_cache(shards, cached_blocks):
    rng = np.random.default_rng(1)
    windows = store(shards, cached_blocks=cached_blocks)
    for count in (1, 300, 4, 0, 1000):
        ids = rng.integers(0, sum(SIZES), count)
        np.testing.assert_array_equal(windows.tokens(ids), shards[2][ids])
    everything = np.arange(sum(SIZES))
    np.testing.assert_array_equal(windows.tokens(everything), shards[2])


def test_memory_is_that_of_the_cached_blocks(tmp_path):
    shards = written(tmp_path, (12 * BLOCK_WINDOWS,))
    windows = store(shards, cached_blocks=4)
    tracemalloc.start()
    for first in range(0, windows.num_windows, 512):
        windows.tokens(np.arange(first, first + 512))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    block_bytes = BLOCK_WINDOWS * GRID.num_steps * 2
    assert peak < 4 * block_bytes, "beyond the cache, which was there before: a block, a chunk of the file, the batch"


def test_a_shard_is_verified_once_and_a_block_read_once_while_it_is_cached(shards):
    source = WatchedFolder(shards[0])
    windows = WindowStore(source, shards[1], "train", cached_blocks=3)
    windows.tokens(np.array([0, 1, 2]))
    assert source.asked == ["train-000000.tar"] * 2, "verified, then one block read"
    windows.tokens(np.array([0, 5]))
    assert len(source.asked) == 2
    windows.tokens(np.array([BLOCK_WINDOWS, SIZES[0]]))
    assert source.asked[2:] == ["train-000000.tar", *["train-000001.tar"] * 2]


def test_a_resume_reads_at_most_one_shard_a_lane(tmp_path):
    sizes = (30,) * 40
    shards = written(tmp_path, sizes)
    order = DataOrder(sizes, seed=3, lanes=8, global_batch=8)
    source = WatchedFolder(shards[0])
    windows = WindowStore(source, shards[1], "train", cached_blocks=2048)
    windows.tokens(order.windows(77, range(8)))
    assert len(set(source.asked)) <= 8


@each_damage
def test_damage_is_found_before_a_token_is_given_out(own_shards, damage):
    damage_file(own_shards[0] / "train-000001.tar", damage)
    windows = store(own_shards)
    np.testing.assert_array_equal(windows.tokens(np.arange(40)), own_shards[2][:40])
    for _ in range(2):  # an error leaves nothing half done behind
        with pytest.raises(DataError, match=r"train-000001\.tar(.|\n)*expected(.|\n)*found(.|\n)*likely(.|\n)*do "):
            windows.tokens(np.array([3, 41]))


def overwritten_in_place(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(1, 1))  # also where the clock of the file system is too coarse to tell


def overwritten_with_its_times_put_back(path: Path) -> None:
    before = path.stat()
    overwritten_in_place(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_another(path: Path) -> None:
    data = path.read_bytes()
    path.rename(path.with_name("old"))
    path.write_bytes(data[:-1024] + bytes([1] * 1024))


@pytest.mark.parametrize(
    "change", [overwritten_in_place, overwritten_with_its_times_put_back, replaced_by_another, Path.unlink]
)
def test_a_shard_that_changes_or_vanishes_during_the_run_is_noticed_at_the_next_read(tmp_path, change):
    shards = written(tmp_path, (2 * BLOCK_WINDOWS,))
    windows = store(shards)
    windows.tokens(np.array([1]))
    change(tmp_path / "train-000000.tar")
    assert windows.tokens(np.array([2])).any(), "what is in memory is right"
    with pytest.raises(DataError, match=r"train-000000\.tar cannot be used(.|\n)*found"):
        windows.tokens(np.array([BLOCK_WINDOWS]))


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def copied_anew(path: Path) -> None:
    data = path.read_bytes()
    path.rename(path.with_name("old"))
    path.write_bytes(data)


@pytest.mark.parametrize("change", [touched, copied_anew])
def test_the_same_bytes_under_another_time_or_inode_go_on(tmp_path, change):
    shards = written(tmp_path, (2 * BLOCK_WINDOWS,))
    windows = store(shards)
    windows.tokens(np.array([1]))
    change(tmp_path / "train-000000.tar")
    np.testing.assert_array_equal(windows.tokens(np.array([BLOCK_WINDOWS])), shards[2][[BLOCK_WINDOWS]])


def test_no_file_stays_open(shards):
    windows = store(shards)
    before = len(list(Path("/proc/self/fd").iterdir()))
    windows.tokens(np.arange(0, sum(SIZES), 100))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_cache_that_holds_less_than_is_read_from_at_a_time_is_warned_of():
    shard_windows = np.array([2048] * 100 + [40_000])
    assert reread_warning(shard_windows, lanes=64, cached_blocks=2 * 63 + 40) is None
    warning = reread_warning(shard_windows, lanes=64, cached_blocks=2 * 63 + 39)
    assert warning is not None
    assert "set data.cached_blocks=166," in warning


class SlowFolder(WatchedFolder):
    """A folder that is as slow as a network, and fetches several shards at once."""

    fetchers = 3

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.at_once = threading.Barrier(3)

    def local(self, shard: ShardEntry) -> Path:
        if shard.name not in self.asked:
            self.at_once.wait(60)
        return super().local(shard)


def test_as_many_shards_are_fetched_at_once_as_the_source_wants(shards):
    source = SlowFolder(shards[0])
    windows = WindowStore(source, shards[1], "train", cached_blocks=9)
    windows.expect(range(3))
    joined_helper()
    assert len(set(source.asked)) == 3
    np.testing.assert_array_equal(windows.tokens(np.arange(9)), shards[2][:9])


def joined_helper() -> None:
    for thread in threading.enumerate():
        if thread.name == "shards":
            thread.join()


def test_expected_shards_are_verified_in_the_background_and_the_thread_ends(shards):
    source = WatchedFolder(shards[0])
    windows = WindowStore(source, shards[1], "train", cached_blocks=9)
    windows.expect([1, 2, 1])
    joined_helper()
    assert source.asked == ["train-000001.tar", "train-000002.tar"]
    windows.tokens(np.array([SIZES[0], sum(SIZES) - 1]))
    assert source.asked[2:] == ["train-000001.tar", "train-000002.tar"], "read, not verified again"


def test_damage_of_an_expected_shard_is_told_when_it_is_read(own_shards):
    damage_file(own_shards[0] / "train-000001.tar", "flipped")
    windows = store(own_shards)
    windows.expect([0, 1])
    joined_helper()
    windows.tokens(np.array([0]))
    with pytest.raises(DataError, match="sha256"):
        windows.tokens(np.array([40]))


def test_reader_and_background_verify_a_shard_once_between_them(tmp_path):
    sizes = (20,) * 60
    shards = written(tmp_path, sizes)
    source = WatchedFolder(tmp_path)
    windows = WindowStore(source, shards[1], "train", cached_blocks=2048)
    windows.expect(range(60))
    np.testing.assert_array_equal(windows.tokens(np.arange(0, 1200, 20)), shards[2][::20])
    joined_helper()
    assert len(source.asked) == 120, "each shard once to verify it, once to read its block"
