"""Decoding in bfloat16: a little rounding, in every kind of decoder, and a part of what an item is."""

import numpy as np
import pytest
import torch

from musicvae.generation.generate import generate_batch
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.precision import fastest_precision, rounded
from musicvae.model.settings import ModelSettings
from tests.support.runs.stepwise import logits_shown_the_targets

GRID, DRUMS = GridSpec(bars=2, beats_per_bar=2, steps_per_beat=2), 3
DECODERS = ["hierarchical", "flat", "feed_forward", "recurrent", "transformer"]


def model_of(decoder: str) -> MusicVAE:
    torch.manual_seed(0)
    sizes = {"latent": 8, "encoder_hidden": 8, "decoder_hidden": 8, "decoder_embedding": 8, "history_lags": (1, 2)}
    return MusicVAE(ModelSettings.model_validate(sizes | {"decoder": decoder}), GRID, DRUMS).eval()


@pytest.mark.parametrize("decoder", DECODERS)
def test_rounded_weights_give_nearly_the_same_logits(decoder: str):
    model = model_of(decoder)
    tokens = torch.randint(0, 1 << DRUMS, (4, GRID.num_steps), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        condition = model.segments(torch.randn(4, 8, generator=torch.Generator().manual_seed(2)))
        exact = logits_shown_the_targets(model.decoder, condition, tokens)
        near = logits_shown_the_targets(rounded(model.decoder), condition.bfloat16(), tokens)
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near.float(), exact, atol=0.03, rtol=0)
    assert all(weight.dtype == torch.float32 for weight in model.decoder.parameters()), "the model stays as it is"


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_batch_in_bfloat16_is_the_same_every_time(decoder: str):
    model, recipe = model_of(decoder), GenerationSettings(PriorSource(), 4, precision="bfloat16")
    tokens = generate_batch(model, recipe, 0)
    np.testing.assert_array_equal(generate_batch(model, recipe, 0), tokens)
    exact = generate_batch(model, GenerationSettings(PriorSource(), 4), 0)
    assert (tokens == exact).mean() > 0.9


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({"avx512_bf16": True}, "bfloat16"), ({"avx512_bf16": False}, "float32"), ({}, "float32")],
)
def test_a_cpu_without_bfloat16_decodes_in_float32(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fastest_precision() == precision
