"""The token windows of a split by their ids, read from shards as they are needed."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int16, Int64

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import BLOCK_WINDOWS
from musicvae.data.sources import ShardSource
from musicvae.data.verified_shards import VerifiedShards


class WindowStore:
    """The token windows of one split by id, with a bounded number of decoded blocks in memory.

    A shard is verified against its hash when it is first read, and again only if its file changes. One thread at a
    time may call `tokens`.

    Args:
        source: where the shards are.
        cached_blocks: how many runs of 1,024 windows are kept, those used last.

    Raises:
        ConfigError: no such split.
    """

    def __init__(self, source: ShardSource, manifest: ShardManifest, split: str, *, cached_blocks: int) -> None:
        self.grid = manifest.grid
        self.num_drums = manifest.drum_map.num_drums
        entries = manifest.split(split).shards
        self._shards = VerifiedShards(source, entries, num_steps=self.grid.num_steps)
        self._windows = np.array([shard.windows for shard in entries], dtype=np.int64)
        self._starts = np.cumsum(self._windows) - self._windows
        self.num_windows = int(self._windows.sum())

        # All cached blocks lie in one array, so that a batch is gathered in one operation. Memory that no block has
        # been read into yet is not taken from the machine.
        blocks = -(-self._windows // BLOCK_WINDOWS)
        total = int(blocks.sum())
        self._first_block = np.cumsum(blocks) - blocks
        self.capacity = min(cached_blocks, total)
        self._blocks = np.empty((self.capacity, BLOCK_WINDOWS, self.grid.num_steps), dtype=np.int16)
        self._slot_of_block = np.full(total, -1, dtype=np.int32)
        self._block_in_slot = np.full(self.capacity, -1, dtype=np.int64)
        self._last_use = np.zeros(self.capacity, dtype=np.int64)
        self._uses = 0

    def tokens(self, window_ids: Int64[np.ndarray, " window"]) -> Int16[np.ndarray, "window step"]:
        """The windows with these ids.

        Raises:
            DataError: a shard is missing, damaged, or was changed while it was in use.
        """
        result = np.empty((len(window_ids), self.grid.num_steps), dtype=np.int16)
        # So many windows cannot need more blocks than there is room for.
        for first in range(0, len(window_ids), self.capacity):
            part = slice(first, first + self.capacity)
            shard = np.searchsorted(self._starts, window_ids[part], side="right") - 1
            in_shard = window_ids[part] - self._starts[shard]
            block = self._first_block[shard] + in_shard // BLOCK_WINDOWS
            result[part] = self._blocks[self._slots(block), in_shard % BLOCK_WINDOWS]
        return result

    def expect(self, shards: Iterable[int]) -> None:
        """Has shards, by their places in the split, made ready in the background; see `VerifiedShards.expect`."""
        self._shards.expect(shards)

    def _slots(self, blocks: Int64[np.ndarray, " window"]) -> Int64[np.ndarray, " window"]:
        """Where the blocks are in the cache; those that are not are read first."""
        self._uses += 1
        slots = self._slot_of_block[blocks]
        self._last_use[slots[slots >= 0]] = self._uses
        if (slots < 0).any():
            for block in np.unique(blocks[slots < 0]).tolist():
                self._load(block)
            slots = self._slot_of_block[blocks]
        return slots.astype(np.int64)

    def _load(self, block: int) -> None:
        slot = int(self._last_use.argmin())
        if (evicted := self._block_in_slot[slot]) >= 0:
            self._slot_of_block[evicted] = -1
        self._block_in_slot[slot] = -1  # until it is whole: an error must leave no half block behind
        shard = int(np.searchsorted(self._first_block, block, side="right")) - 1
        first = (block - int(self._first_block[shard])) * BLOCK_WINDOWS
        count = min(BLOCK_WINDOWS, int(self._windows[shard]) - first)
        self._shards.read(shard, first, self._blocks[slot, :count])
        self._slot_of_block[block] = slot
        self._block_in_slot[slot] = block
        self._last_use[slot] = self._uses
