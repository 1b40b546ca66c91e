"""Keyed random numbers: good ones, and the same for whoever draws them."""

import itertools

import numpy as np
import pytest

from musicvae.randomness import Purpose, generator, normals, uniforms


def test_uniforms_are_uniform():
    values = uniforms(0, Purpose.LATENT, 3, 0, 20_000, 10)
    assert values.shape == (20_000, 10)
    assert values.min() >= 0
    assert values.max() < 1
    assert np.histogram(values, bins=20, range=(0, 1))[0] == pytest.approx(np.full(20, 10_000), rel=0.05)


def test_normals_have_the_moments_of_normals():
    values = normals(1, Purpose.LATENT, 5, 0, 20_000, 10)
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.01)
    assert (values**3).mean() == pytest.approx(0, abs=0.03)
    assert (values**4).mean() == pytest.approx(3, abs=0.08)
    assert np.abs(np.corrcoef(values.T) - np.eye(10)).max() < 0.03


@pytest.mark.parametrize("draw", [uniforms, normals])
@pytest.mark.parametrize("draws", [1, 3, 4, 7, 64])
def test_a_range_of_places_is_the_same_however_it_is_split(draw, draws):
    whole = draw(2, Purpose.LATENT, 9, 0, 30, draws)
    for cuts in ([0, 30], [0, 1, 30], [0, 7, 8, 19, 30]):
        pieces = [draw(2, Purpose.LATENT, 9, a, b - a, draws) for a, b in itertools.pairwise(cuts)]
        assert np.array_equal(np.concatenate(pieces), whole)


@pytest.mark.parametrize("draw", [uniforms, normals])
def test_seed_purpose_step_and_place_each_make_another_number(draw):
    base = draw(0, Purpose.LATENT, 0, 0, 1, 8)
    others = [
        draw(1, Purpose.LATENT, 0, 0, 1, 8),
        draw(0, Purpose.PRIOR, 0, 0, 1, 8),
        draw(0, Purpose.LATENT, 1, 0, 1, 8),
        draw(0, Purpose.LATENT, 0, 1, 1, 8),
    ]
    assert all(not np.isin(other, base).any() for other in others)
    assert np.array_equal(draw(0, Purpose.LATENT, 0, 0, 1, 8), base)


def test_generators_depend_on_their_place():
    orders = [
        generator(0, Purpose.WINDOW_ORDER, 0, 1).permutation(50),
        generator(0, Purpose.WINDOW_ORDER, 1, 0).permutation(50),
        generator(0, Purpose.SHARD_ORDER, 0, 1).permutation(50),
        generator(1, Purpose.WINDOW_ORDER, 0, 1).permutation(50),
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert np.array_equal(generator(0, Purpose.WINDOW_ORDER, 0, 1).permutation(50), orders[0])


def test_purposes_are_distinct():
    assert len(set(Purpose)) == len(Purpose.__members__)
