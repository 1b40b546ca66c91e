"""Tokens as network inputs, and hidden states as scores over tokens.

A token is a set of drums. With `bits` its embedding and its score are the sum of a part of its own and of one part
for each drum that it hits, so that the 365 tokens that never occur in training, and the many rare ones, share what is
learnt about their drums. Without, each token stands alone, as in the paper.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


def token_bits(num_drums: int) -> Float[Tensor, "vocab drum"]:
    """Row t holds 1 for each drum that token t hits."""
    return ((torch.arange(1 << num_drums)[:, None] >> torch.arange(num_drums)) & 1).float()


class TokenEmbedding(nn.Module):
    """Tokens -> vectors; index `vocab` stands for "no token yet", which is not the same as silence."""

    bits: Tensor

    def __init__(self, num_drums: int, size: int, *, bits: bool) -> None:
        super().__init__()
        self.start_token = 1 << num_drums
        self.own = nn.Embedding(self.start_token + 1, size)
        self.of_bits = nn.Linear(num_drums, size, bias=False) if bits else None
        start_row = torch.zeros(1, num_drums)
        self.register_buffer("bits", torch.cat([token_bits(num_drums), start_row]), persistent=False)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Float[Tensor, "batch step hidden"]:
        embedded = self.own(tokens)
        if self.of_bits is not None:
            embedded = embedded + self.of_bits(self.bits[tokens])
        return embedded


class TokenScores(nn.Module):
    """Hidden states -> unnormalised log-probabilities (logits) of all tokens."""

    bits: Tensor

    def __init__(self, num_drums: int, hidden: int, *, bits: bool) -> None:
        super().__init__()
        self.own = nn.Linear(hidden, 1 << num_drums)
        self.of_bits = nn.Linear(hidden, num_drums) if bits else None
        self.register_buffer("bits", token_bits(num_drums), persistent=False)

    def forward(self, hidden: Float[Tensor, "batch step hidden"]) -> Float[Tensor, "batch step vocab"]:
        scores = self.own(hidden)
        if self.of_bits is not None:
            scores = scores + self.of_bits(hidden) @ self.bits.T.to(scores.dtype)
        return scores
