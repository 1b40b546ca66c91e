"""The token windows of a split by their ids, read from shards as they are needed."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64

from musicvae.manifest import ShardManifest
from musicvae.shards import read_shard


class WindowStore:
    """The token windows of one split by id, with a bounded number of decoded shards in memory."""

    def __init__(self, folder: Path, manifest: ShardManifest, split: str, *, cached_shards: int) -> None:
        self.folder = folder
        self.grid = manifest.grid
        self.num_drums = manifest.drum_map.num_drums
        self.shards = manifest.split(split).shards
        self.starts = np.concatenate([[0], np.cumsum([shard.windows for shard in self.shards])])
        self.cached_shards = cached_shards
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()

    def tokens(self, window_ids: Int64[np.ndarray, " window"]) -> Int16[np.ndarray, "window step"]:
        """The windows with these ids.

        Raises:
            DataError: a shard is missing or damaged.
        """
        result = np.empty((len(window_ids), self.grid.num_steps), dtype=np.int16)
        shard_of = np.searchsorted(self.starts, window_ids, side="right") - 1
        for shard in np.unique(shard_of):
            rows = shard_of == shard
            result[rows] = self._shard(int(shard))[window_ids[rows] - self.starts[shard]]
        return result

    def _shard(self, shard: int) -> np.ndarray:
        if shard not in self._cache:
            windows = read_shard(self.folder, self.shards[shard], grid=self.grid, num_drums=self.num_drums)
            self._cache[shard] = windows.tokens
            if len(self._cache) > self.cached_shards:
                self._cache.popitem(last=False)
        self._cache.move_to_end(shard)
        return self._cache[shard]
