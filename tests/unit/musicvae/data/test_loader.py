"""Batches: every topology sees the same windows and the same noise."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from musicvae.data.loader import (
    Batch,
    PlayedBatch,
    PlayingVariation,
    RandomDraws,
    in_background,
    played_batches,
    training_batches,
)
from musicvae.data.manifest import FolderShards, ShardManifest, SplitEntry
from musicvae.data.order import DataOrder
from musicvae.data.settings import DataSettings
from musicvae.data.shards import read_blocks, write_shard
from musicvae.data.store import WindowStore
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.errors import DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

GRID = GridSpec()
DRUM_MAP = DrumMap.load("general_midi")


@pytest.fixture
def shards(tmp_path):
    """Three shards whose windows are told apart by their tokens; returns folder, manifest and all tokens."""
    tokens = np.random.default_rng(0).integers(0, 512, (100, GRID.num_steps)).astype(np.int16)
    entries = []
    for number, (first, last) in enumerate([(0, 34), (34, 67), (67, 100)]):
        count = last - first
        zeros = np.zeros((count, GRID.num_steps, 9))
        block = WindowBlock(
            tokens[first:last], zeros.astype(np.uint8), zeros.astype(np.int16), [WindowMeta("a.mid", 0, 120.0)] * count
        )
        entries.append(write_shard(tmp_path / f"train-{number:06d}.tar", block))
    manifest = ShardManifest(GRID, DRUM_MAP, {"train": SplitEntry(100, 3, tuple(entries))})
    return tmp_path, manifest, tokens


def batches(shards, *, rank=0, world_size=1, first=0, last=8, data=None, draws=None) -> list[Batch]:
    folder, manifest, _ = shards
    data = data or DataSettings(lanes=8)
    store = WindowStore(FolderShards(folder), manifest, "train", cached_blocks=2)
    order = DataOrder([34, 33, 33], seed=5, lanes=8, global_batch=16)
    draws = draws or RandomDraws(seed=5, latent=6, scheduled_sampling=True, word_dropout=0.3)
    return list(training_batches(store, order, data, draws, rank=rank, world_size=world_size, first=first, last=last))


def test_tokens_are_those_of_the_window_ids(shards):
    for batch in batches(shards):
        np.testing.assert_array_equal(batch.tokens.numpy(), shards[2][batch.window_ids])


@pytest.mark.parametrize("world_size", [2, 3, 8])
@pytest.mark.parametrize("data", [DataSettings(lanes=8), DataSettings(lanes=8, mix_drums=0.5, mix_bars=0.5)])
def test_ranks_together_see_what_one_rank_sees(shards, world_size, data):
    alone = batches(shards, data=data)
    shares = [batches(shards, rank=rank, world_size=world_size, data=data) for rank in range(world_size)]
    for number, whole in enumerate(alone):
        for name in ("tokens", "latent_noise", "coins", "choices", "blanked", "mask_keys"):
            joined = torch.cat([getattr(share[number], name) for share in shares])
            assert torch.equal(joined, getattr(whole, name)), name


def test_bug_7_no_augmentation_crosses_splits(shards):
    """Every bar of a recombined window is a bar of the training split."""
    bars = {bar.tobytes() for bar in shards[2].reshape(-1, GRID.steps_per_bar)}
    for batch in batches(shards, data=DataSettings(lanes=8, mix_bars=1.0)):
        mixed = batch.tokens.numpy().astype(np.int16).reshape(-1, GRID.steps_per_bar)
        assert {bar.tobytes() for bar in mixed} <= bars


def test_a_later_start_gives_the_same_batches(shards):
    whole, resumed = batches(shards, last=8), batches(shards, first=5, last=8)
    for expected, found in zip(whole[5:], resumed, strict=True):
        assert torch.equal(expected.tokens, found.tokens)
        assert torch.equal(expected.latent_noise, found.latent_noise)
        assert torch.equal(expected.mask_keys, found.mask_keys)
    keys = torch.cat([batch.mask_keys for batch in whole])
    assert len(keys.unique()) == len(keys) == 8 * 16


@pytest.mark.parametrize("shards_ahead", [0, 1, 3])
def test_shards_are_made_ready_ahead_up_to_so_many_bytes(shards, monkeypatch, shards_ahead):
    """One lane goes through the shards one after the other, here each of the same size."""
    folder, manifest, _ = shards
    size = manifest.split("train").shards[0].bytes
    store = WindowStore(FolderShards(folder), manifest, "train", cached_blocks=3, ahead_mib=shards_ahead * size / 2**20)
    store.shard_bytes[:] = size
    order, expected = DataOrder([34, 33, 33], seed=5, lanes=1, global_batch=1), []
    monkeypatch.setattr(store, "expect", expected.extend)
    data, draws = DataSettings(lanes=1), RandomDraws(seed=5, latent=6)
    ahead, reached = [], []
    for batch in training_batches(store, order, data, draws, rank=0, world_size=1, first=0, last=400):
        (shard,) = order.shards(batch.number, [0])
        reached += [shard] if reached[-1:] != [shard] else []
        ahead.append(len(expected) - len(reached))
    assert max(ahead[:-200]) == shards_ahead
    assert min(ahead[:-200]) >= min(shards_ahead, 1)


def test_pieces_join_to_the_batch(shards):
    batch = batches(shards, last=1)[0]
    for count in (1, 3, 5, 100):
        pieces = batch.pieces(count)
        assert len(pieces) == min(count, 16)
        assert torch.equal(torch.cat([piece.tokens for piece in pieces]), batch.tokens)
        assert [piece.first_place for piece in pieces] == np.cumsum([0, *map(len, pieces)])[:-1].tolist()
        assert np.concatenate([piece.window_ids for piece in pieces]).tolist() == batch.window_ids.tolist()


def test_word_dropout_blanks_the_asked_share(shards):
    blanked = torch.cat([batch.blanked for batch in batches(shards, last=40)])  # type: ignore[misc]
    assert blanked.float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_window_dropout_blanks_whole_windows_beside_single_steps(shards):
    draws = RandomDraws(seed=5, latent=6, word_dropout=0.3, window_dropout=0.4)
    blanked = torch.cat([batch.blanked for batch in batches(shards, last=60, draws=draws)])  # type: ignore[misc]
    whole = blanked.all(dim=1)
    assert whole.float().mean().item() == pytest.approx(0.4, abs=0.04)
    assert blanked[~whole].float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_a_damaged_shard_is_named(shards):
    path = shards[0] / "train-000001.tar"
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-000001\.tar"):
        batches(shards)


def test_the_background_thread_hands_over_batches_and_errors(shards):
    assert [b.number for b in in_background(batches(shards))] == list(range(8))

    def failing():
        yield from batches(shards, last=2)
        raise DataError("gone")

    stream = in_background(failing())
    assert [next(stream).number, next(stream).number] == [0, 1]
    with pytest.raises(DataError, match="gone"):
        next(stream)


def test_a_consumer_that_leaves_early_ends_the_thread(shards):
    stream = in_background(batches(shards))
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "batches"]


VARIATION = PlayingVariation(seed=5, share=0.7, scale=0.15, shift=8.0, ticks=6, hidden=0.5)


def played(folder, *, variation=VARIATION, rank=0, world_size=1, first=0, last=5) -> list[PlayedBatch]:
    source = FolderShards(folder)
    store = WindowStore(source, source.manifest(), "train", cached_blocks=2, played=True)
    order = DataOrder.of(source.manifest(), seed=5, lanes=8, global_batch=16)
    return list(played_batches(store, order, variation, rank=rank, world_size=world_size, first=first, last=last))


def test_played_batches_are_those_of_the_windows_and_the_same_for_every_topology_and_start(small_shards):
    source = FolderShards(small_shards)
    blocks = read_blocks(source, source.manifest(), source.manifest().split("train").shards)
    block = WindowBlock.joined(list(blocks))
    as_played = played(small_shards, variation=replace(VARIATION, share=0.0, hidden=0.0))
    for batch in as_played:
        windows = block.take(batch.window_ids)
        np.testing.assert_array_equal(batch.velocity.numpy(), windows.velocity)
        np.testing.assert_array_equal(batch.tempo.numpy(), [meta.tempo for meta in windows.meta])
        np.testing.assert_allclose(batch.manner.numpy(), windows.played().manner(), atol=0.5 / 120)
        assert abs(batch.ticks.numpy() - windows.offset / (65536 / 120)).max() <= 0.5
    whole = played(small_shards)
    shares = [played(small_shards, rank=rank, world_size=3) for rank in range(3)]
    for number, batch in enumerate(whole):
        for name in ("velocity", "ticks", "tempo", "manner", "mask_keys"):
            joined = torch.cat([getattr(share[number], name) for share in shares])
            torch.testing.assert_close(joined, getattr(batch, name), rtol=0, atol=0, equal_nan=True)
            later = getattr(played(small_shards, first=number)[0], name)
            torch.testing.assert_close(later, getattr(batch, name), rtol=0, atol=0, equal_nan=True)


def test_variations_keep_hits_order_and_saturated_pads_and_stay_within_their_bounds(small_shards):
    as_played, varied = (
        played(small_shards, variation=replace(VARIATION, share=share, hidden=0.0)) for share in (0.0, 1.0)
    )
    for before, after in zip(as_played, varied, strict=True):
        hit = before.velocity > 0
        assert torch.equal(after.velocity > 0, hit)
        assert (after.velocity[before.velocity == 127] == 127).all()
        assert (after.velocity[hit] - before.velocity[hit]).abs().max() <= 0.15 * 127 + 8 + 1
        moved = (after.ticks - before.ticks).where(hit, 0)
        inside = hit & (before.ticks.abs() < 50)
        for window, is_inside in zip(moved, inside, strict=True):
            assert len(window[is_inside].unique()) == 1, "all hits of a window move alike"
        assert moved.abs().max() <= 6
        assert (before.velocity != after.velocity).any()


def test_the_manner_is_hidden_as_often_as_the_settings_say(small_shards):
    manner = torch.cat([batch.manner for batch in played(small_shards, variation=replace(VARIATION, share=0.0))])
    hidden = manner[:, :4].isnan()
    assert 0.3 < hidden.all(dim=1).float().mean() < 0.7
    assert 0.1 < hidden[~hidden.all(dim=1)].float().mean() < 0.4
