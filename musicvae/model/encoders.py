"""q(z | x): networks that read a whole window, and the Gaussian that they give."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.model.layers import LSTM, KeyedDropout, TokenEmbedding, TransformerStack, token_bits
from musicvae.model.settings import ModelSettings

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

    def __init__(self, settings: ModelSettings, num_drums: int) -> None:
        super().__init__()
        size, hidden = settings.encoder_embedding, settings.encoder_hidden
        self.embed = TokenEmbedding(num_drums, size, bits=settings.shares_bits)
        self.lstm = LSTM(size, hidden, settings.encoder_layers, bidirectional=True)
        self.heads = PosteriorHeads(2 * hidden, settings.latent)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        _, (last, _) = self.lstm(self.embed(tokens.T))  # time first: the kernel's own order, so nothing is copied
        return self.heads(torch.cat([last[-2], last[-1]], dim=-1))


class FeedForwardEncoder(nn.Module):
    """Layers over the drums of all steps; the first reads the whole window, or each bar by the same weights."""

    bits: Tensor

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        hidden, dropout = settings.encoder_hidden, settings.encoder_dropout
        self.parts = grid.bars if settings.encoder_shares_bars else 1
        self.register_buffer("bits", token_bits(num_drums), persistent=False)
        self.first = feed_forward(grid.num_steps // self.parts * num_drums, hidden, 1)
        self.dropout = KeyedDropout(dropout, self.parts, hidden)
        self.body = feed_forward(self.parts * hidden, hidden, settings.encoder_layers - 1, dropout=dropout)
        self.heads = PosteriorHeads(hidden, settings.latent)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        drums = self.bits[tokens].reshape(len(tokens), self.parts, -1)
        return self.heads(self.body(self.dropout(self.first(drums)).flatten(1)))


class TransformerEncoder(nn.Module):
    """Attention over all steps; each segment of the window then gives its own part of z.

    With several segments the same weights read all of them, and each part of z is about its own segment, seen with
    the whole window around it.
    """

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.segments, hidden = settings.latent_segments, settings.encoder_hidden
        self.embed = TokenEmbedding(num_drums, hidden, bits=settings.shares_bits)
        self.attend = _attention(settings, places=grid.num_steps)
        self.summary = nn.Linear(grid.num_steps // self.segments * hidden, hidden)
        self.heads = PosteriorHeads(hidden, settings.latent // self.segments)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        segments = self.attend(self.embed(tokens)).reshape(len(tokens), self.segments, -1)
        return self.heads(F.gelu(self.summary(segments)))


class SegmentEncoder(nn.Module):
    """Attention over the segments of a window, each read whole by the same weights; each gives its own part of z.

    A segment is read both as its hits and as its tokens: the one shares what the drums have in common, the other keeps
    what goes together apart.
    """

    bits: Tensor

    def __init__(self, settings: ModelSettings, grid: GridSpec, num_drums: int) -> None:
        super().__init__()
        self.segments, hidden = settings.latent_segments, settings.encoder_hidden
        self.register_buffer("bits", token_bits(num_drums), persistent=False)
        self.embed = TokenEmbedding(num_drums, settings.encoder_embedding, bits=settings.shares_bits)
        steps = grid.num_steps // self.segments
        self.enter_hits = nn.Linear(steps * num_drums, hidden)
        self.enter_tokens = nn.Linear(steps * settings.encoder_embedding, hidden)
        self.attend = _attention(settings, places=self.segments)
        self.heads = PosteriorHeads(hidden, settings.latent // self.segments)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        hits = self.bits[tokens].reshape(len(tokens), self.segments, -1)
        embedded = self.embed(tokens).reshape(len(tokens), self.segments, -1)
        return self.heads(self.attend(F.gelu(self.enter_hits(hits) + self.enter_tokens(embedded))))


class NoEncoder(nn.Module):
    """For a model without a latent space: a posterior of no dimensions."""

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        nothing = torch.zeros(len(tokens), 0, device=tokens.device)
        return Posterior(nothing, nothing)


def _attention(settings: ModelSettings, *, places: int) -> TransformerStack:
    return TransformerStack(
        settings.encoder_hidden,
        settings.encoder_layers,
        heads=settings.encoder_heads,
        places=places,
        dropout=settings.encoder_dropout,
        causal=False,
    )


def feed_forward(inputs: int, hidden: int, layers: int, *, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers, each with GELU and a norm, dropout between them."""
    body = nn.Sequential()
    for layer in range(layers):
        body.extend([nn.Linear(inputs if layer == 0 else hidden, hidden), nn.GELU(), nn.LayerNorm(hidden)])
        if dropout and layer < layers - 1:
            body.append(KeyedDropout(dropout, hidden))
    return body
