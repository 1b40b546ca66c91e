"""Ways through the latent space: end points to the last bit, finite everywhere, distributed as the prior."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.generation.latent import slerp, variations


def codes(count: int, latent: int = 32) -> torch.Tensor:
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(0))


def way_of(start: torch.Tensor, end: torch.Tensor, points: int) -> torch.Tensor:
    return slerp(start, end, torch.arange(points, dtype=torch.float64) / (points - 1))


def test_slerp_follows_the_circle():
    quarter = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([1 / 3, 0.5]))
    torch.testing.assert_close(quarter, torch.tensor([[3**0.5 / 2, 0.5], [0.5**0.5, 0.5**0.5]]))


def test_an_arc_keeps_the_length_that_a_straight_line_loses():
    start, end = codes(2, latent=512)
    middle = slerp(start, end, torch.tensor([0.5]))
    assert middle.norm() == pytest.approx(float(start.norm() + end.norm()) / 2, rel=0.02)
    assert ((start + end) / 2).norm() < 0.8 * middle.norm()


@given(st.integers(0, 2**31), st.integers(2, 40))
@settings(max_examples=50, deadline=None)
def test_the_ends_of_an_interpolation_are_exact(seed: int, points: int):
    start, end = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
    way = way_of(start, end, points)
    assert way.shape == (points, 16)
    assert torch.equal(way[0], start)
    assert torch.equal(way[-1], end)


@pytest.mark.parametrize("scale", [1.0, 3.0, -1.0, -0.5, 0.0, 1 + 1e-7, -1 - 1e-7])
def test_slerp_is_finite_and_exact_at_the_ends_where_no_arc_is_defined(scale: float):
    start = codes(1)[0]
    way = way_of(start, scale * start, 7)
    assert way.isfinite().all()
    assert torch.equal(way[0], start)
    assert torch.equal(way[-1], scale * start)


def test_slerp_between_nearly_opposite_codes_is_finite():
    start = codes(1)[0].double()
    end = -start + 1e-5 * codes(2)[1].double()
    way = way_of(start, end, 9)
    assert way.isfinite().all()
    assert way.norm(dim=1).max() < 1.1 * start.norm()


def test_slerp_between_zeros_is_zero():
    assert not way_of(torch.zeros(8), torch.zeros(8), 3).any()


def test_a_variation_at_distance_0_is_the_code_and_at_1_the_noise():
    mu, noise = codes(4), codes(4).flip(0)
    assert torch.equal(variations(mu, noise, 0.0), mu)
    torch.testing.assert_close(variations(mu, noise, 1.0), noise)


@pytest.mark.parametrize("distance", [0.1, 0.5, 0.9])
def test_variations_of_the_prior_are_distributed_as_the_prior(distance: float):
    mu, noise = codes(2000).chunk(2)
    varied = variations(mu, noise, distance)
    assert varied.std() == pytest.approx(1, abs=0.02)
    correlation = torch.corrcoef(torch.stack([mu.flatten(), varied.flatten()]))[0, 1]
    assert correlation == pytest.approx(math.cos(distance * math.pi / 2), abs=0.02)


@pytest.mark.parametrize("distance", [-0.1, 1.1, float("nan")])
def test_a_distance_outside_0_to_1_is_refused(distance: float):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        variations(codes(1), codes(1), distance)
