"""Which windows make up global batch k: a pure function of (shard sizes, seed, lanes, batch, k).

The order of epoch e permutes the shards by (seed, e) and the windows within each shard by (seed, e, shard). It is cut
into L consecutive *lanes*, whose lengths over the whole training differ by at most one. A lane's stream is its pieces
of epochs 0, 1, 2, ... joined; global batch k takes b = B / L windows from every lane, lanes in order. Ranks own whole
lanes, so the batch is the same whatever the world size. Nothing is listed, dropped, padded or repeated: positions are
computed, and memory is the permutations of the shards that the lanes stand in.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from musicvae.data.manifest import ShardManifest
from musicvae.data.settings import check_sizes
from musicvae.randomness import Purpose, generator

Order = tuple[int, int]
"""(epoch, shard): names one permutation of windows."""


def lanes_of_rank(rank: int, world_size: int, lanes: int) -> range:
    """The lanes that a rank owns: floor(rank L / W) to floor((rank + 1) L / W) - 1."""
    return range(rank * lanes // world_size, (rank + 1) * lanes // world_size)


class DataOrder:
    """The order of all training windows over all epochs.

    Args:
        shard_windows: number of windows of each shard, in the manifest's order.
        seed: which order.
        lanes: L, the number of parallel streams; also the largest world size.
        global_batch: B, windows per optimizer step over all ranks.

    Raises:
        ConfigError: L does not divide B, or there are fewer windows than B or L.
    """

    def __init__(self, shard_windows: Sequence[int], *, seed: int, lanes: int, global_batch: int) -> None:
        self.shard_windows = np.array(shard_windows, dtype=np.int64)
        self.num_windows = int(self.shard_windows.sum())
        check_sizes(self.num_windows, lanes=lanes, global_batch=global_batch)
        self.seed = seed
        self.lanes = lanes
        self.global_batch = global_batch
        self.starts = np.cumsum(self.shard_windows) - self.shard_windows
        # Both caches belong to the instance, so that no two orders mix.
        self._shard_order = lru_cache(maxsize=4)(self._compute_shard_order)
        # A lane stays in one shard for many batches. What the last two calls used is kept: more than that, such as
        # a fixed number of permutations, would hold the past epochs of a collection that is one large shard.
        self._window_orders: dict[Order, np.ndarray] = {}
        self._window_orders_before: dict[Order, np.ndarray] = {}

    @classmethod
    def of(cls, manifest: ShardManifest, *, seed: int, lanes: int, global_batch: int) -> "DataOrder":
        """The order of the training windows that a manifest names.

        Raises:
            ConfigError: no train split, or sizes that do not fit, as above.
        """
        shard_windows = [shard.windows for shard in manifest.split("train").shards]
        return cls(shard_windows, seed=seed, lanes=lanes, global_batch=global_batch)

    @property
    def windows_per_lane(self) -> int:
        """b = B / L, what each lane gives to one global batch."""
        return self.global_batch // self.lanes

    def epoch(self, batch: int) -> float:
        """How many epochs lie before global batch k: kB / N. A batch may straddle two epochs."""
        return batch * self.global_batch / self.num_windows

    def windows(self, batch: int, lanes: Sequence[int], *, ahead: int = 0) -> Int64[np.ndarray, " window"]:
        """Window ids that global batch k takes from some lanes, lane by lane; or those `ahead` places later in each."""
        first = batch * self.windows_per_lane + ahead
        positions = np.arange(first, first + self.windows_per_lane, dtype=np.int64)
        epochs, shards, in_shard = self._places(positions, lanes)
        self._window_orders_before, self._window_orders = self._window_orders, {}
        # Neighbours share a permutation as a rule: a lane's windows follow each other.
        changes = np.flatnonzero((np.diff(shards) != 0) | (np.diff(epochs) != 0)) + 1
        bounds = [0, *changes.tolist(), len(shards)]
        first_of_run = bounds[:-1]
        result = self.starts[shards]
        keys = zip(epochs[first_of_run].tolist(), shards[first_of_run].tolist(), strict=True)
        for key, first, last in zip(keys, first_of_run, bounds[1:], strict=True):
            result[first:last] += self._window_order(key)[in_shard[first:last]]
        return result

    def shards(self, batch: int, lanes: Sequence[int]) -> Int64[np.ndarray, " shard"]:
        """The shards, each once, that some lanes stand in at the end of global batch k; computes no permutation."""
        _, shards, _ = self._places(np.array([(batch + 1) * self.windows_per_lane - 1]), lanes)
        return np.unique(shards)

    def _places(
        self, positions: Int64[np.ndarray, " position"], lanes: Sequence[int]
    ) -> tuple[Int64[np.ndarray, " window"], Int64[np.ndarray, " window"], Int64[np.ndarray, " window"]]:
        """(epoch, shard, place in that shard's permutation) of the windows at the same positions of each lane."""
        total, count = self.num_windows, self.lanes
        lane = np.repeat(np.array(lanes, dtype=np.int64), len(positions))
        position = np.tile(positions, len(lanes))
        # Lane l has floor((eN + l) / L) windows before epoch e; solved for the epoch that holds the position.
        epoch = ((position + 1) * count - lane - 1) // total
        lane_start = _lanes_before(lane, (epoch + 1) * total, count) - _lanes_before(lane, epoch * total, count)
        in_epoch = lane_start + position - (epoch * total + lane) // count
        shard, in_shard = np.empty_like(position), np.empty_like(position)
        for number in np.unique(epoch).tolist():
            rows = epoch == number
            shards, ends = self._shard_order(number)
            place = np.searchsorted(ends, in_epoch[rows], side="right")
            shard[rows] = shards[place]
            in_shard[rows] = in_epoch[rows] - (ends[place] - self.shard_windows[shards[place]])
        return epoch, shard, in_shard

    def _window_order(self, key: Order) -> np.ndarray:
        order = self._window_orders.get(key)
        if order is None:
            order = self._window_orders_before.get(key)
            self._window_orders[key] = order = self._compute_window_order(*key) if order is None else order
        return order

    def _compute_shard_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        shards = generator(self.seed, Purpose.SHARD_ORDER, epoch).permutation(len(self.shard_windows))
        return shards, np.cumsum(self.shard_windows[shards])

    def _compute_window_order(self, epoch: int, shard: int) -> np.ndarray:
        windows = int(self.shard_windows[shard])
        order = generator(self.seed, Purpose.WINDOW_ORDER, epoch, shard).permutation(windows)
        return order.astype(np.min_scalar_type(windows))


def _lanes_before(
    lane: Int64[np.ndarray, " window"], windows: Int64[np.ndarray, " window"], lanes: int
) -> Int64[np.ndarray, " window"]:
    """Sum over l < lane of floor((windows + l) / lanes), in closed form."""
    quotient, remainder = np.divmod(windows, lanes)
    return lane * quotient + np.maximum(0, lane - (lanes - remainder))
