"""What a copy of a remote shard costs beside its transfer: python -m tests.benchmarks.shard_cache

The cache of a machine with 50, 500 and 5,000 copies, all in use, takes copies of one byte, in turn over the sizes. The
time of each must not grow with their number.
"""

import statistics
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from musicvae.data.cache import ShardCache
from musicvae.data.manifest import ShardEntry

COPIES = (50, 500, 5000)
REPEATS = 100


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
    first = statistics.median(seconds[COPIES[0]])
    for copies, times in seconds.items():
        median = statistics.median(times)
        low, high = (1000 * edge for edge in (min(times), max(times)))
        print(f"{copies:6,} copies: {1000 * median:.2f} ms ({low:.2f} to {high:.2f}), ratio {median / first:.2f}")


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


if __name__ == "__main__":
    main()
