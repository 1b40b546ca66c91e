"""Points on the path between two codes that a listener would call evenly spaced.

Equal fractions of an arc are not equal steps for the ear: a decoder changes its mind about most hits within a small
part of the path. So points are placed where an equal share of all that changes has changed.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int16

from musicvae.generation.generate import decode_codes, one_thread
from musicvae.generation.latent import slerp
from musicvae.generation.recipe import Interpolation, Square
from musicvae.generation.settings import BATCH
from musicvae.groove.groove import hits_from_tokens
from musicvae.model.model import MusicVAE

FINENESS = 256
"""Pieces of an arc on which changes are measured."""
NO_CHANGE = 0.01
"""Hits on a whole path below which nothing changes but rounding."""


def even_fractions(
    model: MusicVAE,
    start: Float32[np.ndarray, " latent"],
    end: Float32[np.ndarray, " latent"],
    points: int,
    *,
    shown: Int16[np.ndarray, "groove step"] | None = None,
) -> tuple[float, ...]:
    """Fractions of the arc (slerp) from `start` to `end`, 0 and 1 included, between which equally many hits change.

    Where nothing changes on the whole path, equal fractions.

    Args:
        shown: as for `expected_changes`.

    Raises:
        ValueError: fewer than two points.
    """
    if points < 2:
        raise ValueError(f"an interpolation needs its two ends, found {points} points")
    fine = np.arange(FINENESS + 1) / FINENESS
    arc = slerp(torch.from_numpy(start), torch.from_numpy(end), torch.from_numpy(fine)).numpy()
    changed = np.concatenate([[0.0], np.cumsum(expected_changes(model, arc, shown))])
    wanted = np.arange(points) / (points - 1)
    if changed[-1] > NO_CHANGE:
        wanted = np.interp(wanted * changed[-1], changed, fine)
    return (0.0, *wanted[1:-1].tolist(), 1.0)


def interpolation(
    model: MusicVAE, start: Float32[np.ndarray, " latent"], end: Float32[np.ndarray, " latent"], points: int
) -> Interpolation:
    """The path between two codes with equal changes from point to point.

    Raises:
        ValueError: fewer than two points.
    """
    return Interpolation(start, end, even_fractions(model, start, end, points))


def square(model: MusicVAE, corners: Float32[np.ndarray, "corner latent"], points: int) -> Square:
    """A square of points between four codes, with equal changes from point to point on each edge.

    Inside, the fractions of a column go from those of the left edge to those of the right one, in equal steps.

    Args:
        corners: above left, above right, below left, below right.
        points: on each side.

    Raises:
        ValueError: fewer than two points.
    """
    a, b, c, d = corners
    above, below = (interpolation(model, *ends, points=points).codes().numpy() for ends in ((a, b), (c, d)))
    left, right = (np.array(even_fractions(model, *ends, points=points)) for ends in ((a, c), (b, d)))
    columns = []
    for column, (start, end) in enumerate(zip(above, below, strict=True)):
        between = left + (right - left) * column / (points - 1)
        columns.append(Interpolation(start, end, (0.0, *between[1:-1].tolist(), 1.0)))
    return Square(tuple(columns))


def expected_changes(
    model: MusicVAE,
    path: Float32[np.ndarray, "point latent"],
    shown: Int16[np.ndarray, "groove step"] | None = None,
) -> Float64[np.ndarray, " jump"]:
    """How many hit cells change from each point of a path to the next by the decoder's probabilities.

    sum |p' - p| over (step, drum), with p the probability of a hit when the decoder is shown a fixed groove before each
    step: the mean of that with the reconstruction of the path's one end shown and with the other's. The likeliest
    tokens themselves jump by whole hits, and a decoder that is shown its own choices goes another way after each.

    Args:
        shown: tokens of the reconstructions of both ends, from `decode_codes`, where they are known already.
    """
    sizes = []
    for groove in decode_codes(model, path[[0, -1]]) if shown is None else shown:
        probabilities = hit_probabilities(model, path, np.tile(groove, (len(path), 1)))
        sizes.append(np.abs(np.diff(probabilities, axis=0)).sum(axis=(1, 2)))
    return np.mean(sizes, axis=0)


@torch.no_grad()
def hit_probabilities(
    model: MusicVAE, codes: Float32[np.ndarray, "code latent"], shown: Int16[np.ndarray, "code step"]
) -> Float[np.ndarray, "code step drum"]:
    """Probability that each drum is hit at each step, when the decoder is shown these tokens before it."""
    every = np.arange(1 << model.num_drums, dtype=np.int16)
    has_drum = torch.from_numpy(hits_from_tokens(every, model.num_drums)).double()
    probabilities = []
    with one_thread():
        for first in range(0, len(codes), BATCH):
            rows = slice(first, first + BATCH)
            logits = model.logits(torch.from_numpy(codes[rows]), torch.from_numpy(shown[rows]).long())
            probabilities.append((logits.double().softmax(dim=-1) @ has_drum).numpy())
    return np.concatenate(probabilities)
