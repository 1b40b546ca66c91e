"""z -> what it tells each step of the window."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from musicvae.groove.grid import GridSpec
from musicvae.model.encoders import feed_forward
from musicvae.model.layers import KeyedDropout, TransformerStack
from musicvae.model.settings import ModelSettings

INIT_STD = 0.1


class _SegmentWriter(nn.Module):
    """A vector for each of several equal segments of a window -> features of every step, by the same weights."""

    def __init__(self, settings: ModelSettings, grid: GridSpec, *, segments: int) -> None:
        super().__init__()
        self.num_steps, self.features = grid.num_steps, settings.step_features
        hidden = settings.step_features_hidden
        self.place = nn.Parameter(torch.randn(segments, hidden) * INIT_STD)
        self.steps = nn.Sequential(
            *feed_forward(hidden, hidden, 1),
            KeyedDropout(settings.decoder_dropout, segments, hidden),
            nn.Linear(hidden, self.num_steps // segments * self.features),
            nn.GELU(),
        )

    def forward(self, values: Float[Tensor, "batch segment hidden"]) -> Float[Tensor, "batch step feature"]:
        return self.steps(values + self.place).reshape(len(values), self.num_steps, self.features)


class WholeFeatures(nn.Module):
    """All of z decides about each bar."""

    def __init__(self, settings: ModelSettings, grid: GridSpec) -> None:
        super().__init__()
        self.bars, hidden = grid.bars, settings.step_features_hidden
        enter = feed_forward(settings.latent, hidden, 1)
        self.spread = nn.Sequential(*enter, nn.Linear(hidden, grid.bars * hidden), nn.GELU())
        self.write = _SegmentWriter(settings, grid, segments=grid.bars)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        return self.write(self.spread(z).view(len(z), self.bars, -1))


class SegmentFeatures(nn.Module):
    """Each part of z, with a summary of all of them, decides about the steps of its own segment."""

    def __init__(self, settings: ModelSettings, grid: GridSpec) -> None:
        super().__init__()
        self.segments, latent, features = settings.latent_segments, settings.latent, settings.step_features
        self.summary = nn.Linear(latent, features)
        self.join = feed_forward(latent // self.segments + features, settings.step_features_hidden, 1)
        self.write = _SegmentWriter(settings, grid, segments=self.segments)

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step feature"]:
        summary = self.summary(z)[:, None].expand(-1, self.segments, -1)
        parts = z.view(len(z), self.segments, -1).to(summary.dtype)
        return self.write(self.join(torch.cat([parts, summary], dim=-1)))


class AttendedFeatures(nn.Module):
    """Each part of z, behind causal attention over those before it, decides about the steps of its own segment."""

    def __init__(self, settings: ModelSettings, grid: GridSpec) -> None:
        super().__init__()
        self.segments, self.num_steps, self.features = settings.latent_segments, grid.num_steps, settings.step_features
        part, hidden = settings.latent // self.segments, settings.step_features_hidden
        self.enter = nn.Linear(part, hidden)
        self.attend = TransformerStack(
            hidden,
            settings.step_features_layers,
            heads=settings.step_features_heads,
            places=self.segments,
            dropout=settings.decoder_dropout,
            causal=True,
        )
        self.write = nn.Sequential(
            nn.Linear(hidden + part, 2 * hidden),
            nn.GELU(),
            nn.Linear(2 * hidden, self.num_steps // self.segments * self.features),
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

    def __init__(self, grid: GridSpec) -> None:
        super().__init__()
        self.num_steps = grid.num_steps

    def forward(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch step latent"]:
        return z[:, None, :].expand(-1, self.num_steps, -1)
