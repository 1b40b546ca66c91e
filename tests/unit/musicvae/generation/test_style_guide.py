"""Styles are read from codes, and codes with a wanted style are drawn."""

import numpy as np
import pytest
import torch

from musicvae.errors import ConfigError
from musicvae.generation.recipe import PriorSource, codes_of
from musicvae.generation.style_guide import StyleGuide, fit_style_guide
from musicvae.model.prior import StandardPrior

LATENT, WINDOWS = 6, 1200
CENTRES = {"jazz": (1.5, 0.0), "rock": (-1.5, 0.0), "soul": (0.0, 1.5)}
TEMPOS = {"jazz": 160.0, "rock": 110.0, "soul": 80.0}


@pytest.fixture(scope="module")
def guide() -> StyleGuide:
    """Of three styles, each around a centre; every tenth window is of no known style. Tempo grows with dimension 2."""
    chance = np.random.default_rng(0)
    names = [[*CENTRES][row % 3] for row in range(WINDOWS)]
    mu = chance.normal(size=(WINDOWS, LATENT)).astype(np.float32)
    mu[:, :2] = [CENTRES[name] for name in names] + 0.4 * mu[:, :2]
    tempos = np.array([TEMPOS[name] for name in names]) * np.exp(0.2 * mu[:, 2])
    manners = np.array([[TEMPOS[name] / 200, 0.1, np.nan if name == "soul" else 0.0, 0.1, 0.0] for name in names])
    styles = ["" if row % 10 == 0 else name for row, name in enumerate(names)]
    sigma = np.full_like(mu, 0.1)
    guide = fit_style_guide(mu, sigma, styles, tempos, manners.astype(np.float32))
    assert guide is not None
    return guide


def drawn(guide: StyleGuide, styles: str, tempo: float | None = None, *, first: int = 0, count: int = 200):
    origin = PriorSource(guide.wanted(styles, tempo))
    return codes_of(origin, StandardPrior(), LATENT, seed=3, first=first, count=count).numpy()


def test_a_style_is_recognised_and_codes_have_the_wanted_one(guide):
    assert guide.names == ("jazz", "rock", "soul")
    assert guide.recognised(np.array([[*centre, 0, 0, 0, 0] for centre in CENTRES.values()])).tolist() == [0, 1, 2]
    for number, name in enumerate(guide.names):
        codes = drawn(guide, name)
        assert (guide.recognised(codes) == number).mean() > 0.95
        # What says nothing of the style stays as the prior has it.
        assert codes[:, 3:].std() == pytest.approx(1, abs=0.1)
        assert np.abs(codes[:, 3:].mean(axis=0)).max() < 0.25


def test_a_code_is_that_of_its_item_and_a_tempo_moves_it(guide):
    assert np.array_equal(drawn(guide, "rock", first=7, count=5), drawn(guide, "rock", count=12)[7:])
    slow, fast = (drawn(guide, "rock", tempo)[:, 2].mean() for tempo in (85.0, 150.0))
    assert slow < -0.5 < 0.5 < fast


def test_a_mixture_lies_between_its_styles(guide):
    wanted = guide.wanted("rock:3,jazz:1")
    assert wanted.shares == (("rock", 0.75), ("jazz", 0.25))
    assert wanted.main == "rock"
    between = drawn(guide, "rock:1,jazz:1")[:, 0].mean()
    assert drawn(guide, "rock")[:, 0].mean() + 0.5 < between < drawn(guide, "jazz")[:, 0].mean() - 0.5
    assert wanted.median_tempo == pytest.approx(0.75 * guide.tempos[1] + 0.25 * guide.tempos[0], abs=0.001)
    assert wanted.manner[0] == pytest.approx(0.75 * 0.55 + 0.25 * 0.8, abs=1e-4)
    assert np.isnan(guide.wanted({"soul": 1.0}).manner[2]), "no window tells it"
    assert guide.wanted("rock", 93.0).median_tempo == 93.0


@pytest.mark.parametrize("styles", ["rok", "rock,polka", "", "rock:0", "rock:x", "rock:nan"])
def test_what_is_no_style_is_refused_with_all_that_there_are(guide, styles: str):
    with pytest.raises(ConfigError, match="cannot be used") as refused:
        guide.wanted(styles)
    assert "jazz, rock, soul" in str(refused.value)


def test_it_is_read_back_and_other_shapes_are_refused(guide):
    again = StyleGuide.from_tensors(guide.names, guide.tensors())
    codes = torch.randn(8, LATENT)
    assert torch.equal(again.read(codes)[0], guide.read(codes)[0])
    with pytest.raises(ValueError, match="a guide of 2 styles"):
        StyleGuide.from_tensors(guide.names[:2], guide.tensors())


@pytest.mark.parametrize("styles", [["rock"] * 20, [""] * 20])
def test_nothing_is_learnt_where_there_are_not_two_styles(styles: list[str]):
    chance = np.random.default_rng(0)
    codes, manners = chance.normal(size=(20, LATENT)).astype(np.float32), np.zeros((20, 5), np.float32)
    assert fit_style_guide(codes, np.ones_like(codes), styles, np.full(20, 100.0), manners) is None
