"""Bugs that other implementations of drum models have or had, a test each, named after the bug."""

import math

import numpy as np
import pytest
import torch

from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import Posterior
from musicvae.model.model import MusicVAE
from musicvae.model.objective import NATS_PER_BIT, loss_terms, reconstruction_nats
from musicvae.model.settings import ModelSettings
from musicvae.randomness import Purpose, normals

SIZES = {"latent": 16, "encoder_embedding": 16, "encoder_hidden": 32, "conductor_hidden": 32}
SIZES |= {"conductor_embedding": 32, "decoder_embedding": 16, "decoder_hidden": 64}
SIZES |= {"encoder_layers": 1, "conductor_layers": 1, "decoder_layers": 1}


def make_model(grid: GridSpec, drums: int, **settings: object) -> MusicVAE:
    torch.manual_seed(0)
    return MusicVAE(ModelSettings.model_validate(SIZES | settings), grid, drums)


def some_windows(grid: GridSpec, drums: int, count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 1 << drums, (count, grid.num_steps)))


def test_bug_3_latent_noise_is_uniform_instead_of_normal() -> None:
    noise = normals(0, Purpose.LATENT, 5, 0, 4000, 50).ravel()
    tolerance = 5 / math.sqrt(noise.size)
    assert abs(noise.mean()) < tolerance
    assert abs(noise.var() - 1) < tolerance * math.sqrt(2)
    assert abs((noise**3).mean()) < tolerance * math.sqrt(15)
    assert abs((noise**4).mean() - 3) < tolerance * math.sqrt(96)  # uniform noise of variance 1 has 1.8
    q = Posterior(torch.zeros(4000, 50).double(), torch.ones(4000, 50).double())
    assert torch.equal(q.sample(torch.from_numpy(noise.reshape(4000, 50))).ravel(), torch.from_numpy(noise))


@pytest.mark.parametrize("decoder", ["hierarchical", "flat"])
@pytest.mark.parametrize("features", ["own", "bits"])
def test_bug_4_logits_see_the_token_that_they_predict(decoder: str, features: str) -> None:
    grid = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2)
    model = make_model(grid, 3, decoder=decoder, token_features=features).double()
    tokens, z = some_windows(grid, 3, 2), torch.randn(2, 16).double()
    before = model.logits(z, tokens)
    for step in range(grid.num_steps):
        changed = tokens.clone()
        changed[:, step:] = (changed[:, step:] + 1) % 8
        after = model.logits(z, changed)
        assert torch.equal(after[:, : step + 1], before[:, : step + 1])
        if step + 1 < grid.num_steps:
            assert not torch.equal(after[:, step + 1], before[:, step + 1])


def test_bug_5_kl_is_negative_or_in_another_unit_than_the_free_bits() -> None:
    mu = torch.linspace(-3, 3, 8).double()[:, None]
    sigma = torch.logspace(-2, 1, 8).double()[:, None]
    kl = Posterior(mu, sigma).kl()
    assert (kl >= 0).all()
    assert Posterior(torch.zeros(1, 3), torch.ones(1, 3)).kl().abs().max() == 0

    draws = 200_000
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((draws, 1, 1)))
    z = mu + sigma * noise
    log_q = -0.5 * noise.square() - sigma.log()
    sampled = log_q + 0.5 * z.square()
    standard_error = sampled.std(dim=0) / math.sqrt(draws)
    assert ((sampled.mean(dim=0) - kl).abs() <= 5 * standard_error + 1e-12).all()

    # A window whose KL is exactly its free bits pays nothing, one nat more costs beta.
    q = Posterior(torch.full((1, 4), 1.5).double(), torch.full((1, 4), 0.5).double())
    bits = float(q.kl().sum()) / NATS_PER_BIT
    logits, tokens = torch.zeros(1, 2, 8).double(), torch.zeros(1, 2, dtype=torch.int64)
    at_threshold = loss_terms(q.kl(), logits, tokens, beta=0.7, free_bits=bits)
    assert float(at_threshold.loss - at_threshold.reconstruction) == pytest.approx(0, abs=1e-12)
    above = loss_terms(q.kl(), logits, tokens, beta=0.7, free_bits=bits - 1 / NATS_PER_BIT)
    assert float(above.loss - above.reconstruction) == pytest.approx(0.7)


@pytest.mark.parametrize("decoder", ["hierarchical", pytest.param("flat", marks=pytest.mark.slow)])
def test_bug_6_model_cannot_even_learn_eight_windows(decoder: str) -> None:
    """Over 99% of the tokens right when decoded free-running from mu, of eight windows of random tokens."""
    grid = GridSpec(bars=4, beats_per_bar=2, steps_per_beat=2)
    model, tokens = make_model(grid, 4, decoder=decoder), some_windows(grid, 4, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(400):
        posterior = model.encode(tokens)
        noise = torch.from_numpy(normals(0, Purpose.LATENT, step, 0, 8, 16))
        logits = model.logits(posterior.sample(noise), tokens)
        loss_terms(posterior.kl(), logits, tokens, beta=0.01, free_bits=0.0).loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    accuracy = (model.generate(model.encode(tokens).mu) == tokens).double().mean()
    assert accuracy > 0.99


def test_bug_11_cross_entropy_of_probabilities_instead_of_logits() -> None:
    tokens = torch.tensor([[1, 0]])
    logits = torch.tensor([[[0.0, 5.0, -3.0], [2.0, 2.0, 2.0]]]).double()
    expected = -torch.log(torch.exp(logits) / torch.exp(logits).sum(dim=-1, keepdim=True))
    nats = reconstruction_nats(logits, tokens)
    torch.testing.assert_close(nats, torch.stack([expected[:, 0, 1], expected[:, 1, 0]], dim=1))
    torch.testing.assert_close(reconstruction_nats(logits + 100, tokens), nats)
    # A softmax in front would bound the loss of a certain model from below by log(1 + 2 / e) = .55.
    certain = reconstruction_nats(torch.tensor([[[0.0, 100.0, 0.0]]]), torch.tensor([[1]]))
    assert float(certain) == 0
    # A logarithm of a softmax that underflows would be infinite.
    assert float(reconstruction_nats(torch.tensor([[[0.0, 1000.0]]]), torch.tensor([[0]]))) == 1000


@pytest.mark.parametrize("grid", [GridSpec(), GridSpec(bars=2, beats_per_bar=3), GridSpec(bars=3, steps_per_beat=2)])
def test_bug_12_segment_length_and_conductor_length_are_literals(grid: GridSpec) -> None:
    model = make_model(grid, 3).double()
    z, tokens = torch.randn(2, 16).double(), some_windows(grid, 3, 2)
    assert model.segments(z).shape[1] == grid.bars
    per_bar, before = grid.steps_per_bar, model.logits(z, tokens)
    for bar in range(1, grid.bars):
        start = bar * per_bar
        # Reset: within a bar nothing is remembered of the bars before, save their last token, which is shown.
        changed = tokens.clone()
        changed[:, : start - 1] = (changed[:, : start - 1] + 1) % 8
        assert torch.equal(model.logits(z, changed)[:, start : start + per_bar], before[:, start : start + per_bar])
        changed = tokens.clone()
        changed[:, start - 1] = (changed[:, start - 1] + 1) % 8
        assert not torch.equal(model.logits(z, changed)[:, start], before[:, start])
