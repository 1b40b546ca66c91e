"""q(z | x): a bidirectional LSTM over the tokens (Roberts et al. 2018, section 3.1)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from musicvae.token_features import TokenEmbedding

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

    def kl(self) -> Float[Tensor, "batch latent"]:
        """KL(q(z | x) || N(0, I)) of each dimension in nats; never negative."""
        return 0.5 * (self.mu.square() + self.sigma.square() - 1) - self.sigma.log()


class LSTMEncoder(nn.Module):
    """Tokens -> `Posterior`: last forward and first backward state, joined, through the mu and sigma heads.

    mu is linear (Eq 6 of the paper), sigma the softplus of a linear (Eq 7).
    """

    def __init__(self, num_drums: int, *, embedding: int, hidden: int, layers: int, latent: int, bits: bool) -> None:
        super().__init__()
        self.embed = TokenEmbedding(num_drums, embedding, bits=bits)
        self.lstm = nn.LSTM(embedding, hidden, layers, bidirectional=True)
        self.mu = nn.Linear(2 * hidden, latent)
        self.sigma = nn.Linear(2 * hidden, latent)
        for head in (self.mu, self.sigma):
            nn.init.normal_(head.weight, std=HEAD_INIT_STD)
            nn.init.zeros_(head.bias)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        _, (last, _) = self.lstm(self.embed(tokens.T))  # time first: the kernel's own order, so nothing is copied
        summary = torch.cat([last[-2], last[-1]], dim=-1)
        mu, sigma = self.mu(summary), self.sigma(summary)
        full = torch.promote_types(mu.dtype, torch.float32)  # KL in bfloat16 would lose small dimensions
        return Posterior(mu.to(full), F.softplus(sigma.to(full)) + MIN_SIGMA)
