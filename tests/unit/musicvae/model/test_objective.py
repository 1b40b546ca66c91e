"""The loss and its schedules."""

import math

import pytest
import torch

from musicvae.model.encoders import Posterior
from musicvae.model.objective import NATS_PER_BIT, beta_at, loss_terms, reconstruction_nats, sampling_probability_at
from musicvae.model.settings import ObjectiveSettings


def posterior(seed: int = 0) -> Posterior:
    random = torch.Generator().manual_seed(seed)
    mu = torch.randn(5, 4, generator=random).double()
    return Posterior(mu, torch.rand(5, 4, generator=random).double() * 2 + 0.1)


LOGITS = torch.randn(5, 6, 8, generator=torch.Generator().manual_seed(3)).double()
TOKENS = torch.randint(0, 8, (5, 6), generator=torch.Generator().manual_seed(4))


def test_beta_one_without_free_bits_is_the_negative_elbo() -> None:
    terms = loss_terms(posterior().kl(), LOGITS, TOKENS, beta=1.0, free_bits=0.0)
    torch.testing.assert_close(terms.loss, terms.reconstruction + terms.kl.sum(dim=-1))


def test_reconstruction_is_summed_over_steps_and_never_averaged() -> None:
    log_probability = LOGITS.log_softmax(dim=-1).gather(-1, TOKENS[..., None])[..., 0]
    terms = loss_terms(posterior().kl(), LOGITS, TOKENS, beta=1.0, free_bits=0.0)
    torch.testing.assert_close(terms.reconstruction, -log_probability.sum(dim=-1))


def test_free_bits_are_clamped_per_window_and_cost_and_teach_nothing_below() -> None:
    q = posterior()
    mu = q.mu.clone().requires_grad_()
    kl = q.kl().sum(dim=-1)
    threshold = float(kl.median()) / NATS_PER_BIT
    terms = loss_terms(Posterior(mu, q.sigma).kl(), LOGITS, TOKENS, beta=0.5, free_bits=threshold)
    paid = (terms.loss - terms.reconstruction).detach()
    torch.testing.assert_close(paid, 0.5 * (kl - kl.median()).clamp(min=0))
    terms.loss.sum().backward()
    assert mu.grad is not None
    below = kl < kl.median()
    assert below.any()
    assert not mu.grad[below].any()
    assert mu.grad[kl > kl.median()].all()


def test_low_precision_logits_are_scored_in_single() -> None:
    nats = reconstruction_nats(LOGITS.bfloat16(), TOKENS)
    assert nats.dtype == torch.float32
    assert reconstruction_nats(LOGITS, TOKENS).dtype == torch.float64


def test_beta_schedules() -> None:
    constant = ObjectiveSettings(beta=0.3)
    assert beta_at(constant, 0) == beta_at(constant, 10**9) == 0.3
    linear = ObjectiveSettings(beta=0.4, beta_schedule="linear", beta_warmup_steps=100)
    assert [beta_at(linear, step) for step in (0, 50, 100, 10**9)] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert beta_at(linear.model_copy(update={"beta_warmup_steps": 0}), 0) == 0.0
    assert beta_at(linear.model_copy(update={"beta_warmup_steps": 0}), 1) == 0.4
    exponential = ObjectiveSettings(beta=0.2, beta_schedule="exponential", beta_rate=0.99999)
    assert beta_at(exponential, 0) == 0
    assert beta_at(exponential, 100_000) == pytest.approx(0.2 * (1 - math.exp(-1)), rel=1e-4)
    assert beta_at(exponential, 10**9) == pytest.approx(0.2)


def test_sampling_schedules() -> None:
    assert sampling_probability_at(ObjectiveSettings(), 10**6) == 0
    constant = ObjectiveSettings(scheduled_sampling="constant", sampling_rate=0.25)
    assert sampling_probability_at(constant, 0) == 0.25
    sigmoid = ObjectiveSettings(scheduled_sampling="inverse_sigmoid", sampling_rate=2000)
    assert sampling_probability_at(sigmoid, 0) == pytest.approx(1 / 2001)
    assert sampling_probability_at(sigmoid, 2000) == pytest.approx(1 - 2000 / (2000 + math.e))
    midpoint = round(2000 * math.log(2000))
    assert sampling_probability_at(sigmoid, midpoint) == pytest.approx(0.5, abs=1e-3)
    steps = [sampling_probability_at(sigmoid, step) for step in range(0, 60_000, 1000)]
    assert steps == sorted(steps)


def test_the_sampling_schedule_does_not_overflow() -> None:
    tiny = ObjectiveSettings(scheduled_sampling="inverse_sigmoid", sampling_rate=0.01)
    assert sampling_probability_at(tiny, 10**12) == 1.0
