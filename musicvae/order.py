"""Which windows make up global batch k: a pure function of (shard sizes, seed, lanes, batch, k).

The order of epoch e permutes the shards by (seed, e) and the windows within each shard by (seed, e, shard). It is cut
into L consecutive *lanes*, whose lengths over the whole training differ by at most one. A lane's stream is its pieces
of epochs 0, 1, 2, ... joined; global batch k takes b = B / L windows from every lane, lanes in order. Ranks own whole
lanes, so the batch is the same whatever the world size. Nothing is listed, dropped, padded or repeated: positions are
computed, and memory is one permutation a lane.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from musicvae.errors import ConfigError
from musicvae.randomness import Purpose, generator


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
        _check_sizes(sum(shard_windows), lanes, global_batch)
        self.shard_windows = tuple(shard_windows)
        self.seed = seed
        self.lanes = lanes
        self.global_batch = global_batch
        self.num_windows = sum(shard_windows)
        self.starts = np.concatenate([[0], np.cumsum(shard_windows)[:-1]]).astype(np.int64)
        # A lane stays in one shard for many batches; the caches belong to the instance, so that no two orders mix.
        self._shard_order = lru_cache(maxsize=4)(self._compute_shard_order)
        self._window_order = lru_cache(maxsize=2 * lanes)(self._compute_window_order)

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
        positions = range(first, first + self.windows_per_lane)
        return np.array([self.window_at(lane, position) for lane in lanes for position in positions], dtype=np.int64)

    def window_at(self, lane: int, position: int) -> int:
        """The id of a lane's window at a position of its endless stream."""
        total, lanes = self.num_windows, self.lanes
        # Lane l has floor((eN + l) / L) windows before epoch e; solved for the epoch that holds the position.
        epoch = ((position + 1) * lanes - lane - 1) // total
        lane_start = _lanes_before(lane, (epoch + 1) * total, lanes) - _lanes_before(lane, epoch * total, lanes)
        in_epoch = lane_start + position - (epoch * total + lane) // lanes
        shards, ends = self._shard_order(epoch)
        place = int(np.searchsorted(ends, in_epoch, side="right"))
        shard = int(shards[place])
        in_shard = in_epoch - (int(ends[place]) - self.shard_windows[shard])
        return int(self.starts[shard]) + int(self._window_order(epoch, shard)[in_shard])

    def _compute_shard_order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        shards = generator(self.seed, Purpose.SHARD_ORDER, epoch).permutation(len(self.shard_windows))
        return shards, np.cumsum(np.asarray(self.shard_windows)[shards])

    def _compute_window_order(self, epoch: int, shard: int) -> np.ndarray:
        return generator(self.seed, Purpose.WINDOW_ORDER, epoch, shard).permutation(self.shard_windows[shard])


def _lanes_before(lane: int, windows: int, lanes: int) -> int:
    """Sum over l < lane of floor((windows + l) / lanes), in closed form."""
    quotient, remainder = divmod(windows, lanes)
    return lane * quotient + max(0, lane - (lanes - remainder))


def _check_sizes(num_windows: int, lanes: int, global_batch: int) -> None:
    if global_batch % lanes:
        raise ConfigError(
            "the global batch cannot be shared among the lanes",
            expected=f"train.global_batch a multiple of data.lanes ({lanes})",
            found=f"train.global_batch={global_batch}",
            do=f"set train.global_batch={max(lanes, round(global_batch / lanes) * lanes)}",
        )
    if num_windows < global_batch:
        fitting = num_windows // lanes * lanes
        raise ConfigError(
            "there are fewer training windows than one batch needs",
            expected=f"at least train.global_batch={global_batch} windows",
            found=f"{num_windows} training windows, data.lanes={lanes}",
            likely="a small collection, or most files were rejected: see the table of build_shards",
            do=f"set train.global_batch={fitting}"
            if fitting
            else f"set data.lanes={num_windows} train.global_batch={num_windows}"
            if num_windows
            else "add MIDI files",
        )
