"""q(z | x): networks that read a whole window, and the Gaussian that they give."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.model.layers import PlacedAttention, TokenEmbedding, token_bits

HEAD_INIT_STD = 1e-3
"""Magenta's initialisation of the mu and sigma heads: the posterior starts near its mean over the data, with sigma
near softplus(0), so that no dimension is favoured by chance."""
MIN_SIGMA = 1e-4
"""Keeps log sigma finite where softplus underflows in low precision."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """q(z | x) of each window: a normal distribution with independent dimensions."""

    mu: Float[Tensor, "batch latent"]
    sigma: Float[Tensor, "batch latent"]

    def sample(self, noise: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """z = mu + sigma * noise, with noise from N(0, I)."""
        return self.mu + self.sigma * noise.to(self.mu.dtype)

    def kl(self, mean: Tensor | float = 0.0, scale: Tensor | float = 1.0) -> Float[Tensor, "batch latent"]:
        """KL(q(z | x) || N(mean, scale^2)) of each dimension in nats; never negative."""
        ratio = self.sigma / scale
        return 0.5 * (((self.mu - mean) / scale).square() + ratio.square() - 1) - ratio.log()


class PosteriorHeads(nn.Module):
    """A summary of a window, or of each of its segments -> `Posterior`, the segments' parts of z joined in order.

    mu is linear (Eq 6 of Roberts et al. 2018), sigma the softplus of a linear (Eq 7).
    """

    def __init__(self, inputs: int, latent: int) -> None:
        super().__init__()
        self.mu = nn.Linear(inputs, latent)
        self.sigma = nn.Linear(inputs, latent)
        for head in (self.mu, self.sigma):
            nn.init.normal_(head.weight, std=HEAD_INIT_STD)
            nn.init.zeros_(head.bias)

    def forward(self, summary: Float[Tensor, "batch *segment inputs"]) -> Posterior:
        mu, sigma = self.mu(summary).flatten(1), self.sigma(summary).flatten(1)
        full = torch.promote_types(mu.dtype, torch.float32)  # KL in bfloat16 would lose small dimensions
        return Posterior(mu.to(full), F.softplus(sigma.to(full)) + MIN_SIGMA)


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
