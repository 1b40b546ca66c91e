"""The importance-weighted bound where -log p(x) is known."""

import numpy as np
import pytest
import torch

from musicvae.evaluation.elbo import evaluate_windows
from musicvae.evaluation.predictions import importance_bounds
from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import Posterior
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

CPU = torch.device("cpu")
GRID = GridSpec(bars=1, beats_per_bar=1, steps_per_beat=2)
DRUMS = 2
TOKENS = np.random.default_rng(0).integers(0, 1 << DRUMS, (6, GRID.num_steps)).astype(np.int16)
IDS = np.arange(6) + 10


class TwoSides(MusicVAE):
    """z of one dimension; every step's token is 3 with probability .9 where z > 0 and .2 elsewhere, else one of 0 to 2.

    p(x) is the mean of the likelihoods of the two sides, each of which has half of the prior. The posterior is off.
    """

    def __init__(self) -> None:
        small = dict.fromkeys(("encoder_hidden", "conductor_hidden", "decoder_hidden", "conductor_embedding"), 4)
        super().__init__(ModelSettings(latent=1, **small), GRID, DRUMS)

    def encode(self, tokens: torch.Tensor) -> Posterior:
        mu = torch.full((len(tokens), 1), 0.4, dtype=torch.float64)
        return Posterior(mu, torch.full_like(mu, 1.3))

    def logits(self, z: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        high = torch.where(z > 0, 0.9, 0.2)[:, :, None].expand(-1, tokens.shape[1], 1)
        return torch.cat([((1 - high) / 3).expand(-1, -1, 3), high], dim=2).log()


def exact() -> np.ndarray:
    threes = (TOKENS == 3).sum(axis=1)
    others = TOKENS.shape[1] - threes
    likelihood = sum(0.5 * high**threes * ((1 - high) / 3) ** others for high in (0.9, 0.2))
    return -np.log(likelihood)


def bounds(model: MusicVAE, *, draws: int, seed: int = 0, rows: int = 4096) -> np.ndarray:
    return importance_bounds(model, TOKENS, IDS, draws=draws, seed=seed, rows=rows, device=CPU)


def test_many_draws_come_to_the_exact_likelihood() -> None:
    np.testing.assert_allclose(bounds(TwoSides(), draws=20_000), exact(), atol=0.05)


def test_more_draws_tighten_the_bound_and_one_is_the_elbo() -> None:
    model = TwoSides()
    means = [np.mean([bounds(model, draws=k, seed=seed) for seed in range(300)]) for k in (1, 4, 32)]
    assert means[0] > means[1] + 0.02 > means[2] + 0.03
    assert means[2] > exact().mean() - 0.01
    one_draw = [evaluate_windows_nats(model, seed) for seed in range(300)]
    assert means[0] == pytest.approx(np.mean(one_draw), abs=0.05)


def evaluate_windows_nats(model: MusicVAE, seed: int) -> float:
    found = evaluate_windows(model, TOKENS, IDS, seed=seed, device=CPU, free_running=False)
    return float((found.reconstruction + found.posterior.kl().sum(dim=1)).mean())


def test_noise_belongs_to_window_and_draw_whatever_the_batch() -> None:
    torch.manual_seed(0)
    model = MusicVAE(ModelSettings(latent=5, decoder_hidden=8), GRID, DRUMS).double().eval()
    expected = bounds(model, draws=8)
    np.testing.assert_allclose(bounds(model, draws=8, rows=3), expected, rtol=1e-12)
    alone = importance_bounds(model, TOKENS[4:5], IDS[4:5], draws=8, seed=0, rows=64, device=CPU)
    np.testing.assert_allclose(alone, expected[4:5], rtol=1e-12)
    assert not np.allclose(bounds(model, draws=8, seed=1), expected, rtol=1e-12)
