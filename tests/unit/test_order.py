"""The order of training windows: a pure function, the same for every topology."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.errors import ConfigError
from musicvae.order import DataOrder, lanes_of_rank


def batch(order: DataOrder, number: int, world_size: int = 1) -> list[int]:
    """A global batch as the ranks together make it, in rank order."""
    shares = [order.windows(number, lanes_of_rank(rank, world_size, order.lanes)) for rank in range(world_size)]
    return np.concatenate(shares).tolist()


orders = st.builds(
    lambda shards, lanes, per_lane, seed: (shards, lanes, lanes * per_lane, seed),
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(0, 2**32),
).filter(lambda case: sum(case[0]) >= case[2])


@given(orders)
@settings(max_examples=60, deadline=None)
def test_each_window_once_per_epoch(case):
    shards, lanes, global_batch, seed = case
    order = DataOrder(shards, seed=seed, lanes=lanes, global_batch=global_batch)
    total = sum(shards)
    for epoch in range(3):
        seen = [
            order.window_at(lane, position)
            for lane in range(lanes)
            for position in range((epoch * total + lane) // lanes, ((epoch + 1) * total + lane) // lanes)
        ]
        assert sorted(seen) == list(range(total))


@given(orders, st.integers(1, 12), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_every_world_size_gives_the_same_batches(case, world_size, number):
    shards, lanes, global_batch, seed = case
    order = DataOrder(shards, seed=seed, lanes=lanes, global_batch=global_batch)
    together = batch(order, number)
    assert len(together) == global_batch
    assert batch(order, number, min(world_size, lanes)) == together


@pytest.mark.parametrize("lanes", [8, 64])
@pytest.mark.parametrize("num_shards", [1, 5, 300])
def test_three_epochs_at_several_world_sizes(lanes, num_shards):
    shards = [700 // num_shards + shard % 2 for shard in range(num_shards)]
    order = DataOrder(shards, seed=4, lanes=lanes, global_batch=2 * lanes)
    batches = [batch(order, number) for number in range(3 * order.num_windows // order.global_batch)]
    for world_size in (2, 3, 4, 8):
        assert [batch(order, number, world_size) for number in range(len(batches))] == batches


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


def test_a_hundred_million_windows_need_no_list():
    order = DataOrder([10_000] * 10_000, seed=0, lanes=64, global_batch=512)
    ids = order.windows(123_456, range(64))
    assert len(set(ids.tolist())) == 512
    assert 0 <= ids.min() < ids.max() < 10**8


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
