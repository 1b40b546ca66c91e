"""q(z | x) by convolutions over the steps."""

import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from musicvae.posterior import Posterior, PosteriorHeads
from musicvae.token_features import token_bits


class ConvolutionEncoder(nn.Module):
    """Halves the steps and doubles the channels until four places are left, then joins these.

    Args:
        hidden: channels at the end; of the layer that joins too.
        layers: residual convolutions at each length.
    """

    bits: Tensor

    def __init__(
        self, num_drums: int, *, num_steps: int, hidden: int, layers: int, latent: int, dropout: float
    ) -> None:
        super().__init__()
        self.register_buffer("bits", token_bits(num_drums), persistent=False)
        halvings = (num_steps // 4).bit_length() - 1
        channels = hidden >> halvings
        self.enter = nn.Conv1d(num_drums, channels, 3, padding=1)
        self.mixes, self.halves, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(halvings):
            self.norms.append(nn.ModuleList(nn.GroupNorm(1, channels) for _ in range(layers)))
            self.mixes.append(nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=1) for _ in range(layers)))
            self.halves.append(nn.Conv1d(channels, 2 * channels, 2, stride=2))
            channels *= 2
        self.join = nn.Sequential(nn.Linear(4 * channels, hidden), nn.GELU(), nn.LayerNorm(hidden))
        self.dropout = nn.Dropout(dropout)
        self.heads = PosteriorHeads(hidden, latent)

    def forward(self, tokens: Int64[Tensor, "batch step"]) -> Posterior:
        values = self.enter(self.bits[tokens].transpose(1, 2))
        for mixes, norms, halve in zip(self.mixes, self.norms, self.halves, strict=True):
            for mix, norm in zip(mixes, norms, strict=True):
                values = values + F.gelu(mix(norm(values)))
            values = halve(values)
        return self.heads(self.join(self.dropout(values.flatten(1))))
