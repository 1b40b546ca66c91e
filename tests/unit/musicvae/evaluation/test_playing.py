"""Figures of playing, where the answer is known."""

import numpy as np
import pytest

from musicvae.evaluation.bootstrap import Resamples
from musicvae.evaluation.playing import (
    PlayingScale,
    playing_figures,
    published_values,
    shuffled_offsets,
)
from musicvae.groove.played import PlayedHits
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID

DRUMS = tuple(DRUM_MAP.classes)
KICK, SNARE, HAT = (DRUMS.index(name) for name in ("kick", "snare", "closed_hihat"))
BAR = GRID.steps_per_bar


def repeating(windows: int = 3) -> PlayedHits:
    """Hats on all sixteenths, late on every second one; kicks 10 ticks before them."""
    rng = np.random.default_rng(0)
    hits = np.zeros((windows, GRID.num_steps, len(DRUMS)), dtype=bool)
    hits[:, :, HAT] = hits[:, ::4, KICK] = hits[:, 4::8, SNARE] = True
    velocity = np.tile(rng.integers(20, 127, (windows, BAR, len(DRUMS))), (1, GRID.bars, 1)) / 127
    velocity[:, :, SNARE] = np.where(np.arange(GRID.num_steps) % 16 == 4, 1.0, 30 / 127)
    offset = np.zeros(hits.shape, dtype=np.float32)
    offset[:, 1::2, HAT] = np.linspace(0.1, 0.3, windows)[:, None]
    offset[:, ::4, KICK] = -10 / 120
    return PlayedHits(hits, velocity.astype(np.float32), offset)


def figures_of(played: PlayedHits, performance: np.ndarray) -> dict[str, float]:
    scale = PlayingScale(performance, Resamples(int(performance.max()) + 1, replicates=20, seed=0))
    tempo = np.full(len(performance), 125.0)
    return {name: figure.value for name, figure in playing_figures(played, tempo, DRUMS, BAR, scale).items()}


def test_a_groove_that_repeats_exactly_and_swings():
    played, performance = repeating(), np.arange(3)
    figures = figures_of(played, performance)
    assert figures["velocity: correlation with the same cell a bar later"] == pytest.approx(1)
    assert figures["offset: correlation with the same cell a bar later"] == pytest.approx(1)
    assert figures["snare hits below 40, %"] == pytest.approx(50)
    assert figures["median gap on a step, ms: kick and closed hihat"] == pytest.approx(10)
    assert figures["swing: standard deviation over windows, steps"] == pytest.approx(np.std([0.1, 0.2, 0.3]), rel=1e-3)
    assert figures["offset: standard deviation, steps"] == pytest.approx(played.offset[played.hits].std(), rel=1e-5)
    shuffled = shuffled_offsets(played, 0)
    assert sorted(shuffled.offset[0][played.hits[0]]) == sorted(played.offset[0][played.hits[0]])
    again = figures_of(shuffled, performance)
    assert again["offset: correlation with the same cell a bar later"] < 0.3


def test_figures_are_resampled_by_performance():
    """Every resample of performances gives the figure that is measured on the windows drawn."""
    played, performance = repeating(6), np.array([0, 0, 1, 1, 1, 2])
    resamples = Resamples(3, replicates=10, seed=1)
    scale, tempo = PlayingScale(performance, resamples), np.linspace(90.0, 150.0, 6)
    figures = playing_figures(played, tempo, DRUMS, BAR, scale)
    for place, counts in enumerate(resamples.counts.astype(int).tolist()):
        drawn = np.concatenate(
            [np.flatnonzero(performance == owner) for owner in range(3) for _ in range(counts[owner])]
        )
        part = PlayedHits(played.hits[drawn], played.velocity[drawn], played.offset[drawn])
        plain = PlayingScale(np.zeros(len(drawn), dtype=np.int64), Resamples(1, replicates=1, seed=0))
        for name, figure in playing_figures(part, tempo[drawn], DRUMS, BAR, plain).items():
            # The median of a resample is known to a tenth of a millisecond, and lies between two values if need be.
            tolerance = 2.5 if "median" in name else 1e-4
            assert figures[name].replicates[place] == pytest.approx(figure.value, abs=tolerance, nan_ok=True), name


def test_figures_of_groove_evaluator_as_it_defines_them():
    played = repeating()
    values = published_values(played, np.full(3, 125.0), DRUMS, BAR)
    swing = next(value for name, value in values.items() if name.startswith("swing"))
    np.testing.assert_allclose(swing, [0.2, 0.4, 0.6], rtol=1e-5)
    loudness = next(value for name, value in values.items() if name.startswith("autocorrelation"))
    np.testing.assert_allclose(loudness, np.where(played.hits, played.velocity**2, 0).sum(axis=(1, 2)) / 2, rtol=1e-5)
    similarity = next(value for name, value in values.items() if name.startswith("velocity similarity"))
    np.testing.assert_allclose(similarity, 1)
    assert values["offset: mean"].shape == (3,)
