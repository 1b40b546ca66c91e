"""Points of a path whose steps change as much as each other."""

import numpy as np
import pytest
import torch

from musicvae.generation.interpolation import FINENESS, even_fractions, expected_changes, hit_probabilities
from musicvae.generation.latent import slerp
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

GRID, DRUMS = GridSpec(bars=2), 4


@pytest.fixture(scope="module")
def model() -> MusicVAE:
    torch.manual_seed(3)
    settings = ModelSettings(latent=16, encoder_hidden=16, conductor_hidden=16, decoder_hidden=16)
    model = MusicVAE(settings, GRID, DRUMS).eval()
    for weight in model.parameters():  # so that z decides something
        torch.nn.init.normal_(weight, std=0.4)
    return model


@pytest.fixture(scope="module")
def ends() -> np.ndarray:
    return (4 * np.random.default_rng(0).standard_normal((2, 16))).astype(np.float32)


def path_of(ends: np.ndarray, fractions: tuple[float, ...]) -> np.ndarray:
    start, end = torch.from_numpy(ends)
    return slerp(start, end, torch.tensor(fractions, dtype=torch.float64)).numpy()


def test_steps_change_as_much_as_each_other(model: MusicVAE, ends: np.ndarray):
    equal = tuple((np.arange(9) / 8).tolist())
    even = even_fractions(model, *ends, 9)
    assert (even[0], even[-1], len(even)) == (0, 1, 9)
    assert (np.diff(even) > 0).all()
    before, after = (expected_changes(model, path_of(ends, fractions)) for fractions in (equal, even))
    assert before.max() > 1.4 * before.mean(), "or there is nothing to even out"
    assert after.max() < 1.2 * after.mean()


def test_the_ends_alone_are_a_path(model: MusicVAE, ends: np.ndarray):
    assert even_fractions(model, *ends, 2) == (0.0, 1.0)


def test_a_path_to_where_one_is_has_equal_fractions(model: MusicVAE, ends: np.ndarray):
    assert even_fractions(model, ends[0], ends[0], 5) == (0, 0.25, 0.5, 0.75, 1)


def test_a_path_of_one_point_is_refused(model: MusicVAE, ends: np.ndarray):
    with pytest.raises(ValueError, match="two ends"):
        even_fractions(model, *ends, 1)


def test_more_points_than_a_batch_change_no_probability(model: MusicVAE, ends: np.ndarray):
    fine = path_of(ends, tuple((np.arange(FINENESS + 1) / FINENESS).tolist()))
    shown = np.zeros((len(fine), GRID.num_steps), dtype=np.int16)
    whole = hit_probabilities(model, fine, shown)
    assert whole.shape == (FINENESS + 1, GRID.num_steps, DRUMS)
    np.testing.assert_allclose(whole[-1:], hit_probabilities(model, fine[-1:], shown[-1:]), atol=1e-6)


def test_hit_probabilities_are_the_tokens_added_up(model: MusicVAE):
    codes = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    shown = np.random.default_rng(1).integers(0, 1 << DRUMS, (3, GRID.num_steps)).astype(np.int16)
    found = hit_probabilities(model, codes, shown)
    with torch.no_grad():
        tokens = model.logits(torch.from_numpy(codes), torch.from_numpy(shown).long()).softmax(dim=-1)
    snare = [token for token in range(1 << DRUMS) if token >> 1 & 1]
    np.testing.assert_allclose(found[..., 1], tokens[..., snare].sum(dim=-1), atol=1e-5)
