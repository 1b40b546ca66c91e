"""Attention over the segments of a window or of z."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from musicvae.transformer import TransformerBlock

INIT_STD = 0.1


class SegmentAttention(nn.Module):
    """Transformer blocks over segments, which know their places in the window.

    Args:
        causal: a segment attends to itself and those before it, never to later ones.
    """

    def __init__(self, hidden: int, layers: int, *, heads: int, segments: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(segments, hidden) * INIT_STD)
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden, heads=heads, num_steps=segments, dropout=dropout, causal=causal)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)

    def forward(self, values: Float[Tensor, "batch segment hidden"]) -> Float[Tensor, "batch segment hidden"]:
        values = values + self.place
        for block in self.blocks:
            values = block(values)
        return self.norm(values)
