"""Figures of playing, where the answer is known."""

import numpy as np
import pytest

from musicvae.groove.played import PlayedHits
from tests.experiments.playing import playing_figures, shuffled_offsets
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID

DRUMS = tuple(DRUM_MAP.classes)
KICK, SNARE, HAT = (DRUMS.index(name) for name in ("kick", "snare", "closed_hihat"))


def test_a_groove_that_repeats_exactly_and_swings():
    """Hats on all sixteenths, late on every second one; kicks 10 ticks before them."""
    rng = np.random.default_rng(0)
    hits = np.zeros((3, GRID.num_steps, len(DRUMS)), dtype=bool)
    hits[:, :, HAT] = hits[:, ::4, KICK] = hits[:, 4::8, SNARE] = True
    velocity = np.tile(rng.integers(20, 127, (3, GRID.steps_per_bar, len(DRUMS))), (1, GRID.bars, 1)) / 127
    velocity[:, :, SNARE] = np.where(np.arange(GRID.num_steps) % 16 == 4, 1.0, 30 / 127)
    offset = np.zeros(hits.shape, dtype=np.float32)
    offset[:, 1::2, HAT], offset[:, ::4, KICK] = [[0.1], [0.2], [0.3]], -10 / 120
    played = PlayedHits(hits, velocity.astype(np.float32), offset)
    figures = playing_figures(played, np.full(3, 125.0), DRUMS, GRID.steps_per_bar)
    assert figures["velocity: correlation with the same cell a bar later"] == pytest.approx(1)
    assert figures["offset: correlation with the same cell a bar later"] == pytest.approx(1)
    assert figures["snare hits below 40, %"] == pytest.approx(50)
    assert figures["median gap on a step, ms: kick and closed hihat"] == pytest.approx(10)
    assert figures["swing: standard deviation over windows, steps"] == pytest.approx(np.std([0.1, 0.2, 0.3]), rel=1e-3)
    shuffled = shuffled_offsets(played, rng)
    assert sorted(shuffled.offset[0][hits[0]]) == sorted(offset[0][hits[0]])
    again = playing_figures(shuffled, np.full(3, 125.0), DRUMS, GRID.steps_per_bar)
    assert again["offset: correlation with the same cell a bar later"] < 0.3
