"""The feel of the training data against sums written out by hand, and its file."""

from itertools import pairwise

import numpy as np
import pytest

from musicvae.data.feel import PLAIN_VELOCITY, GrooveFeel, count_feel, feel_of, measure_feel
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.errors import DataError
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import tokens_from_hits
from musicvae.groove.played import PlayedHits

GRID = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2)
DRUMS = 3


def block_of(*windows: dict[tuple[int, int], tuple[int, int]], tempos: list[float] | None = None) -> WindowBlock:
    """Windows from {(step, drum): (MIDI velocity, offset in 1/65536 of a step)}."""
    velocity = np.zeros((len(windows), GRID.num_steps, DRUMS), dtype=np.uint8)
    offset = np.zeros(velocity.shape, dtype=np.int16)
    for row, window in enumerate(windows):
        for (step, drum), (loudness, shift) in window.items():
            velocity[row, step, drum], offset[row, step, drum] = loudness, shift
    tempos = tempos or [120.0] * len(windows)
    meta = [WindowMeta("song", bar, tempo) for bar, tempo in enumerate(tempos)]
    return WindowBlock(tokens_from_hits(velocity > 0), velocity, offset, meta)


def random_block(windows: int) -> WindowBlock:
    rng = np.random.default_rng(windows)
    hits = rng.random((windows, GRID.num_steps, DRUMS)) < 0.4
    velocity = np.where(hits, rng.integers(1, 128, hits.shape), 0).astype(np.uint8)
    offset = np.where(hits, rng.integers(-32768, 32768, hits.shape), 0).astype(np.int16)
    meta = [WindowMeta("song", bar, float(rng.integers(60, 180))) for bar in range(windows)]
    return WindowBlock(tokens_from_hits(hits), velocity, offset, meta)


def test_a_cell_is_the_mean_over_the_bars_and_windows_that_hit_it():
    first = {(0, 0): (100, 8192), (4, 0): (50, -16384)}  # steps 0 and 4 are the same step of a bar of four
    second = {(0, 0): (120, 0)}
    feel = measure_feel([block_of(first), block_of(second)], GRID)
    assert feel.velocity[0, 0] == pytest.approx((100 + 50 + 120) / 3 / 127)
    assert feel.offset[0, 0] == pytest.approx((8192 - 16384) / 3 / 65536)


def test_a_cell_never_hit_falls_back_to_its_class_and_then_to_everything():
    feel = measure_feel([block_of({(0, 0): (100, 0), (1, 0): (60, 0), (2, 1): (20, 0)})], GRID)
    assert feel.velocity[3, 0] == pytest.approx(80 / 127)
    assert feel.velocity[0, 1] == pytest.approx(20 / 127)
    assert feel.velocity[:, 2] == pytest.approx(60 / 127)


def test_windows_without_any_hit_give_the_plain_feel():
    feel = measure_feel([block_of({})], GRID)
    assert feel.velocity == pytest.approx(PLAIN_VELOCITY)
    assert not feel.offset.any()


def test_the_cut_into_blocks_changes_nothing():
    whole = random_block(30)
    cuts = [whole[start:stop] for start, stop in pairwise((0, 1, 7, 30))]
    at_once = measure_feel([whole], GRID)
    in_parts = feel_of([count_feel(cuts[1:], GRID), None, count_feel(cuts[:1], GRID)], GRID)
    for feel in (measure_feel(cuts, GRID), in_parts):
        np.testing.assert_array_equal(at_once.velocity, feel.velocity)
        np.testing.assert_array_equal(at_once.offset, feel.offset)
        np.testing.assert_array_equal(at_once.statistics.hits, feel.statistics.hits)
        assert at_once.tempo == feel.tempo


@pytest.mark.parametrize(
    ("tempos", "median"), [([90.0], 90), ([90.0, 140.0, 100.0], 100), ([200.0, 80.0, 80.0, 80.0, 120.0], 80)]
)
def test_the_tempo_is_the_median_over_windows(tempos: list[float], median: float):
    assert measure_feel([block_of(*[{}] * len(tempos), tempos=tempos)], GRID).tempo == median


def test_the_statistics_of_the_windows_travel_with_the_feel():
    counted = measure_feel([block_of({(0, 0): (1, 0), (5, 0): (1, 0), (5, 2): (1, 0)}, {})], GRID).statistics
    assert (counted.windows, counted.empty, counted.bars) == (2, 1, 4)
    assert counted.empty_share == 0.5
    assert counted.hits_per_bar == 0.75
    np.testing.assert_allclose(counted.class_shares, [2 / 3, 0, 1 / 3])


def test_a_groove_has_the_feel_where_it_has_hits_and_nothing_elsewhere():
    feel = measure_feel([random_block(20)], GRID)
    hits = np.random.default_rng(0).random((GRID.num_steps, DRUMS)) < 0.5
    groove = feel.groove(hits, tempo=99.0, source="here")
    for step, drum in zip(*np.nonzero(hits), strict=True):
        assert groove.velocity[step, drum] == feel.velocity[step % GRID.steps_per_bar, drum]
        assert groove.offset[step, drum] == feel.offset[step % GRID.steps_per_bar, drum]
    assert (groove.tempo, groove.source) == (99.0, "here")
    assert feel.groove(hits).tempo == feel.tempo


def test_hits_that_are_kept_are_played_as_they_were():
    feel, given = measure_feel([random_block(20)], GRID), random_block(2)
    hits = np.random.default_rng(7).random((2, GRID.num_steps, DRUMS)) < 0.6
    velocity, offset = feel.play(hits, given.played())
    for row in range(2):
        groove = given.groove(row, GRID)
        kept, new = groove.hits & hits[row], ~groove.hits & hits[row]
        assert kept.any()
        assert new.any()
        np.testing.assert_array_equal(velocity[row][kept], groove.velocity[kept])
        np.testing.assert_array_equal(offset[row][kept], groove.offset[kept])
        mean = feel.groove(hits[row])
        np.testing.assert_array_equal(velocity[row][new], mean.velocity[new])
        np.testing.assert_array_equal(offset[row][new], mean.offset[new])
        assert not velocity[row][~hits[row]].any()
        alone = feel.groove(hits[row], kept=PlayedHits.of(groove))
        np.testing.assert_array_equal(alone.velocity, velocity[row])
        np.testing.assert_array_equal(alone.offset, offset[row])


def test_one_groove_goes_before_another_and_only_its_first_steps_may_count():
    first, second = (random_block(count).played()[0] for count in (3, 4))
    both = first.before(3).otherwise(second)
    np.testing.assert_array_equal(both.hits[3:], second.hits[3:])
    np.testing.assert_array_equal(both.hits[:3], (first.hits | second.hits)[:3])
    np.testing.assert_array_equal(both.velocity[:3][first.hits[:3]], first.velocity[:3][first.hits[:3]])
    np.testing.assert_array_equal(both.offset[3:][second.hits[3:]], second.offset[3:][second.hits[3:]])
    assert not PlayedHits.none(GRID.num_steps, DRUMS).hits.any()


def test_the_plain_feel_has_one_velocity_and_stays_on_the_grid():
    groove = measure_feel([random_block(20)], GRID).plain().groove(np.ones((GRID.num_steps, DRUMS), dtype=bool))
    assert np.unique(groove.velocity) == pytest.approx(100 / 127)
    assert not groove.offset.any()


def test_a_saved_feel_loads_as_it_was_and_saves_to_the_same_bytes(tmp_path):
    feel = measure_feel([random_block(20)], GRID)
    feel.save(tmp_path / "feel.safetensors")
    loaded = GrooveFeel.load(tmp_path / "feel.safetensors")
    np.testing.assert_array_equal(loaded.velocity, feel.velocity)
    np.testing.assert_array_equal(loaded.offset, feel.offset)
    np.testing.assert_array_equal(loaded.statistics.hits, feel.statistics.hits)
    assert (loaded.grid, loaded.tempo, loaded.statistics.windows) == (GRID, feel.tempo, 20)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "feel.safetensors").read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"no tensors here", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_missing_or_foreign_file_is_named(tmp_path, content: bytes | None):
    path = tmp_path / "feel.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"feel\.safetensors cannot be used"):
        GrooveFeel.load(path)
