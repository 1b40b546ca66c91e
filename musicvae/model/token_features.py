"""Tokens as network inputs, and hidden states as scores over tokens.

A token is a set of drums. With `bits` its embedding and its score are the sum of a part of its own and of one part
for each drum that it hits, so that the 365 tokens that never occur in training, and the many rare ones, share what is
learnt about their drums. Without, each token stands alone, as in the paper.

Parts are summed once for the whole vocabulary, not for each of the many tokens of a batch, and in the precision of the
weights: rounded to bfloat16 first, a small part would vanish beside a large one.
"""

import torch
import torch.nn.functional as F
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

    def table(self) -> Float[Tensor, "token hidden"]:
        """The vector of every token, that of the start token last."""
        if self.of_bits is None:
            return self.own.weight
        with torch.autocast(self.bits.device.type, enabled=False):
            return self.own.weight + self.bits @ self.of_bits.weight.T

    def forward(self, tokens: Int64[Tensor, "*place"]) -> Float[Tensor, "*place hidden"]:
        return F.embedding(tokens, self.table())


def token_pairs(num_drums: int) -> Float[Tensor, "vocab pair"]:
    """Row t holds 1 for each pair of drums that token t hits together."""
    bits = token_bits(num_drums)
    first, second = torch.triu_indices(num_drums, num_drums, offset=1)
    return bits[:, first] * bits[:, second]


class TokenScores(nn.Module):
    """Hidden states -> unnormalised log-probabilities (logits) of all tokens.

    With `pairs` a token's score also has a part for each pair of its drums, so that which drums go together is learnt
    for all tokens at once.
    """

    parts: Tensor

    def __init__(self, num_drums: int, hidden: int, *, bits: bool, pairs: bool = False) -> None:
        super().__init__()
        self.own = nn.Linear(hidden, 1 << num_drums)
        parts = [token_bits(num_drums)] * bits + [token_pairs(num_drums)] * pairs
        self.register_buffer("parts", torch.cat(parts, dim=1) if parts else None, persistent=False)
        self.of_parts = nn.Linear(hidden, self.parts.shape[1]) if parts else None

    def weight_and_bias(self) -> tuple[Float[Tensor, "vocab hidden"], Float[Tensor, " vocab"]]:
        """The one linear layer that all parts together are."""
        if self.of_parts is None:
            return self.own.weight, self.own.bias
        with torch.autocast(self.parts.device.type, enabled=False):
            weight = self.own.weight + self.parts @ self.of_parts.weight
            return weight, self.own.bias + self.parts @ self.of_parts.bias

    def forward(self, hidden: Float[Tensor, "*place hidden"]) -> Float[Tensor, "*place vocab"]:
        return F.linear(hidden, *self.weight_and_bias())
