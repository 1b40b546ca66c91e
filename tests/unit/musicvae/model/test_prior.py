"""The prior that is learnt: a density, an exact flow, and what training and codes make of it."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from musicvae.generation.generate import decode_codes, encode_windows, generate
from musicvae.generation.latent import variations
from musicvae.generation.recipe import GenerationSettings, PriorSource, VariationSource, codes_of
from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import Posterior
from musicvae.model.model import MusicVAE
from musicvae.model.prior import AutoregressivePrior, StandardPrior
from musicvae.model.settings import ModelSettings
from musicvae.randomness import Purpose, normals

LATENT, SEGMENTS = 6, 3


def learnt_prior(*, trained: bool = True, latent: int = LATENT, segments: int = SEGMENTS) -> AutoregressivePrior:
    torch.manual_seed(0)
    prior = AutoregressivePrior(
        ModelSettings(
            encoder="segments",
            latent=latent,
            latent_segments=segments,
            prior="autoregressive",
            prior_hidden=8,
            prior_heads=2,
        )
    )
    if trained:
        for weight in prior.parameters():
            torch.nn.init.normal_(weight, std=0.4)
    return prior.double().eval()


def noise(count: int = 50, latent: int = LATENT) -> torch.Tensor:
    return torch.randn(count, latent, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_z_and_noise_are_each_other_s_inverse_and_differ() -> None:
    prior = learnt_prior()
    z = prior.z_of(noise())
    assert (z - noise()).abs().max() > 0.1
    torch.testing.assert_close(prior.noise_of(z), noise())


def test_a_segment_follows_those_before_it_and_no_later_one() -> None:
    prior, z = learnt_prior(), noise()
    before = prior.noise_of(z)
    for segment in range(SEGMENTS):
        first = segment * LATENT // SEGMENTS
        changed = z.clone()
        changed[:, first] += 1
        moved = (prior.noise_of(changed) - before).abs().amax(dim=0) > 1e-9
        assert not moved[:first].any()
        assert moved[first], "its own noise"
        assert moved[first + LATENT // SEGMENTS :].all(), "all later segments hear of it"


@pytest.mark.slow
def test_the_density_integrates_to_one() -> None:
    prior = learnt_prior(latent=2, segments=2)
    line = torch.linspace(-12, 12, 601, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    mass = prior.log_density(points).detach().exp().sum() * (line[1] - line[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_the_kl_of_draws_is_the_mean_log_ratio_of_the_densities() -> None:
    prior = learnt_prior()
    mu, sigma = noise(1) * 0.5, noise(1).abs() + 0.3
    draws = 200_000
    posterior = Posterior(mu.expand(draws, -1), sigma.expand(draws, -1))
    z = posterior.sample(torch.randn(draws, LATENT, generator=torch.Generator().manual_seed(2)).double())
    log_posterior = (-0.5 * ((z - mu) / sigma).square() - sigma.log() - 0.5 * math.log(2 * math.pi)).sum(dim=1)
    ratio = log_posterior - prior.log_density(z)
    error = float(ratio.std()) / math.sqrt(draws)
    assert float(prior.kl(posterior, z).sum(dim=1).mean()) == pytest.approx(float(ratio.mean()), abs=5 * error)


def test_training_starts_at_the_standard_prior() -> None:
    prior, standard = learnt_prior(trained=False), StandardPrior()
    posterior = Posterior(noise(), noise().abs() + 0.1)
    torch.testing.assert_close(prior.kl(posterior, noise()), standard.kl(posterior, noise()), rtol=0.01, atol=0.02)
    torch.testing.assert_close(prior.z_of(noise()), noise(), rtol=0.01, atol=0.0)


def model_with(prior: str) -> MusicVAE:
    torch.manual_seed(3)
    settings = ModelSettings(
        latent=8,
        encoder="transformer",
        encoder_hidden=8,
        latent_segments=4,
        prior=prior,
        prior_hidden=8,
        decoder="transformer",
        decoder_hidden=8,
        decoder_embedding=8,
    )
    return MusicVAE(settings, GridSpec(bars=1), 9).eval()


def test_codes_are_z_and_variations_of_them_are_drawn_as_noise() -> None:
    model = model_with("autoregressive")
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    windows = np.random.default_rng(0).integers(0, 512, (20, 16)).astype(np.int16)
    codes = encode_windows(model, windows)
    mu = model.encode(torch.from_numpy(windows).long()).mu
    np.testing.assert_allclose(codes, mu.detach().numpy(), atol=1e-6)
    np.testing.assert_array_equal(decode_codes(model, codes), model.generate(mu).numpy())
    draw = {"seed": 1, "first": 0, "count": 20}
    prior = model.prior
    with torch.no_grad():
        new, varied = (codes_of(origin, prior, 8, **draw) for origin in (PriorSource(), VariationSource(codes, 0.6)))
        drawn = torch.from_numpy(normals(1, Purpose.VARIATION, 0, 0, 20, 8)).float()
        expected = variations(prior.noise_of(torch.from_numpy(codes)), drawn, 0.6)
        torch.testing.assert_close(prior.noise_of(varied), expected, rtol=1e-3, atol=1e-3)
        noise_of_new = torch.from_numpy(normals(1, Purpose.PRIOR, 0, 0, 20, 8)).float()
        torch.testing.assert_close(prior.noise_of(new), noise_of_new, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(codes_of(VariationSource(codes, 0.0), prior, 8, **draw), codes)


def test_new_grooves_go_through_the_prior() -> None:
    model = model_with("autoregressive")
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    recipe = GenerationSettings(PriorSource(), seed=0, temperature=None)
    drawn = next(generate(model, recipe, 64))
    model.prior = StandardPrior()
    assert (next(generate(model, recipe, 64)) != drawn).any()


@pytest.mark.parametrize("wrong", [{"latent_segments": 1}, {"latent_segments": 4, "prior_hidden": 10}])
def test_settings_that_make_no_learnt_prior_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"prior needs latent_segments|prior_heads do not divide"):
        ModelSettings(latent=8, encoder="transformer", prior="autoregressive", **wrong)
