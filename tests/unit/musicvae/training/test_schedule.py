"""Learning rates as functions of the step."""

import pytest
import torch

from musicvae.training.settings import OptimizerSettings, learning_rate_at


@pytest.mark.parametrize(("restart_steps", "restart_factor"), [(1000, 2), (7, 1), (5, 3)])
def test_cosine_restarts_are_torchs(restart_steps, restart_factor):
    settings = OptimizerSettings(restart_steps=restart_steps, restart_factor=restart_factor, min_learning_rate=1e-5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=restart_steps, T_mult=restart_factor, eta_min=1e-5
    )
    for step in range(3500):
        assert learning_rate_at(settings, step) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_exponential_decay_has_a_floor():
    settings = OptimizerSettings(schedule="exponential", decay=0.9999, min_learning_rate=1e-5)
    assert learning_rate_at(settings, 0) == 1e-3
    assert learning_rate_at(settings, 5000) == pytest.approx(1e-3 * 0.9999**5000)
    assert learning_rate_at(settings, 10**6) == 1e-5


def test_warmup_rises_to_the_schedule():
    settings = OptimizerSettings(schedule="constant", warmup_steps=4)
    rates = [learning_rate_at(settings, step) for step in range(6)]
    assert rates == pytest.approx([0.0002, 0.0004, 0.0006, 0.0008, 0.001, 0.001])
