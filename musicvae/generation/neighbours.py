"""The nearest of many codes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32


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
