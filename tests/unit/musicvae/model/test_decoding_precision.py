"""Decoding in bfloat16: a little rounding, in every kind of decoder; layers whose rows do not depend on each other."""

import numpy as np
import pytest
import torch

from musicvae.generation.generate import generate_batch
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.groove.grid import GridSpec
from musicvae.model import precision
from musicvae.model.model import MusicVAE
from musicvae.model.precision import RowwiseLinear, fastest_precision, rounded
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


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("library", ["as it is", "that sums otherwise in other shapes"])
def test_a_row_has_the_same_bits_beside_whatever_other_rows(
    monkeypatch: pytest.MonkeyPatch, library: str, kind: torch.dtype
):
    if library != "as it is":
        monkeypatch.setattr(precision, "products_are_rowwise", lambda *_, **__: False)
    numbers = torch.Generator().manual_seed(3)
    weight, rows = torch.randn(40, 48, generator=numbers), torch.randn(1100, 48, generator=numbers).to(kind)
    layer = RowwiseLinear(weight, weight[:, 0], kind)
    outputs = layer(rows)
    torch.testing.assert_close(outputs, torch.nn.functional.linear(rows, weight.to(kind), weight[:, 0].to(kind)))
    for some in ([0], [1099, 3], range(1, 18), range(500, 900)):
        assert torch.equal(layer(rows[[*some]]), outputs[[*some]])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("moves", [True, False])
def test_a_library_whose_sums_depend_on_the_other_rows_is_noticed(
    monkeypatch: pytest.MonkeyPatch, moves: bool, kind: torch.dtype
):
    def linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The first row is the only one that is summed backwards; or all are, where there are many."""
        turned = rows.flip(1) @ weight.T.flip(0)
        first = torch.arange(len(rows))[:, None] < (1 if moves else len(rows) * (len(rows) > 16))
        return torch.where(first, turned, rows @ weight.T)

    assert precision.products_are_rowwise(kind, 32, 24, 512, biased=False)
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    assert not precision.products_are_rowwise.__wrapped__(kind, 32, 24, 512, biased=False)


def test_numbers_of_rows_that_are_summed_otherwise_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch):
    """As bfloat16 is on CPUs that multiply whole tiles: 32 rows, and 112 and more, alike, 48 to 96 otherwise."""
    counts = []

    def alike(kind: torch.dtype, rows: int, *shape: int, biased: bool) -> bool:
        return rows <= 32 or rows >= 112

    monkeypatch.setattr(precision, "products_are_rowwise", alike)
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda rows, *more: counts.append(len(rows)) or linear(rows, *more)
    )
    numbers = torch.Generator().manual_seed(3)
    layer, rows = RowwiseLinear(torch.randn(8, 48, generator=numbers)), torch.randn(1100, 48, generator=numbers)
    for count, parts in ((16, [16]), (83, [32, 32, 32]), (200, [208]), (600, [512, 32, 32, 32])):
        counts.clear()
        assert len(layer(rows[:count])) == count
        assert counts == parts


@pytest.mark.parametrize(
    ("capabilities", "fastest"),
    [({"avx512_bf16": True}, "bfloat16"), ({"avx512_bf16": False}, "float32"), ({}, "float32")],
)
def test_a_cpu_without_bfloat16_decodes_in_float32(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], fastest: str
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fastest_precision() == fastest
