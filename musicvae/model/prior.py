"""p(z): where codes come from before anything is known of a groove.

*Standard*: N(0, I), as in the paper. *Autoregressive*: z is made of segments, and each follows those before it with a
mean and scale that are learnt. A groove repeats itself, so what the first beats tell is not paid for again in the next
ones. It is an affine autoregressive flow over N(0, I) (Kingma et al. 2016, arXiv 1606.04934; Chen et al. 2017, arXiv
1611.02731): noise and z are the same point in two coordinates. A groove's code is z; what is drawn, such as new codes
and variations, is drawn as noise, in which the prior is N(0, I) whichever prior z has.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from musicvae.model.encoders import Posterior
from musicvae.model.layers import AttentionCache, TransformerBlock
from musicvae.model.settings import ModelSettings

MIN_SCALE = 1e-3
"""Keeps the log of a scale finite."""
START_SCALE = math.log(math.e - 1)
"""The softplus of it is 1: training starts at N(0, I)."""


class StandardPrior(nn.Module):
    """N(0, I): noise is the code."""

    def kl(self, posterior: Posterior, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """KL(q(z | x) || p(z)) of each dimension in nats; `z` is not needed."""
        return posterior.kl()

    def log_density(self, z: Float64[Tensor, "batch latent"]) -> Float64[Tensor, " batch"]:
        """log p(z) in nats."""
        return _log_normal(z).sum(dim=1)

    def z_of(self, noise: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """The point that a draw from N(0, I) stands for."""
        return noise

    def noise_of(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Inverse of `z_of`."""
        return z


class AutoregressivePrior(nn.Module):
    """p(z) = prod_k N(z_k; m(z_<k), s(z_<k)) over the segments of z, by causal transformer blocks."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.segments, hidden = settings.latent_segments, settings.prior_hidden
        self.enter = nn.Linear(settings.latent // self.segments, hidden)
        self.start = nn.Parameter(torch.zeros(1, 1, hidden))
        self.place = nn.Parameter(torch.randn(self.segments, hidden) * 0.1)
        heads, dropout = settings.prior_heads, settings.prior_dropout
        self.blocks = nn.ModuleList(
            TransformerBlock(hidden, heads=heads, num_steps=self.segments, dropout=dropout, causal=True)
            for _ in range(settings.prior_layers)
        )
        self.norm = nn.LayerNorm(hidden)
        self.mean_and_scale = nn.Linear(hidden, 2 * settings.latent // self.segments)
        nn.init.zeros_(self.mean_and_scale.weight)
        nn.init.zeros_(self.mean_and_scale.bias)

    def kl(self, posterior: Posterior, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """KL(q(z_k | x) || p(z_k | z_<k)) of each dimension, for one draw of z from the posterior.

        Exact given the segments before; its mean over draws is KL(q(z | x) || p(z)).
        """
        return posterior.kl(*self._mean_and_scale(z))

    def log_density(self, z: Float64[Tensor, "batch latent"]) -> Float64[Tensor, " batch"]:
        """log p(z) in nats."""
        mean, scale = self._mean_and_scale(z)
        return (_log_normal((z - mean) / scale) - scale.log()).sum(dim=1)

    def z_of(self, noise: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """The point that a draw from N(0, I) stands for; segment after segment."""
        caches = [AttentionCache() for _ in self.blocks]
        before = self.start.expand(len(noise), -1, -1)
        z_segments = []
        for number, noise_segment in enumerate(noise.unflatten(1, (self.segments, -1)).unbind(dim=1)):
            values = before + self.place[number]
            for block, cache in zip(self.blocks, caches, strict=True):
                values = block(values, cache)
            mean, scale = (value[:, 0].to(noise_segment.dtype) for value in self._read(values))
            z_segments.append(mean + scale * noise_segment)
            before = self._entered(z_segments[-1][:, None])
        return torch.cat(z_segments, dim=1)

    def noise_of(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Inverse of `z_of`, up to rounding."""
        mean, scale = self._mean_and_scale(z)
        return (z - mean) / scale

    def _mean_and_scale(self, z: Tensor) -> tuple[Tensor, Tensor]:
        parts = self._entered(z.unflatten(1, (self.segments, -1))[:, :-1])
        values = torch.cat([self.start.expand(len(z), -1, -1).to(parts.dtype), parts], dim=1) + self.place
        for block in self.blocks:
            values = block(values)
        mean, scale = self._read(values)
        return mean.flatten(1).to(z.dtype), scale.flatten(1).to(z.dtype)

    def _entered(self, parts: Float[Tensor, "batch segment part"]) -> Float[Tensor, "batch segment hidden"]:
        return self.enter(parts.to(self.enter.weight.dtype))

    def _read(self, values: Tensor) -> tuple[Tensor, Tensor]:
        mean, scale = self.mean_and_scale(self.norm(values)).chunk(2, dim=-1)
        full = torch.promote_types(mean.dtype, torch.float32)  # as of the posterior that it is compared with
        return mean.to(full), F.softplus(scale.to(full) + START_SCALE) + MIN_SCALE


Prior = StandardPrior | AutoregressivePrior


def _log_normal(values: Tensor) -> Tensor:
    return -0.5 * (values.square() + math.log(2 * math.pi))
