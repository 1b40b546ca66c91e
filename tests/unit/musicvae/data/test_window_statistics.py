"""Statistics over windows: every hit counted once, sums that do not depend on how the windows were cut."""

import json

import numpy as np
import pytest

from musicvae.data.statistics import MOST_HITS, TEMPO_EDGES, WindowStatistics, count_windows
from musicvae.data.windows import OFFSET_UNITS, WindowBlock, WindowMeta
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import tokens_from_hits
from tests.support.shards.shard_fixtures import GRID, patterned_windows

Hit = tuple[int, int, int, int]
"""Step, drum, MIDI velocity, offset in 1/65536 of a step."""


def one_window(*hits: Hit, tempo: float = 120.0, grid: GridSpec = GRID) -> WindowBlock:
    velocity = np.zeros((1, grid.num_steps, 9), dtype=np.uint8)
    offset = np.zeros(velocity.shape, dtype=np.int16)
    for step, drum, loudness, distance in hits:
        velocity[0, step, drum] = loudness
        offset[0, step, drum] = distance
    return WindowBlock(tokens_from_hits(velocity > 0), velocity, offset, [WindowMeta("a.mid", 0, tempo)])


def test_windows_bars_and_hits():
    counted = count_windows(one_window((0, 0, 100, 0), (1, 0, 90, 0), (16, 8, 1, 0)), GRID)
    assert (counted.grooves.windows, counted.grooves.empty, counted.grooves.bars) == (1, 0, 4)
    assert counted.grooves.hits.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert counted.hits_per_bar.tolist() == [2, 1, 1] + [0] * (MOST_HITS - 2)
    assert np.flatnonzero(counted.velocity).tolist() == [1, 90, 100]
    assert counted.mean_velocity == pytest.approx(191 / 3)


def test_an_empty_window_is_counted():
    counted = count_windows(one_window(), GRID)
    assert (counted.grooves.windows, counted.grooves.empty) == (1, 1)
    assert counted.hits_per_bar[0] == 4
    assert (counted.mean_offset, counted.offset_deviation, counted.mean_velocity) == (0, 0, 0)


def test_a_bar_fuller_than_the_last_bin_is_in_the_last_bin():
    full = one_window(*((step, drum, 64, 0) for step in range(16) for drum in range(9)))
    assert count_windows(full, GRID).hits_per_bar[MOST_HITS] == 1


@pytest.mark.parametrize(
    ("tempo", "place"), [(1.0, 0), (39.99, 0), (40.0, 1), (49.9, 1), (50.0, 2), (259.9, 22), (260.0, 23), (9999.0, 23)]
)
def test_tempo_bins_are_open_at_both_ends(tempo, place):
    assert TEMPO_EDGES[[0, -1]].tolist() == [40, 260]
    assert np.flatnonzero(count_windows(one_window(tempo=tempo), GRID).tempo).tolist() == [place]


@pytest.mark.parametrize(("offset", "place"), [(-32768, 0), (-30721, 0), (-30720, 1), (-1, 15), (0, 16), (32767, 31)])
def test_offset_bins_span_half_a_step_to_each_side(offset, place):
    counted = count_windows(one_window((3, 1, 64, offset)), GRID)
    assert np.flatnonzero(counted.offset).tolist() == [place]
    assert counted.mean_offset == offset / OFFSET_UNITS


def test_offset_moments_are_exact():
    windows = patterned_windows(300, seed=5)
    counted = count_windows(windows, GRID)
    offsets = windows.offset[windows.velocity > 0] / OFFSET_UNITS
    assert counted.mean_offset == pytest.approx(offsets.mean(), rel=1e-9)
    assert counted.offset_deviation == pytest.approx(offsets.std(), rel=1e-9)


def test_the_sum_of_parts_is_the_whole_in_any_order():
    windows = patterned_windows(100, seed=3)
    parts = [count_windows(windows[cut], GRID) for cut in (slice(70, 100), slice(0, 1), slice(1, 70))]
    assert sum(parts, WindowStatistics.zero(9)).to_json() == count_windows(windows, GRID).to_json()


def test_sums_do_not_overflow():
    huge = WindowStatistics.from_json(count_windows(one_window((0, 0, 1, -32768)), GRID).to_json())
    for _ in range(40):
        huge = huge + huge
    assert huge.offset_squares == 2**30 * 2**40
    assert huge.mean_offset == -0.5


def test_no_windows_are_zero_of_everything():
    assert count_windows(patterned_windows(1, seed=0)[0:0], GRID).to_json() == WindowStatistics.zero(9).to_json()


def test_other_grids():
    grid = GridSpec(bars=2, beats_per_bar=3, steps_per_beat=2)
    counted = count_windows(one_window((6, 0, 64, 0), (11, 1, 64, 0), grid=grid), grid)
    assert counted.hits_per_bar[:3].tolist() == [1, 0, 1]


def test_json_round_trip():
    values = count_windows(patterned_windows(20, seed=1), GRID).to_json()
    assert WindowStatistics.from_json(json.loads(json.dumps(values))).to_json() == values


@pytest.mark.parametrize("name", ["windows", "bars", "hits", "hits_per_bar", "tempo", "offset", "velocity"])
def test_counts_that_do_not_add_up_are_refused(name):
    values = count_windows(patterned_windows(20, seed=1), GRID).to_json()
    changed = values[name] + 1 if isinstance(values[name], int) else [values[name][0] + 1, *values[name][1:]]
    with pytest.raises(ValueError, match="must hold"):
        WindowStatistics.from_json({**values, name: changed})
