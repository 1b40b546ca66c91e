"""q(z | x) of windows, and the layers that end every encoder."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

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
