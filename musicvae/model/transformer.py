"""Transformer blocks over the steps of a window (Vaswani et al. 2017, arXiv 1706.03762), normalised before each part.

How far apart two steps are enters as a learned bias of each head for each distance (Shaw et al. 2018, arXiv 1803.02155,
in the scalar form of Raffel et al. 2020, arXiv 1910.10683): in a groove the same place one bar earlier means the same
wherever it is.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from musicvae.model.attention_cache import AttentionCache
from musicvae.model.locked_dropout import LockedDropout

FEED_FORWARD = 4
"""Width of the feed-forward part, in hidden sizes."""


class TransformerBlock(nn.Module):
    """Attention and a feed-forward part, each added to what came in.

    Args:
        causal: a step attends to itself and those before it, never to later ones.
    """

    mask: Tensor
    distance: Tensor

    def __init__(self, hidden: int, *, heads: int, num_steps: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.attended = nn.Linear(hidden, hidden)
        self.widen = nn.Linear(hidden, FEED_FORWARD * hidden)
        self.narrow = nn.Linear(FEED_FORWARD * hidden, hidden)
        self.dropout = LockedDropout(dropout)
        self.distance_bias = nn.Parameter(torch.zeros(heads, num_steps if causal else 2 * num_steps - 1))
        ago = torch.arange(num_steps)[:, None] - torch.arange(num_steps)
        later = torch.zeros(num_steps, num_steps).masked_fill(ago < 0, -torch.inf if causal else 0.0)
        self.register_buffer("mask", later, persistent=False)
        self.register_buffer("distance", ago.clamp(min=0) if causal else ago + num_steps - 1, persistent=False)

    def forward(
        self, values: Float[Tensor, "batch step hidden"], cache: AttentionCache | None = None
    ) -> Float[Tensor, "batch step hidden"]:
        """With a cache `values` are the one step that follows those in it, and is added to it."""
        values = values + self.dropout(self._attention(self.attention_norm(values), cache))
        wide = self.dropout(F.gelu(self.widen(self.feed_forward_norm(values))))
        return values + self.narrow(wide)

    def _attention(self, values: Tensor, cache: AttentionCache | None) -> Tensor:
        batch, steps, _ = values.shape
        joined = self.queries_keys_values(values).view(batch, steps, 3, self.heads, -1)
        if cache is not None:
            query, key, entry = joined[:, 0].unbind(dim=1)
            attended = cache.attend(query, key, entry, self._bias(slice(cache.steps, cache.steps + 1))[:, 0])
            return self.attended(attended.view(batch, steps, -1))
        queries, keys, entries = joined.permute(2, 0, 3, 1, 4)
        bias = self._bias(slice(steps))[..., :steps].to(queries.dtype)
        attended = F.scaled_dot_product_attention(queries, keys, entries, attn_mask=bias[None])
        return self.attended(attended.transpose(1, 2).reshape(batch, steps, -1))

    def _bias(self, steps: slice) -> Float[Tensor, "head step num_steps"]:
        """What is added to the scores of some steps, for the attention to each step of the window."""
        return self.distance_bias[:, self.distance[steps]] + self.mask[steps]
