"""Windows recombined from two."""

import numpy as np

from musicvae.data.loader import draws_per_window, recombine
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens

GRID = GridSpec(bars=2)
NUM_DRUMS = 9


def mixed(mix_drums: float, mix_bars: float, count: int = 400):
    rng = np.random.default_rng(0)
    windows, partners = rng.integers(0, 512, (2, count, GRID.num_steps)).astype(np.int16)
    uniforms = rng.random((count, draws_per_window(GRID, NUM_DRUMS)))
    result = recombine(
        windows, partners, uniforms, mix_drums=mix_drums, mix_bars=mix_bars, grid=GRID, num_drums=NUM_DRUMS
    )
    return windows, partners, result


def test_nothing_is_mixed_at_probability_zero():
    windows, _, result = mixed(0.0, 0.0)
    np.testing.assert_array_equal(result, windows)


def test_drums_come_whole_from_one_of_the_two():
    windows, partners, result = (hits_from_tokens(t, NUM_DRUMS) for t in mixed(1.0, 0.0))
    own = (result == windows).all(axis=1)
    other = (result == partners).all(axis=1)
    assert (own | other).all()
    assert 0.4 < other.mean() < 0.6


def test_bars_come_whole_from_one_of_the_two():
    windows, partners, result = (t.reshape(len(t), GRID.bars, -1) for t in mixed(0.0, 1.0))
    own = (result == windows).all(axis=2)
    other = (result == partners).all(axis=2)
    assert (own | other).all()
    assert 0.4 < other.mean() < 0.6


def test_the_share_of_changed_windows_is_the_probability():
    windows, _, result = mixed(0.3, 0.0)
    changed = (windows != result).any(axis=1).mean()
    assert 0.22 < changed < 0.38
