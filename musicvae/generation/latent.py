"""Geometry of the latent space: arcs between two codes, variations at a distance from one, and the nearest of many.

In many dimensions nearly all of the mass of N(0, I) lies close to a sphere around the origin, so arcs and variations
stay near that sphere; a straight line would cut through the middle, where the decoder has hardly ever been. Where the
prior is learnt, variations are of its noise, in which it is N(0, I), and arcs are between the codes themselves.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

STRAIGHT_BELOW = 1e-6
"""Sine of the angle between two codes below which the arc between them is no longer defined by its ends."""


def slerp(
    start: Float[Tensor, " latent"], end: Float[Tensor, " latent"], fractions: Float[Tensor, " point"]
) -> Float[Tensor, "point latent"]:
    """Spherical interpolation (Shoemake 1985); fractions 0 and 1 give `start` and `end` to the last bit.

    Where no arc is defined, that is for parallel, opposite or zero vectors, the path is the straight line.
    """
    a, b, t = start.double(), end.double(), fractions.double()[:, None]
    angle = _angle(a, b)
    if math.sin(angle) < STRAIGHT_BELOW:
        from_start, from_end = 1 - t, t
    else:
        from_start = torch.sin((1 - t) * angle) / math.sin(angle)
        from_end = torch.sin(t * angle) / math.sin(angle)
    return (from_start * a + from_end * b).to(start.dtype)


def variations(
    mu: Float[Tensor, "batch latent"], noise: Float[Tensor, "batch latent"], distance: float
) -> Float[Tensor, "batch latent"]:
    """A step from each code towards a draw from the prior N(0, I), along a quarter of a circle of which d is the share.

    z = cos(d pi/2) mu + sin(d pi/2) noise: at distance 0 the code is mu itself to the last bit, at 1 a draw from the
    prior that knows nothing of mu. Codes distributed as the prior stay so at every distance, so that none leaves the
    region that the decoder was trained on; what a decoded groove shares with the one at distance 0 falls evenly with d.

    Raises:
        ValueError: a distance outside 0..1.
    """
    if not 0 <= distance <= 1:
        raise ValueError(f"a distance lies in 0..1, found {distance}")
    angle = distance * math.pi / 2
    return math.cos(angle) * mu + math.sin(angle) * noise


def _angle(a: Float[Tensor, " latent"], b: Float[Tensor, " latent"]) -> float:
    """Angle between two vectors in radians, 0 if either is zero; exact also near 0 and pi, where acos is not."""
    norm_a, norm_b = a.norm(), b.norm()
    if norm_a == 0 or norm_b == 0:
        return 0.0
    # Kahan 2006, "How futile are mindless assessments of roundoff in floating-point computation?"
    u, v = a / norm_a, b / norm_b
    return 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One of the grooves that were searched.

    Attributes:
        index: its place among them.
        distance: of the two codes, Euclidean.
    """

    index: int
    distance: float


def nearest_codes(
    code: Float32[np.ndarray, " latent"], among: Float[np.ndarray, "groove latent"], count: int
) -> list[Neighbour]:
    """The nearest codes, the nearest first; of equally near ones the first."""
    distances = np.linalg.norm(among.astype(np.float64) - code, axis=1)
    nearest = np.argsort(distances, kind="stable")[:count].tolist()
    return [Neighbour(index, float(distances[index])) for index in nearest]
