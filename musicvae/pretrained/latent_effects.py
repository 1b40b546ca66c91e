"""Whether moving through the latent space does what it promises, measured on decoded grooves.

Conventions:
    Attributes: each starting code is moved along the attribute's direction to `POSITIONS`, decoded with the likeliest
    tokens, and the attribute of the decoded groove is measured. `correlation` is Spearman's rank correlation (ties take
    their mean rank) of position and attribute along one such path, 0 where the attribute never changes. `gain` is the
    slope of the attribute over the positions within one unit of the start, in standard deviations for one unit: 1 is a
    decoder that follows the regression fully.
    Interpolation: the path between two codes is cut into `POINTS` - 1 jumps as `TrainedModel.interpolate` cuts it. The
    size of a jump is the number of hit cells that are expected to change
    (`musicvae.generation.interpolation.expected_changes`); `decoded` holds cells that differ between neighbouring
    decoded grooves. As points are placed by expected changes, a jump that is much greater than the mean is a place
    where the decoder leaps. The figure of a path is its greatest jump over the mean of its jumps: 1 is even, `POINTS` -
    1 a single leap.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64

from musicvae.generation.generate import decode_codes
from musicvae.generation.interpolation import even_fractions, expected_changes
from musicvae.generation.latent import slerp
from musicvae.groove.features import measure_attributes
from musicvae.groove.groove import hits_from_tokens
from musicvae.pretrained.model import TrainedModel

POSITIONS = np.arange(-6, 7) / 2
"""Along an attribute's direction, in standard deviations of the attribute."""
POINTS = 17
"""Of an interpolation, both ends included."""


@dataclass(frozen=True, slots=True, eq=False)
class AttributeEffect:
    """What a direction does.

    Attributes:
        correlation: Spearman's, of each start.
        gain: of each start, in standard deviations of the attribute for a unit of the direction.
        means: attribute at each of `POSITIONS`, mean over starts, in standard deviations from the training mean.
    """

    name: str
    correlation: Float64[np.ndarray, " start"]
    gain: Float64[np.ndarray, " start"]
    means: Float64[np.ndarray, " position"]


@dataclass(frozen=True, slots=True, eq=False)
class InterpolationEffect:
    """Sizes of the jumps of paths between codes, in hit cells: expected ones, and those of the decoded grooves."""

    expected: Float64[np.ndarray, "path jump"]
    decoded: Float64[np.ndarray, "path jump"]


def unevenness(jumps: Float64[np.ndarray, "path jump"]) -> Float64[np.ndarray, " path"]:
    """Greatest jump of each path over the mean of its jumps; 1 for a path that never jumps."""
    mean = jumps.mean(axis=1)
    return np.divide(jumps.max(axis=1), mean, out=np.ones_like(mean), where=mean > 0)


def attribute_effects(trained: TrainedModel, codes: Float32[np.ndarray, "start latent"]) -> list[AttributeEffect]:
    """The effect of every direction on grooves that start at some codes.

    Raises:
        ValueError: the model has no attribute vectors.
    """
    vectors = trained.vectors
    if vectors is None:
        raise ValueError("the model has no attribute vectors")
    near = np.abs(POSITIONS) <= 1
    effects = []
    for number, name in enumerate(vectors.names):
        moved = codes[:, None] + POSITIONS[None, :, None].astype(np.float32) * vectors.directions[number]
        tokens = decode_codes(trained.model, moved.reshape(-1, codes.shape[1]))
        hits = hits_from_tokens(tokens, trained.drum_map.num_drums)
        values = measure_attributes(hits, trained.grid, trained.drum_map.classes)[:, number]
        standard = (values - vectors.mean[number]) / (vectors.deviation[number] or 1.0)
        paths = standard.reshape(len(codes), len(POSITIONS))
        slope = paths[:, near] @ POSITIONS[near] / (POSITIONS[near] ** 2).sum()
        effects.append(
            AttributeEffect(name, np.array([spearman(POSITIONS, path) for path in paths]), slope, paths.mean(axis=0))
        )
    return effects


def spearman(a: Float64[np.ndarray, " value"], b: Float64[np.ndarray, " value"]) -> float:
    """Rank correlation with mean ranks for ties; 0 where one of both is constant."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (a, b)]
    size = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return float(ranks[0] @ ranks[1] / size) if size else 0.0


def interpolation_effect(
    trained: TrainedModel,
    starts: Float32[np.ndarray, "path latent"],
    ends: Float32[np.ndarray, "path latent"],
) -> InterpolationEffect:
    """The jumps on the paths between pairs of codes."""
    model, drums = trained.model, trained.drum_map.num_drums
    # A call decodes whole batches, however few codes it is given.
    reconstructions = np.stack(np.split(decode_codes(model, np.concatenate([starts, ends])), 2), axis=1)
    paths, expected = [], []
    for start, end, shown in zip(starts, ends, reconstructions, strict=True):
        fractions = torch.tensor(even_fractions(model, start, end, POINTS, shown=shown), dtype=torch.float64)
        paths.append(slerp(torch.from_numpy(start), torch.from_numpy(end), fractions).numpy())
        expected.append(expected_changes(model, paths[-1], shown))
    hits = hits_from_tokens(decode_codes(model, np.concatenate(paths)), drums).reshape(len(paths), POINTS, -1)
    decoded = (hits[:, 1:] != hits[:, :-1]).sum(axis=2).astype(np.float64)
    return InterpolationEffect(np.array(expected), decoded)


def _ranks(values: Float64[np.ndarray, " value"]) -> Float64[np.ndarray, " value"]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[which]
