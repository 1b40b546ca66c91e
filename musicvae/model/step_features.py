"""z -> what it tells each step of the window."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import feed_forward
from musicvae.model.layers import PlacedAttention

INIT_STD = 0.1


class _StretchWriter(nn.Module):
    """A vector for each of several equal stretches of a window -> features of every step, by the same weights."""

    def __init__(self, hidden: int, *, stretches: int, num_steps: int, features: int, dropout: float) -> None:
        super().__init__()
        self.num_steps, self.features = num_steps, features
        self.place = nn.Parameter(torch.randn(stretches, hidden) * INIT_STD)
        self.steps = nn.Sequential(
            *feed_forward(hidden, hidden, 1),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_steps // stretches * features),
            nn.GELU(),
        )

    def forward(self, values: Float[Tensor, "batch stretch hidden"]) -> Float[Tensor, "batch step feature"]:
        return self.steps(values + self.place).reshape(len(values), self.num_steps, self.features)


class WholeFeatures(nn.Module):
    """All of z decides about each bar."""

    def __init__(self, *, latent: int, hidden: int, features: int, grid: GridSpec, dropout: float) -> None:
        super().__init__()
        self.bars = grid.bars
        self.spread = nn.Sequential(*feed_forward(latent, hidden, 1), nn.Linear(hidden, grid.bars * hidden), nn.GELU())
        self.write = _StretchWriter(
            hidden, stretches=grid.bars, num_steps=grid.num_steps, features=features, dropout=dropout
        )

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        return self.write(self.spread(z).view(len(z), self.bars, -1))


class SegmentFeatures(nn.Module):
    """Each part of z, with a summary of all of them, decides about the steps of its own segment."""

    def __init__(
        self, *, latent: int, segments: int, hidden: int, features: int, grid: GridSpec, dropout: float
    ) -> None:
        super().__init__()
        self.segments = segments
        self.summary = nn.Linear(latent, features)
        self.join = feed_forward(latent // segments + features, hidden, 1)
        self.write = _StretchWriter(
            hidden, stretches=segments, num_steps=grid.num_steps, features=features, dropout=dropout
        )

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        summary = self.summary(z)[:, None].expand(-1, self.segments, -1)
        parts = z.view(len(z), self.segments, -1).to(summary.dtype)
        return self.write(self.join(torch.cat([parts, summary], dim=-1)))


class AttendedFeatures(nn.Module):
    """Each part of z, behind causal attention over those before it, decides about the steps of its own segment."""

    def __init__(
        self,
        *,
        latent: int,
        segments: int,
        hidden: int,
        layers: int,
        heads: int,
        features: int,
        num_steps: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.segments, self.num_steps, self.features = segments, num_steps, features
        part = latent // segments
        self.enter = nn.Linear(part, hidden)
        self.attend = PlacedAttention(hidden, layers, heads=heads, places=segments, dropout=dropout, causal=True)
        self.write = nn.Sequential(
            nn.Linear(hidden + part, 2 * hidden),
            nn.GELU(),
            nn.Linear(2 * hidden, num_steps // segments * features),
            nn.GELU(),
        )

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        parts = z.unflatten(1, (self.segments, -1)).to(self.enter.weight.dtype)
        values = self.attend(self.enter(parts))
        return self.write(torch.cat([values, parts.to(values.dtype)], dim=-1)).reshape(
            len(z), self.num_steps, self.features
        )


class NoFeatures(nn.Module):
    """For a model without a latent space: z, of no dimensions, tells nothing."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step latent"]:
        return z[:, None, :].expand(-1, self.num_steps, -1)
