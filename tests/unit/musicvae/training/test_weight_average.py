"""The average of weights: its definition, and that it goes through a checkpoint."""

import torch

from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.training.checkpoints import TrainingState, copy_to_host, load_checkpoint, write_checkpoint
from musicvae.training.settings import OptimizerSettings
from musicvae.training.state import EARLY, WeightAverage
from musicvae.training.step import new_optimizer

GRID = GridSpec(bars=1, beats_per_bar=1, steps_per_beat=2)
SETTINGS = ModelSettings(latent=2, encoder="feed_forward", encoder_hidden=3, decoder="feed_forward", decoder_hidden=3)


def filled(value: float) -> MusicVAE:
    model = MusicVAE(SETTINGS, GRID, 2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(value)
    return model


def value_of(model: MusicVAE) -> float:
    (value,) = {weight.item() for tensor in model.parameters() for weight in tensor.flatten()}
    return value


def test_an_average_is_exponential_after_a_start_that_forgets_faster() -> None:
    average = WeightAverage(filled(0.0), 0.5)
    average.follow(filled(1.0), step=1)
    kept = 2 / (1 + EARLY)  # less than the decay of .5: hardly anything of the first weights stays
    assert abs(value_of(average.model) - (1 - kept)) < 1e-6
    before = value_of(average.model)
    average.follow(filled(3.0), step=1000)
    assert abs(value_of(average.model) - (before + 3.0) / 2) < 1e-6


def test_what_is_averaged_stays_as_it_was_and_the_average_learns_nothing_by_itself() -> None:
    model = filled(2.0)
    average = WeightAverage(model, 0.9)
    average.follow(filled(5.0), step=10)
    assert value_of(model) == 2.0
    assert not any(weight.requires_grad for weight in average.model.parameters())


def test_an_average_goes_through_a_checkpoint(tmp_path) -> None:
    model, average = filled(1.0), filled(7.0)
    optimizer = new_optimizer(model, OptimizerSettings())
    path = write_checkpoint(tmp_path, copy_to_host(model, optimizer, average), TrainingState(3), keep=1, keep_every=0)
    model, average = filled(0.0), filled(0.0)
    load_checkpoint(path, model, new_optimizer(model, OptimizerSettings()), average)
    assert (value_of(model), value_of(average)) == (1.0, 7.0)
