"""What a batch costs before the step: microseconds of order, windows, recombination and noise, and the order's memory.

    python tests/benchmarks/order.py [--batches 300]

The order is that of 100 million windows in 10,000 shards. The windows come from shards of 10,000 windows that are
made for it, one for each lane, as a lane stays in one shard for a long time.
"""

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from musicvae.data.loader import RandomDraws, draws_per_window, recombine, training_batches
from musicvae.data.manifest import FolderShards, ShardManifest, SplitEntry
from musicvae.data.order import DataOrder
from musicvae.data.settings import DataSettings
from musicvae.data.shards import write_shard
from musicvae.data.store import WindowStore
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.randomness import Purpose, normals, uniforms

SHARDS, SHARD_WINDOWS, LANES, LATENT = 10_000, 10_000, 64, 256
GRID = GridSpec()


def microseconds(step: Callable[[int], object], batches: int) -> float:
    """The mean CPU time of one batch, after a first one that fills the caches."""
    step(0)
    start = time.process_time()
    for number in range(1, batches + 1):
        step(number)
    return (time.process_time() - start) / batches * 1e6


def order_memory() -> None:
    """Prints what the order of 100 million windows holds, at its start and after many steps."""
    tracemalloc.start()
    order = DataOrder([SHARD_WINDOWS] * SHARDS, seed=0, lanes=LANES, global_batch=512)
    for number in range(3):
        order.windows(number, range(LANES))
    held = [tracemalloc.get_traced_memory()[0]]
    for number in range(0, 400_000, 200):
        order.windows(number, range(LANES))
    held.append(tracemalloc.get_traced_memory()[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    steps = "after 3 and after 400,000 steps"
    print(
        f"order of {SHARDS * SHARD_WINDOWS:,} windows: {held[0] / 1e6:.1f} and {held[1] / 1e6:.1f} MB {steps}, ", end=""
    )
    print(f"peak {peak / 1e6:.1f} MB; a list of them would be {SHARDS * SHARD_WINDOWS * 8 / 1e6:.0f} MB")


def made_shards(folder: Path, num_drums: int, drum_map: DrumMap) -> ShardManifest:
    """One shard for each lane."""
    tokens = np.random.default_rng(0).integers(0, 1 << num_drums, (SHARD_WINDOWS, GRID.num_steps)).astype(np.int16)
    cells = (SHARD_WINDOWS, GRID.num_steps, num_drums)
    meta = [WindowMeta("a.mid", 0, 120.0)] * SHARD_WINDOWS
    block = WindowBlock(tokens, np.zeros(cells, np.uint8), np.zeros(cells, np.int16), meta)
    entries = tuple(write_shard(folder / f"train-{shard:06d}.tar", block) for shard in range(LANES))
    return ShardManifest(GRID, drum_map, {"train": SplitEntry(LANES * SHARD_WINDOWS, 1, entries)})


def batch_cost(store: WindowStore, global_batch: int, batches: int) -> None:
    """Prints the cost of each part of a batch and of a whole one."""
    large = DataOrder([SHARD_WINDOWS] * SHARDS, seed=0, lanes=LANES, global_batch=global_batch)
    order = DataOrder([SHARD_WINDOWS] * LANES, seed=0, lanes=LANES, global_batch=global_batch)
    lanes = range(LANES)
    ids = [order.windows(number, lanes) for number in range(batches + 1)]
    tokens = [store.tokens(of_batch) for of_batch in ids]
    draws = draws_per_window(GRID, store.num_drums)

    def mixed(number: int) -> object:
        chances = uniforms(0, Purpose.RECOMBINATION, number, 0, global_batch, draws)
        both = tokens[number], tokens[number - 1]
        return recombine(*both, chances, mix_drums=0.5, mix_bars=0.5, grid=GRID, num_drums=store.num_drums)

    settings = DataSettings(mix_drums=0.5, mix_bars=0.5)
    whole = iter(
        training_batches(
            store, order, settings, RandomDraws(0, LATENT), rank=0, world_size=1, first=0, last=batches + 1
        )
    )
    parts = {
        "order": lambda number: large.windows(number, lanes),
        "windows": lambda number: store.tokens(ids[number]),
        "recombination": mixed,
        f"noise of {LATENT}": lambda number: normals(0, Purpose.LATENT, number, 0, global_batch, LATENT),
        "whole, recombined": lambda _: next(whole),
    }
    print(f"batch {global_batch}: ", end="")
    print(", ".join(f"{name} {microseconds(part, batches):,.0f} us" for name, part in parts.items()))


def main() -> None:
    """Prints one line for the memory and one for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--batches", type=int, default=300)
    batches = parser.parse_args().batches
    order_memory()
    drum_map = DrumMap.load("general_midi")
    with tempfile.TemporaryDirectory() as folder:
        manifest = made_shards(Path(folder), drum_map.num_drums, drum_map)
        store = WindowStore(FolderShards(Path(folder)), manifest, "train", cached_blocks=2048)
        store.tokens(np.arange(0, LANES * SHARD_WINDOWS, 64))
        for global_batch in (64, 512):
            batch_cost(store, global_batch, batches)


if __name__ == "__main__":
    main()
