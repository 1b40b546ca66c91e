"""Mutual information of window and code where the answer is known."""

import numpy as np
import pytest

from musicvae.evaluation.predictions import log_aggregated_posterior, mutual_information_terms

RNG = np.random.default_rng(0)


def test_density_is_the_mean_of_the_posteriors_densities() -> None:
    mu, sigma = RNG.normal(size=(5, 3)), 0.1 + RNG.random((5, 3))
    z = RNG.normal(size=(5, 3))
    density = np.exp(-0.5 * ((z[:, None] - mu) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(log_aggregated_posterior(z, mu, sigma), np.log(density.prod(axis=2).mean(axis=1)))


def test_a_collapsed_posterior_tells_nothing() -> None:
    mu, sigma = np.zeros((300, 4)), np.ones((300, 4))
    terms = mutual_information_terms(RNG.normal(size=(300, 4)), mu, sigma)
    np.testing.assert_allclose(terms, 0, atol=1e-12)


def test_posteriors_apart_tell_which_window_it_was() -> None:
    mu, sigma = RNG.normal(size=(300, 4)), np.full((300, 4), 1e-4)
    terms = mutual_information_terms(mu + sigma * RNG.normal(size=mu.shape), mu, sigma)
    np.testing.assert_allclose(terms, np.log(300), atol=1e-6)


def test_a_gaussian_channel_has_the_information_that_shannon_gives() -> None:
    """mu from N(0, s^2) and noise sigma: I = 1/2 log(1 + s^2 / sigma^2) a dimension, for many windows."""
    windows, spread, noise = 4000, 1.0, 0.7
    mu, sigma = spread * RNG.normal(size=(windows, 2)), np.full((windows, 2), noise)
    terms = mutual_information_terms(mu + sigma * RNG.normal(size=mu.shape), mu, sigma)
    assert terms.mean() == pytest.approx(2 * 0.5 * np.log(1 + (spread / noise) ** 2), abs=0.05)
    assert terms.max() <= np.log(windows)


def test_no_latent_has_no_information() -> None:
    nothing = np.zeros((7, 0))
    assert mutual_information_terms(nothing, nothing, nothing).tolist() == [0] * 7
