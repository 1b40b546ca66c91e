"""q(z | x): networks that read a whole window."""

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from musicvae.model.placed_attention import PlacedAttention
from musicvae.model.posterior import Posterior, PosteriorHeads
from musicvae.model.token_features import TokenEmbedding, token_bits


class LSTMEncoder(nn.Module):
    """A bidirectional LSTM: its last forward and first backward state, joined (Roberts et al. 2018, section 3.1)."""

    def __init__(self, num_drums: int, *, embedding: int, hidden: int, layers: int, latent: int, bits: bool) -> None:
        super().__init__()
        self.embed = TokenEmbedding(num_drums, embedding, bits=bits)
        self.lstm = nn.LSTM(embedding, hidden, layers, bidirectional=True)
        self.heads = PosteriorHeads(2 * hidden, latent)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        _, (last, _) = self.lstm(self.embed(tokens.T))  # time first: the kernel's own order, so nothing is copied
        return self.heads(torch.cat([last[-2], last[-1]], dim=-1))


class FeedForwardEncoder(nn.Module):
    """Layers over the drums of all steps.

    Args:
        stretches: the first layer reads so many equal stretches of the window by the same weights; 1 reads all at once.
        layers: 2 or more where there are several stretches.
    """

    bits: Tensor

    def __init__(
        self, num_drums: int, *, num_steps: int, stretches: int, hidden: int, layers: int, latent: int, dropout: float
    ) -> None:
        super().__init__()
        self.stretches = stretches
        self.register_buffer("bits", token_bits(num_drums), persistent=False)
        self.first = feed_forward(num_steps // stretches * num_drums, hidden, 1)
        self.dropout = nn.Dropout(dropout)
        self.body = feed_forward(stretches * hidden, hidden, layers - 1, dropout=dropout)
        self.heads = PosteriorHeads(hidden, latent)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        drums = self.bits[tokens].reshape(len(tokens), self.stretches, -1)
        return self.heads(self.body(self.dropout(self.first(drums)).flatten(1)))


class TransformerEncoder(nn.Module):
    """Attention over all steps; each segment of the window then gives its own part of z.

    With several segments the same weights read all of them, and each part of z is about its own stretch, seen with
    the whole window around it.
    """

    def __init__(
        self,
        num_drums: int,
        *,
        num_steps: int,
        hidden: int,
        layers: int,
        heads: int,
        segments: int,
        latent: int,
        dropout: float,
        bits: bool,
    ) -> None:
        super().__init__()
        self.segments = segments
        self.embed = TokenEmbedding(num_drums, hidden, bits=bits)
        self.attend = PlacedAttention(hidden, layers, heads=heads, places=num_steps, dropout=dropout, causal=False)
        self.summary = nn.Linear(num_steps // segments * hidden, hidden)
        self.heads = PosteriorHeads(hidden, latent // segments)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        stretches = self.attend(self.embed(tokens)).reshape(len(tokens), self.segments, -1)
        return self.heads(F.gelu(self.summary(stretches)))


class SegmentEncoder(nn.Module):
    """Attention over the segments of a window, each read whole by the same weights; each gives its own part of z.

    A segment is read both as its hits and as its tokens: the one shares what the drums have in common, the other keeps
    what goes together apart.
    """

    bits: Tensor

    def __init__(
        self,
        num_drums: int,
        *,
        num_steps: int,
        embedding: int,
        hidden: int,
        layers: int,
        heads: int,
        segments: int,
        latent: int,
        dropout: float,
        bits: bool,
    ) -> None:
        super().__init__()
        self.segments = segments
        self.register_buffer("bits", token_bits(num_drums), persistent=False)
        self.embed = TokenEmbedding(num_drums, embedding, bits=bits)
        steps = num_steps // segments
        self.enter_hits = nn.Linear(steps * num_drums, hidden)
        self.enter_tokens = nn.Linear(steps * embedding, hidden)
        self.attend = PlacedAttention(hidden, layers, heads=heads, places=segments, dropout=dropout, causal=False)
        self.heads = PosteriorHeads(hidden, latent // segments)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        hits = self.bits[tokens].reshape(len(tokens), self.segments, -1)
        embedded = self.embed(tokens).reshape(len(tokens), self.segments, -1)
        return self.heads(self.attend(F.gelu(self.enter_hits(hits) + self.enter_tokens(embedded))))


class NoEncoder(nn.Module):
    """For a model without a latent space: a posterior of no dimensions."""

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        nothing = torch.zeros(len(tokens), 0, device=tokens.device)
        return Posterior(nothing, nothing)


def feed_forward(inputs: int, hidden: int, layers: int, *, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers, each with GELU and a norm, dropout between them."""
    body = nn.Sequential()
    for layer in range(layers):
        body.extend([nn.Linear(inputs if layer == 0 else hidden, hidden), nn.GELU(), nn.LayerNorm(hidden)])
        if dropout and layer < layers - 1:
            body.append(nn.Dropout(dropout))
    return body
