"""Bugs 13 and 14 of the list in the design notes: each is found in at least one public MusicVAE implementation."""

import numpy as np
import pytest
import torch

from musicvae.generation.generate import encode_windows, generate_batch
from musicvae.generation.interpolation import even_fractions
from musicvae.generation.latent import slerp
from musicvae.generation.recipe import GenerationSettings, Interpolation, PriorSource, VariationSource
from musicvae.generation.settings import BATCH
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

GRID = GridSpec(bars=2)
DRUMS = 4


@pytest.fixture(scope="module")
def model() -> MusicVAE:
    torch.manual_seed(3)
    settings = ModelSettings(latent=16, encoder_hidden=16, conductor_hidden=16, decoder_hidden=16)
    return MusicVAE(settings, GRID, DRUMS).eval()


def test_bug_13_the_ends_of_an_interpolation_are_the_reconstructions(model: MusicVAE):
    windows = np.random.default_rng(0).integers(0, 1 << DRUMS, (2, GRID.num_steps)).astype(np.int16)
    start, end = encode_windows(model, windows)
    way = Interpolation(start, end, even_fractions(model, start, end, 5)).codes()
    ends = torch.from_numpy(np.stack([start, end]))
    reconstructions = model.generate(ends)
    assert torch.equal(way[[0, -1]], ends)
    assert torch.equal(model.generate(way)[[0, -1]], reconstructions)


@pytest.mark.parametrize("scale", [1.0, 2.0, -1.0, 0.0])
def test_bug_13_slerp_is_finite_for_parallel_vectors(scale: float):
    code = torch.randn(16, generator=torch.Generator().manual_seed(0))
    way = slerp(code, scale * code, torch.linspace(0, 1, 11))
    assert way.isfinite().all()


@pytest.mark.parametrize("origin", ["prior", "like"])
def test_bug_14_the_same_seed_gives_the_same_bytes_and_another_seed_others(model: MusicVAE, origin: str):
    mu = np.zeros((1, model.latent), dtype=np.float32)
    source = PriorSource() if origin == "prior" else VariationSource(mu, 0.5)
    one = generate_batch(model, GenerationSettings(source, seed=5), 0)
    assert generate_batch(model, GenerationSettings(source, seed=5), 0).tobytes() == one.tobytes()
    assert generate_batch(model, GenerationSettings(source, seed=6), 0).tobytes() != one.tobytes()


@pytest.mark.parametrize("origin", ["prior", "like"])
def test_bug_14_different_places_have_different_noise(model: MusicVAE, origin: str):
    """Workers that seed themselves alike all write the same grooves; here no two items are alike."""
    mu = np.zeros((1, model.latent), dtype=np.float32)
    source = PriorSource() if origin == "prior" else VariationSource(mu, 0.5)
    items = np.concatenate([generate_batch(model, GenerationSettings(source, seed=5), number) for number in range(2)])
    assert len({item.tobytes() for item in items}) == 2 * BATCH
