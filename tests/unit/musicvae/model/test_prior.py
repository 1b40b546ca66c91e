"""Priors that are learnt: densities, exact flows, and what training and codes make of them."""

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
from musicvae.model.model import MusicVAE, new_prior
from musicvae.model.prior import AutoregressivePrior, FlowPrior, StandardPrior
from musicvae.model.settings import ModelSettings
from musicvae.randomness import Purpose, normals

LATENT, SEGMENTS = 6, 3


LEARNT = ("autoregressive", "flow")


def learnt_prior(
    kind: str = "autoregressive", *, trained: bool = True, latent: int = LATENT, segments: int = SEGMENTS
) -> AutoregressivePrior | FlowPrior:
    torch.manual_seed(0)
    common = {"latent": latent, "prior": kind, "prior_hidden": 8}
    if kind == "flow":
        settings = ModelSettings(**common, prior_layers=4)
    else:
        settings = ModelSettings(**common, encoder="segments", latent_segments=segments, prior_heads=2)
    prior = new_prior(settings)
    if trained:
        for weight in prior.parameters():
            torch.nn.init.normal_(weight, std=0.2 if kind == "flow" else 0.4)  # layers of a flow add up
    return prior.double().eval()


def noise(count: int = 50, latent: int = LATENT) -> torch.Tensor:
    return torch.randn(count, latent, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", LEARNT)
def test_z_and_noise_are_each_other_s_inverse_and_differ(kind: str) -> None:
    prior = learnt_prior(kind)
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
@pytest.mark.parametrize("kind", LEARNT)
def test_the_density_integrates_to_one(kind: str) -> None:
    prior = learnt_prior(kind, latent=2, segments=2)
    line = torch.linspace(-12, 12, 601, dtype=torch.float64)
    points = torch.cartesian_prod(line, line)
    mass = prior.log_density(points).detach().exp().sum() * (line[1] - line[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEARNT)
def test_the_kl_of_draws_is_the_mean_log_ratio_of_the_densities(kind: str) -> None:
    prior = learnt_prior(kind)
    mu, sigma = noise(1) * 0.5, noise(1).abs() + 0.3
    draws = 200_000
    posterior = Posterior(mu.expand(draws, -1), sigma.expand(draws, -1))
    z = posterior.sample(torch.randn(draws, LATENT, generator=torch.Generator().manual_seed(2)).double())
    log_posterior = (-0.5 * ((z - mu) / sigma).square() - sigma.log() - 0.5 * math.log(2 * math.pi)).sum(dim=1)
    ratio = log_posterior - prior.log_density(z)
    error = float(ratio.std()) / math.sqrt(draws)
    assert float(prior.kl(posterior, z).sum(dim=1).mean()) == pytest.approx(float(ratio.mean()), abs=5 * error)


def test_every_dimension_of_a_flow_is_moved_by_others_and_each_change_of_z_has_its_volume() -> None:
    prior, z = learnt_prior("flow"), noise(1)[0]
    jacobian = torch.autograd.functional.jacobian(lambda point: prior.noise_of(point[None])[0], z)
    assert (jacobian.abs() > 1e-9).sum(dim=1).min() > 1
    density = prior.log_density(z[None])[0]
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(prior.noise_of(z[None])[0]).sum() + jacobian.det().log()
    torch.testing.assert_close(density, expected)


@pytest.mark.parametrize("kind", LEARNT)
def test_training_starts_at_the_standard_prior(kind: str) -> None:
    prior, standard = learnt_prior(kind, trained=False), StandardPrior()
    torch.testing.assert_close(prior.z_of(noise()), noise(), rtol=0.01, atol=0.0)
    torch.testing.assert_close(prior.log_density(noise()), standard.log_density(noise()), rtol=0.01, atol=0.1)
    if kind == "autoregressive":  # the KL of a flow is exact as a mean over draws alone
        posterior = Posterior(noise(), noise().abs() + 0.1)
        torch.testing.assert_close(prior.kl(posterior, noise()), standard.kl(posterior, noise()), rtol=0.01, atol=0.02)


def test_a_flow_learns_codes_that_do_not_fill_the_standard_prior() -> None:
    """Two heaps of codes: 1.5 nats are to be had, as their second dimensions follow from the first."""
    torch.manual_seed(0)
    prior = new_prior(ModelSettings(latent=2, prior="flow", prior_hidden=16, prior_layers=4)).double()
    side = torch.randint(0, 2, (2000, 1)) * 2.0 - 1
    codes = torch.cat([1.5 * side, -1.5 * side], dim=1) + 0.3 * torch.randn(2000, 2)
    codes = codes.double()
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    before = float(prior.log_density(codes).mean())
    for _ in range(150):
        optimizer.zero_grad()
        loss = -prior.log_density(codes).mean()
        loss.backward()
        optimizer.step()
    assert -float(loss) > before + 1.2
    drawn = prior.z_of(torch.randn(500, 2).double()).detach()
    assert float((drawn[:, 0] * drawn[:, 1] < 0).float().mean()) > 0.9


def model_with(prior: str) -> MusicVAE:
    torch.manual_seed(3)
    settings = ModelSettings(
        latent=8,
        encoder="transformer",
        encoder_hidden=8,
        latent_segments=1 if prior == "flow" else 4,
        prior=prior,
        prior_hidden=8,
        decoder="transformer",
        decoder_hidden=8,
        decoder_embedding=8,
    )
    return MusicVAE(settings, GridSpec(bars=1), 9).eval()


@pytest.mark.parametrize("kind", LEARNT)
def test_codes_are_z_and_variations_of_them_are_drawn_as_noise(kind: str) -> None:
    model = model_with(kind)
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


@pytest.mark.parametrize("kind", LEARNT)
def test_new_grooves_go_through_the_prior(kind: str) -> None:
    model = model_with(kind)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    recipe = GenerationSettings(PriorSource(), seed=0, temperature=None)
    drawn = next(generate(model, recipe, 64))
    model.prior = StandardPrior()
    assert (next(generate(model, recipe, 64)) != drawn).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"latent_segments": 1},
        {"latent_segments": 4, "prior_hidden": 10},
        {"latent_segments": 4, "prior": "flow"},
        {"latent": 1, "prior": "flow"},
    ],
)
def test_settings_that_make_no_learnt_prior_are_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(ValidationError, match=r"prior needs latent|prior_heads do not divide"):
        ModelSettings(**{"latent": 8, "encoder": "transformer", "prior": "autoregressive"} | wrong)
