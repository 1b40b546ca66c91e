"""Attention one step at a time: the same as all at once, however many steps come."""

import math

import pytest
import torch
import torch.nn.functional as F

from musicvae.model.layers import FIRST_PLACES, AttentionCache

BATCH, HEADS, SIZE = 3, 2, 5


def inputs(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, keys and values of shape (3, batch, head, step, size), and a causal bias (head, step, step)."""
    generator = torch.Generator().manual_seed(0)
    joined = torch.randn(3, BATCH, HEADS, steps, SIZE, generator=generator, dtype=torch.float64)
    later = torch.ones(steps, steps).triu(1).bool()
    bias = torch.randn(HEADS, steps, steps, generator=generator, dtype=torch.float64)
    return joined, bias.masked_fill(later, -math.inf)


@pytest.mark.parametrize("steps", [1, FIRST_PLACES, FIRST_PLACES + 1, 2 * FIRST_PLACES + 3, 4 * FIRST_PLACES])
def test_steps_in_turn_attend_as_steps_at_once(steps: int):
    joined, bias = inputs(steps)
    cache = AttentionCache()
    in_turn = torch.stack([cache.attend(*joined[:, :, :, step], bias[:, step]) for step in range(steps)], dim=2)
    torch.testing.assert_close(in_turn, F.scaled_dot_product_attention(*joined, attn_mask=bias[None]))


def test_bfloat16_is_close_to_float64():
    joined, bias = inputs(40)
    caches = AttentionCache(), AttentionCache()
    for step in range(40):
        exact = caches[0].attend(*joined[:, :, :, step], bias[:, step])
        rounded = caches[1].attend(*joined[:, :, :, step].bfloat16(), bias[:, step].bfloat16())
        assert rounded.dtype == torch.bfloat16
        torch.testing.assert_close(rounded.double(), exact, atol=0.05, rtol=0)
