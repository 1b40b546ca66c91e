"""Bulk generation: an item depends on weights, recipe and its own number, and on nothing else."""

import numpy as np
import pytest
import torch

from musicvae.generation.generate import encode_windows, generate, generate_batch
from musicvae.generation.recipe import GenerationSettings, PriorSource, VariationSource
from musicvae.generation.settings import BATCH
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

GRID = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2)
DRUMS = 3
PRIOR = GenerationSettings(PriorSource(), seed=7)


@pytest.fixture(scope="module")
def model() -> MusicVAE:
    torch.manual_seed(0)
    widths = ["encoder_embedding", "encoder_hidden", "conductor_hidden", "conductor_embedding"]
    sizes = dict.fromkeys(["latent", *widths, "decoder_embedding", "decoder_hidden"], 8)
    model = MusicVAE(ModelSettings(**sizes), GRID, DRUMS).eval()
    with torch.no_grad():
        for (
            weight
        ) in model.parameters():  # as initialised the decoder hardly listens to z, and all codes are nearly one
            weight.mul_(3)
        model.encoder.heads.mu.weight.normal_()
    return model


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << DRUMS, (5, GRID.num_steps)).astype(np.int16)


def all_items(model: MusicVAE, recipe: GenerationSettings, count: int) -> np.ndarray:
    return np.concatenate(list(generate(model, recipe, count)))


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1])
def test_any_count_gives_that_many_windows_of_tokens(model: MusicVAE, count: int):
    tokens = all_items(model, PRIOR, count)
    assert tokens.shape == (count, GRID.num_steps)
    assert tokens.min() >= 0
    assert tokens.max() < 1 << DRUMS


def test_a_small_count_is_the_beginning_of_a_large_one(model: MusicVAE):
    many = all_items(model, PRIOR, 2 * BATCH + 10)
    for count in (1, 10, BATCH + 3):
        np.testing.assert_array_equal(all_items(model, PRIOR, count), many[:count])


def test_a_batch_decoded_alone_is_the_one_decoded_in_turn(model: MusicVAE):
    many = all_items(model, PRIOR, 3 * BATCH)
    np.testing.assert_array_equal(generate_batch(model, PRIOR, 2), many[2 * BATCH :])


def test_the_number_of_threads_changes_nothing_and_is_left_as_it_was(model: MusicVAE):
    before = torch.get_num_threads()
    alone = generate_batch(model, PRIOR, 0)
    try:
        torch.set_num_threads(before + 1)
        np.testing.assert_array_equal(generate_batch(model, PRIOR, 0), alone)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_random_state_of_torch_and_numpy_is_neither_read_nor_moved(model: MusicVAE):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = generate_batch(model, PRIOR, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    np.random.seed(3)
    np.testing.assert_array_equal(generate_batch(model, PRIOR, 0), one)


def test_a_low_temperature_comes_close_to_the_likeliest_tokens(model: MusicVAE):
    likeliest = generate_batch(model, GenerationSettings(PriorSource(), 7, temperature=None), 0)
    cold = generate_batch(model, GenerationSettings(PriorSource(), 7, temperature=1e-3), 0)
    hot = generate_batch(model, GenerationSettings(PriorSource(), 7, temperature=2.0), 0)
    assert (cold == likeliest).mean() > 0.95
    assert (hot == likeliest).mean() < 0.5


def test_at_distance_0_every_item_is_the_reconstruction_of_its_window(model: MusicVAE, windows: np.ndarray):
    mu = encode_windows(model, windows)
    items = all_items(model, GenerationSettings(VariationSource(mu, 0.0), seed=1, temperature=None), 12)
    reconstructions = model.generate(torch.from_numpy(mu)).numpy()
    np.testing.assert_array_equal(items, reconstructions[np.arange(12) % 5])


def test_variations_differ_more_from_their_window_at_a_greater_distance(model: MusicVAE):
    mu = np.random.default_rng(2).standard_normal((50, model.latent)).astype(np.float32)
    reconstructions = model.generate(torch.from_numpy(mu)).numpy()

    def changed(distance: float) -> float:
        items = all_items(model, GenerationSettings(VariationSource(mu, distance), seed=1, temperature=None), len(mu))
        return float((items != reconstructions).mean())

    assert 0 < changed(0.2) < changed(0.5) < changed(1.0)


def test_a_code_does_not_depend_on_the_windows_beside_it(model: MusicVAE, windows: np.ndarray):
    together = encode_windows(model, windows)
    np.testing.assert_array_equal(together, encode_windows(model, windows))
    for row, window in enumerate(windows):
        np.testing.assert_allclose(encode_windows(model, window[None])[0], together[row], rtol=1e-5, atol=1e-6)


def test_more_windows_than_a_batch_are_encoded_in_order(model: MusicVAE):
    tokens = np.random.default_rng(1).integers(0, 1 << DRUMS, (BATCH + 3, GRID.num_steps)).astype(np.int16)
    mu = encode_windows(model, tokens)
    np.testing.assert_allclose(mu[BATCH:], encode_windows(model, tokens[BATCH:]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float):
    with pytest.raises(ValueError, match="temperature"):
        GenerationSettings(PriorSource(), 0, temperature)


def test_a_recipe_that_cannot_be_followed_is_refused(windows: np.ndarray):
    with pytest.raises(ValueError, match="seed"):
        GenerationSettings(PriorSource(), -1)
    with pytest.raises(ValueError, match="distance"):
        VariationSource(np.zeros((1, 8), dtype=np.float32), 1.5)
    with pytest.raises(ValueError, match="no windows"):
        VariationSource(np.zeros((0, 8), dtype=np.float32), 0.5)
