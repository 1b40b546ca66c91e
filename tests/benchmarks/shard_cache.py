"""What a copy of a remote shard costs beside its transfer: python -m tests.benchmarks.shard_cache

The cache of a machine with 50, 500 and 5,000 copies, all in use, takes copies of one byte, in turn over the sizes. The
time of each must not grow with their number. Then a rank reads each window of shards of 4,096 windows once, which it
copies out of another folder, hashes and verifies.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from musicvae.data.cache import ShardCache
from musicvae.data.manifest import ShardEntry, ShardManifest, SplitEntry
from musicvae.data.remote import RemoteShards
from musicvae.data.shards import write_shard
from musicvae.data.store import WindowStore
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID, patterned_windows

COPIES = (50, 500, 5000)
REPEATS = 100
SHARDS, WINDOWS, TURNS = 8, 4096, 5


def main() -> None:
    """Prints milliseconds of a copy for each number of copies."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {copies: filled(Path(folder) / str(copies), copies) for copies in COPIES}
        seconds: dict[int, list[float]] = {copies: [] for copies in COPIES}
        for repeat in range(REPEATS):
            for copies, cache in caches.items():
                began = time.perf_counter()
                take(cache, copies + repeat)
                seconds[copies].append(time.perf_counter() - began)
        rates = read_rates(Path(folder) / "shards", caches)
    first = statistics.median(seconds[COPIES[0]])
    for copies, times in seconds.items():
        median = statistics.median(times)
        low, high = (1000 * edge for edge in (min(times), max(times)))
        print(f"{copies:6,} copies: {1000 * median:.2f} ms ({low:.2f} to {high:.2f}), ratio {median / first:.2f}")
    for copies, found in rates.items():
        low, high = min(found), max(found)
        print(f"{copies:6,} copies: {statistics.median(found):,.0f} windows/s read ({low:,.0f} to {high:,.0f})")


def filled(folder: Path, copies: int) -> ShardCache:
    """A cache with so many copies."""
    cache = ShardCache(folder, 2**40)
    for number in range(copies):
        take(cache, number)
    return cache


def take(cache: ShardCache, number: int) -> None:
    """Has a copy made."""
    digest = sha256(str(number).encode()).hexdigest()
    cache.get(ShardEntry(f"train-{number:06d}.tar", 1, 1, digest), lambda aside: bool(aside.write_bytes(b"x")) and None)


def read_rates(folder: Path, caches: Mapping[int, ShardCache]) -> dict[int, list[float]]:
    """Windows a second of a rank that comes to a shard in each of its batches."""
    folder.mkdir()
    names = [f"train-{number:06d}.tar" for number in range(SHARDS * TURNS)]
    entries = tuple(write_shard(folder / name, patterned_windows(WINDOWS, seed)) for seed, name in enumerate(names))
    rates: dict[int, list[float]] = {copies: [] for copies in caches}
    for turn in range(TURNS):
        part = entries[SHARDS * turn :][:SHARDS]
        manifest = ShardManifest(GRID, DRUM_MAP, {"train": SplitEntry(SHARDS * WINDOWS, 1, part)})
        for copies, cache in caches.items():
            source = RemoteShards(folder.as_uri(), cache)
            store = WindowStore(source, manifest, "train", cached_blocks=4 * SHARDS)
            began = time.perf_counter()
            store.expect(range(SHARDS))
            for first in range(0, SHARDS * WINDOWS, WINDOWS):
                store.tokens(np.arange(first, first + WINDOWS))
            rates[copies].append(SHARDS * WINDOWS / (time.perf_counter() - began))
    return rates


if __name__ == "__main__":
    main()
