"""p(z): where codes come from before anything is known of a groove.

*Standard*: N(0, I), as in the paper. *Autoregressive*: z is made of segments, and each follows those before it with a
mean and scale that are learnt. A groove repeats itself, so what the first beats tell is not paid for again in the next
ones. It is an affine autoregressive flow over N(0, I) (Kingma et al. 2016, arXiv 1606.04934; Chen et al. 2017, arXiv
1611.02731). *Flow*: z is one vector, and layers in turn shift and scale a half of its dimensions by what the other half
is (affine coupling, Dinh et al. 2017, arXiv 1605.08803). The codes of a corpus do not fill N(0, I): what lies between
them decodes to grooves that hold together less.

In a learnt prior noise and z are the same point in two coordinates. A groove's code is z; what is drawn, such as new
codes and variations, is drawn as noise, in which the prior is N(0, I) whichever prior z has.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from musicvae.model.encoders import Posterior, feed_forward
from musicvae.model.layers import AttentionCache, TransformerBlock
from musicvae.model.settings import ModelSettings

MIN_SCALE = 1e-3
"""Keeps the log of a scale finite."""
COUPLING_LAYERS = 2
"""Hidden ones of the network of a coupling."""
MOST_LOG_SCALE = 1.5
"""Of a coupling layer, so that no point is moved out of sight."""
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


class FlowPrior(nn.Module):
    """N(0, I) through affine coupling layers."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(settings, number) for number in range(settings.prior_layers))

    def kl(self, posterior: Posterior, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Entropy and cross-entropy of each dimension, the latter for one draw of z from the posterior.

        That of a dimension may be negative. The mean over draws of their sum is KL(q(z | x) || p(z)).
        """
        return -0.5 - 0.5 * math.log(2 * math.pi) - posterior.sigma.log() - self._log_densities(z)

    def log_density(self, z: Float64[Tensor, "batch latent"]) -> Float64[Tensor, " batch"]:
        """log p(z) in nats."""
        return self._log_densities(z).sum(dim=1)

    def z_of(self, noise: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """The point that a draw from N(0, I) stands for."""
        for layer in self.layers:
            log_scale, shift = layer(noise)
            noise = noise * log_scale.exp() + shift
        return noise

    def noise_of(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """Inverse of `z_of`, up to rounding."""
        return self._to_noise(z)[0]

    def _log_densities(self, z: Tensor) -> Float[Tensor, "batch latent"]:
        noise, log_scale = self._to_noise(z)
        return _log_normal(noise) - log_scale

    def _to_noise(self, z: Tensor) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """The noise, and the log of the scale that each of its dimensions went through."""
        whole = torch.zeros_like(z)
        for layer in reversed(self.layers):
            log_scale, shift = layer(z)
            z, whole = (z - shift) * (-log_scale).exp(), whole + log_scale
        return z, whole


class Coupling(nn.Module):
    """Log of scale, and shift, of half of the dimensions, from the other half; both are 0 for the latter.

    Dimensions are halved by a bit of their number: two layers in turn by each bit, with the halves exchanged.
    """

    shown: Tensor

    def __init__(self, settings: ModelSettings, number: int) -> None:
        super().__init__()
        latent, hidden = settings.latent, settings.prior_hidden
        pair, side = divmod(number, 2)
        bit = torch.arange(latent) >> pair % (latent - 1).bit_length() & 1
        self.register_buffer("shown", (bit == side).float(), persistent=False)
        self.body = feed_forward(latent, hidden, COUPLING_LAYERS, dropout=settings.prior_dropout)
        self.out = nn.Linear(hidden, 2 * latent)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Float[Tensor, "batch latent"]) -> tuple[Tensor, Tensor]:
        values = self.body((z * self.shown).to(self.out.weight.dtype))
        moved = 1 - self.shown
        log_scale, shift = (part.to(z.dtype) * moved for part in self.out(values).chunk(2, dim=1))
        return MOST_LOG_SCALE * (log_scale / MOST_LOG_SCALE).tanh(), shift


Prior = StandardPrior | AutoregressivePrior | FlowPrior


def _log_normal(values: Tensor) -> Tensor:
    return -0.5 * (values.square() + math.log(2 * math.pi))
