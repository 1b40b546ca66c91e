"""Where codes come from: the prior, given windows, the way between two codes, and each of them moved.

Codes are points in the coordinates in which the prior is N(0, I) (`musicvae.prior`).
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from musicvae.latent import interpolation, variations
from musicvae.randomness import Purpose, normals


@dataclass(frozen=True, slots=True)
class FromPrior:
    """New grooves: the code of item i is a draw from N(0, I)."""


@dataclass(frozen=True, slots=True, eq=False)
class LikeWindows:
    """Variations of given windows, which take turns.

    Attributes:
        mu: code of each window, see `musicvae.sampling.encode_windows`.
        distance: 0 is the window's reconstruction, 1 a groove that knows nothing of it (`musicvae.latent.variations`).

    Raises:
        ValueError: no windows, or a distance outside 0..1.
    """

    mu: Float32[np.ndarray, "window latent"]
    distance: float

    def __post_init__(self) -> None:
        if not len(self.mu):
            raise ValueError("no windows to vary")
        if not 0 <= self.distance <= 1:
            raise ValueError(f"a distance lies in 0..1, found {self.distance}")

    def window_of(self, item: int) -> int:
        """The window that an item is a variation of: they take turns."""
        return item % len(self.mu)


@dataclass(frozen=True, slots=True, eq=False)
class Interpolation:
    """Points at equal fractions of the arc between two codes, both included, which take turns.

    Raises:
        ValueError: fewer than two points.
    """

    start: Float32[np.ndarray, " latent"]
    end: Float32[np.ndarray, " latent"]
    points: int

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"an interpolation needs its two ends, found {self.points} points")

    def fraction_of(self, item: int) -> float:
        """How far on its way an item is: 0 at the start, 1 at the end."""
        return item % self.points / (self.points - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """Another origin's codes with something added to each, such as `AttributeVectors.shift`."""

    origin: FromPrior | LikeWindows | Interpolation
    shift: Float32[np.ndarray, " latent"]


Origin: TypeAlias = FromPrior | LikeWindows | Interpolation | Moved


def codes_of(
    origin: Origin, latent: int, *, seed: int, first: int, count: int, draw: int = 0
) -> Float32[Tensor, "item latent"]:
    """Codes of the items from `first` on, each a function of the origin, the seed, the draw and its own number.

    Args:
        draw: which of several independent codes of each item.
    """
    items = range(first, first + count)

    def noise(purpose: Purpose) -> Tensor:
        return torch.from_numpy(normals(seed, purpose, draw, first, count, latent)).float()

    match origin:
        case FromPrior():
            return noise(Purpose.PRIOR)
        case LikeWindows(mu=mu, distance=distance) as like:
            rows = torch.from_numpy(mu[[like.window_of(item) for item in items]])
            return variations(rows, noise(Purpose.VARIATION), distance)
        case Interpolation(start=start, end=end, points=points):
            way = interpolation(torch.from_numpy(start), torch.from_numpy(end), points)
            return way[[item % points for item in items]]
        case Moved(origin=before, shift=shift):
            return codes_of(before, latent, seed=seed, first=first, count=count, draw=draw) + torch.from_numpy(shift)
