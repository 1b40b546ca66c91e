"""Attention over the places of a window, be they its steps or its segments."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from musicvae.model.transformer import TransformerBlock

INIT_STD = 0.1


class PlacedAttention(nn.Module):
    """Transformer blocks over vectors that are told where in the window they stand.

    Args:
        causal: a place attends to itself and those before it, never to later ones.
    """

    def __init__(self, hidden: int, layers: int, *, heads: int, places: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(places, hidden) * INIT_STD)
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden, heads=heads, num_steps=places, dropout=dropout, causal=causal)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)

    def forward(self, values: Float[Tensor, "batch place hidden"]) -> Float[Tensor, "batch place hidden"]:
        values = values + self.place
        for block in self.blocks:
            values = block(values)
        return self.norm(values)
