"""Where codes come from: each a function of origin, seed, draw and the item's own number."""

import numpy as np
import pytest
import torch

from musicvae.generation.latent import slerp
from musicvae.generation.recipe import (
    Interpolation,
    LatentSource,
    Moved,
    PriorSource,
    Square,
    VariationSource,
    codes_of,
)
from musicvae.generation.style_guide import StyleGuide, WantedStyle
from musicvae.model.prior import StandardPrior

LATENT = 6
CODES = np.random.default_rng(0).standard_normal((3, LATENT)).astype(np.float32)
GUIDE = StyleGuide(
    ("jazz", "rock"),
    *(np.random.default_rng(1).standard_normal(s).astype(np.float32) for s in ((4, LATENT), 4, (4, 4), 4, (2, 5), 2)),
)
SHIFT = np.arange(LATENT, dtype=np.float32)
ORIGINS: dict[str, LatentSource] = {
    "prior": PriorSource(),
    "style": PriorSource(WantedStyle(GUIDE, (("rock", 1.0),))),
    "like": VariationSource(CODES, 0.4),
    "interpolation": Interpolation(CODES[0], CODES[1], (0.0, 0.1, 0.5, 0.9, 1.0)),
    "square": Square(
        (
            Interpolation(CODES[0], CODES[1], (0.0, 0.3, 1.0)),
            Interpolation(CODES[1], CODES[2], (0.0, 0.6, 1.0)),
            Interpolation(CODES[2], CODES[0], (0.0, 0.5, 1.0)),
            Interpolation(CODES[0], CODES[2], (0.0, 0.1, 1.0)),
        )
    ),
    "moved": Moved(VariationSource(CODES, 0.4), SHIFT),
}


def codes(origin: LatentSource, *, seed: int = 1, first: int = 0, count: int = 12, draw: int = 0) -> torch.Tensor:
    return codes_of(origin, StandardPrior(), LATENT, seed=seed, first=first, count=count, draw=draw)


@pytest.mark.parametrize("name", ORIGINS)
def test_a_code_is_that_of_its_item_wherever_a_batch_begins(name: str):
    whole = codes(ORIGINS[name])
    assert whole.shape == (12, LATENT)
    assert whole.dtype == torch.float32
    assert torch.equal(codes(ORIGINS[name], first=7, count=5), whole[7:])


@pytest.mark.parametrize("name", ["prior", "style", "like", "moved"])
def test_seeds_and_draws_are_independent(name: str):
    one = codes(ORIGINS[name])
    for other in (codes(ORIGINS[name], seed=2), codes(ORIGINS[name], draw=1)):
        assert not torch.isclose(one, other).any()


def test_an_interpolation_goes_from_end_to_end_and_starts_anew():
    way = codes(ORIGINS["interpolation"], count=10)
    start, end = torch.from_numpy(CODES[0]), torch.from_numpy(CODES[1])
    assert torch.equal(way[0], start)
    assert torch.equal(way[4], end)
    assert torch.equal(way[2], slerp(start, end, torch.tensor([0.5]))[0])
    assert torch.equal(way[5:], way[:5])
    assert isinstance(origin := ORIGINS["interpolation"], Interpolation)
    assert [origin.share_of(item) for item in (0, 2, 4, 5)] == [0, 0.5, 1, 0]


def test_a_square_goes_row_by_row_from_the_first_edge_to_the_last():
    square = ORIGINS["square"]
    assert isinstance(square, Square)
    rows = codes(square).reshape(3, 4, LATENT)
    for column, path in enumerate(square.columns):
        assert torch.equal(rows[:, column], path.codes())
    assert (square.shape, square.points) == ((3, 4), 12)
    assert torch.equal(codes(square, first=12), codes(square))
    tempos = [[square.between(4 * row + column, 60.0, 120.0, 90.0, 180.0) for column in range(4)] for row in range(3)]
    np.testing.assert_allclose(tempos, [[60, 80, 100, 120], [75, 100, 125, 150], [90, 120, 150, 180]])


def test_a_point_of_a_square_keeps_the_hits_of_the_nearest_corner_first_and_none_of_an_edge_that_it_is_not_on():
    square = ORIGINS["square"]
    assert isinstance(square, Square)
    assert [square.ends_of(item) for item in (0, 3, 8, 11)] == [(0,) * 4, (1,) * 4, (2,) * 4, (3,) * 4]
    assert [square.ends_of(item) for item in (1, 2, 9)] == [(0, 1, 0, 0), (1, 0, 1, 1), (2, 3, 2, 2)]
    assert square.ends_of(5) == (0, 2, 1, 3)
    assert square.ends_of(6) == (1, 3, 0, 2)


def test_a_move_adds_the_same_to_every_code():
    torch.testing.assert_close(codes(ORIGINS["moved"]), codes(ORIGINS["like"]) + torch.from_numpy(SHIFT))


@pytest.mark.parametrize("fractions", [(0.0,), (), (0.0, 0.5), (0.1, 1.0)])
def test_a_way_without_its_ends_is_refused(fractions: tuple[float, ...]):
    with pytest.raises(ValueError, match="two ends"):
        Interpolation(CODES[0], CODES[1], fractions)
