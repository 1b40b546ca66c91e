"""The order of training windows: a pure function, the same for every topology."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.data.order import DataOrder, lanes_of_rank
from musicvae.errors import ConfigError
from musicvae.randomness import Purpose, generator

pytestmark = pytest.mark.usefixtures("without_shape_checks")


def batch(order: DataOrder, number: int, world_size: int = 1) -> list[int]:
    """A global batch as the ranks together make it, in rank order."""
    shares = [order.windows(number, lanes_of_rank(rank, world_size, order.lanes)) for rank in range(world_size)]
    return np.concatenate(shares).tolist()


def reference_streams(order: DataOrder, epochs: int) -> list[list[int]]:
    """What each lane shows in some epochs, as the design says it: every epoch is listed, cut in lanes and joined."""
    total, lanes = order.num_windows, order.lanes
    first_of_shard = np.cumsum([0, *order.shard_windows]).tolist()
    streams: list[list[int]] = [[] for _ in range(lanes)]
    for epoch in range(epochs):
        windows: list[int] = []
        for shard in generator(order.seed, Purpose.SHARD_ORDER, epoch).permutation(len(order.shard_windows)).tolist():
            permuted = generator(order.seed, Purpose.WINDOW_ORDER, epoch, shard).permutation(order.shard_windows[shard])
            windows += (first_of_shard[shard] + permuted).tolist()
        start = 0
        for lane, stream in enumerate(streams):
            share = ((epoch + 1) * total + lane) // lanes - (epoch * total + lane) // lanes
            stream += windows[start : start + share]
            start += share
        assert start == total
    return streams


def reference_batches(order: DataOrder, epochs: int) -> list[list[int]]:
    """The global batches that some whole epochs fill."""
    streams, share = reference_streams(order, epochs), order.windows_per_lane
    count = min(map(len, streams)) // share
    return [[w for stream in streams for w in stream[k * share : (k + 1) * share]] for k in range(count)]


orders = st.builds(
    lambda shards, lanes, per_lane, seed: (shards, lanes, lanes * per_lane, seed),
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(0, 2**32),
).filter(lambda case: sum(case[0]) >= case[2])


@given(orders)
@settings(max_examples=60, deadline=None)
def test_each_window_once_per_epoch(case):
    shards, lanes, _, seed = case
    order = DataOrder(shards, seed=seed, lanes=lanes, global_batch=lanes)
    total = order.num_windows
    streams = np.array([order.windows(position, range(lanes)) for position in range(3 * total // lanes + 1)]).T
    for epoch in range(3):
        seen = [
            streams[lane, (epoch * total + lane) // lanes : ((epoch + 1) * total + lane) // lanes]
            for lane in range(lanes)
        ]
        assert sorted(np.concatenate(seen)) == list(range(total))


@given(orders, st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_world_size_gives_the_batches_of_the_reference_from_any_start(case, world_size, random):
    shards, lanes, global_batch, seed = case
    order = DataOrder(shards, seed=seed, lanes=lanes, global_batch=global_batch)
    expected = reference_batches(order, 3)
    for number in random.sample(range(len(expected)), min(6, len(expected))):
        assert batch(order, number, min(world_size, lanes)) == expected[number]


@pytest.mark.parametrize("lanes", [8, 64])
@pytest.mark.parametrize("num_shards", [1, 5, 300])
def test_three_epochs_at_several_world_sizes(lanes, num_shards):
    shards = [700 // num_shards + shard % 2 for shard in range(num_shards)]
    order = DataOrder(shards, seed=4, lanes=lanes, global_batch=2 * lanes)
    expected = reference_batches(order, 3)
    assert len(expected) >= 3 * order.num_windows // order.global_batch - 1
    for world_size in (1, 2, 3, 4, 8):
        assert [batch(order, number, world_size) for number in range(len(expected))] == expected


def test_epochs_and_seeds_differ():
    def epoch(seed: int, number: int) -> list[int]:
        order = DataOrder([50, 50], seed=seed, lanes=1, global_batch=100)
        return batch(order, number)

    assert epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)
    assert epoch(0, 0) == epoch(0, 0)


def test_windows_ahead_are_what_the_lane_shows_next():
    order = DataOrder([40, 60], seed=1, lanes=4, global_batch=4)
    assert order.windows(6, range(4), ahead=1).tolist() == order.windows(7, range(4)).tolist()


def test_the_shards_that_lanes_stand_in_are_told_without_their_permutations():
    order = DataOrder([3, 50, 9, 20], seed=1, lanes=4, global_batch=8)
    ends = np.cumsum(order.shard_windows)
    for number in range(30):
        lasts = order.windows(number, range(4)).reshape(4, 2)[:, -1]
        expected = np.unique(np.searchsorted(ends, lasts, side="right"))
        assert order.shards(number, range(4)).tolist() == expected.tolist()


def traced_mib(steps: Callable[[], object]) -> float:
    """The largest amount of memory, in MiB, that Python and numpy take while something runs."""
    tracemalloc.start()
    try:
        steps()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_a_hundred_million_windows_need_no_list():
    order = DataOrder([10_000] * 10_000, seed=0, lanes=64, global_batch=512)
    ids = order.windows(123_456, range(64))
    assert len(set(ids.tolist())) == 512
    assert 0 <= ids.min() < ids.max() < 10**8

    def some_batches() -> None:
        order = DataOrder([10_000] * 10_000, seed=0, lanes=64, global_batch=512)
        for number in range(0, 400_000, 10_000):  # two epochs, and new shards at every step
            order.windows(number, range(64))

    assert traced_mib(some_batches) < 16, "a list of the windows alone would be 763 MiB"


@pytest.mark.parametrize("lanes", [1, 64, 1024])
def test_memory_does_not_grow_over_the_epochs_of_one_large_shard(lanes):
    def some_epochs(count: int) -> float:
        order = DataOrder([100_000], seed=0, lanes=lanes, global_batch=1024)

        def batches() -> None:
            for epoch in range(count):
                order.windows(98 * epoch, range(lanes))

        return traced_mib(batches)

    assert some_epochs(20) < some_epochs(5) + 0.1


def test_lanes_of_ranks_are_a_partition():
    for world_size in range(1, 65):
        lanes = [lane for rank in range(world_size) for lane in lanes_of_rank(rank, world_size, 64)]
        assert lanes == list(range(64))


def test_too_few_windows_name_both_numbers_and_a_batch_that_fits():
    with pytest.raises(ConfigError, match=r"64(.|\n)*found\s+40(.|\n)*train.global_batch=40"):
        DataOrder([40], seed=0, lanes=8, global_batch=64)


def test_fewer_windows_than_lanes_suggest_fewer_lanes():
    with pytest.raises(ConfigError, match=r"data\.lanes=5 train\.global_batch=5"):
        DataOrder([5], seed=0, lanes=8, global_batch=8)


def test_lanes_must_divide_the_batch():
    with pytest.raises(ConfigError, match=r"train\.global_batch=16"):
        DataOrder([500], seed=0, lanes=8, global_batch=18)
