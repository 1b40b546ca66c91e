"""What a latent space is like: whether moving through it does what it promises, measured on decoded grooves; and a map.

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
    Map: the axes are the first two principal components of the codes, by singular value decomposition. They keep
    distances as they are and show nothing that is not there; what they leave out is said on the map, as the share of
    variance.
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Float64

from musicvae.generation.generate import decode_codes
from musicvae.generation.interpolation import even_fractions, expected_changes
from musicvae.generation.latent import slerp
from musicvae.groove.features import measure_attributes
from musicvae.groove.groove import hits_from_tokens
from musicvae.groove.picture import DRUM_COLOURS, FAINT_INK, INK, PAPER, ROW_LINE, Colour
from musicvae.pretrained.model import TrainedModel

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

POSITIONS = np.arange(-6, 7) / 2
"""Along an attribute's direction, in standard deviations of the attribute."""
POINTS = 17
"""Of an interpolation, both ends included."""
SIZE, MARGIN, LEGEND_WIDTH, LINE, TITLE_HEIGHT = 900, 36, 210, 24, 64
"""In pixels: of the map, around it, and of what is written beside it."""
DOT, OVERSAMPLING = 3.0, 3
NO_KIND = "other"
OTHER: Colour = (190, 190, 186)
OUTERMOST = 0.005
"""Share of codes on either side of an axis that may lie beyond the frame's padding; they are drawn on its edge."""


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


@dataclass(frozen=True, slots=True, eq=False)
class LatentAxes:
    """Two axes of a latent space.

    Attributes:
        centre: the mean code.
        directions: of unit length and orthogonal.
        explained: share of the codes' variance along each, 0..1.
    """

    centre: Float64[np.ndarray, " latent"]
    directions: Float64[np.ndarray, "2 latent"]
    explained: tuple[float, float]

    def place(self, codes: Float32[np.ndarray, "code latent"]) -> Float64[np.ndarray, "code 2"]:
        """Where codes lie on the map."""
        return (codes - self.centre) @ self.directions.T


def principal_axes(codes: Float32[np.ndarray, "code latent"]) -> LatentAxes:
    """The axes along which codes vary most; their signs are such that the largest entry of each is positive.

    Raises:
        ValueError: fewer than three codes, or fewer than two dimensions.
    """
    if len(codes) < 3 or codes.shape[1] < 2:
        raise ValueError(f"a map needs three codes of two dimensions, found shape {codes.shape}")
    centre = codes.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(codes - centre, full_matrices=False)
    first = directions[:2]
    signs = np.sign(first[np.arange(2), np.abs(first).argmax(axis=1)])
    shares = sizes[:2] ** 2 / max(float((sizes**2).sum()), np.finfo(np.float64).tiny)
    return LatentAxes(centre, first * signs[:, None], (float(shares[0]), float(shares[1])))


def draw_map(
    places: Float64[np.ndarray, "code 2"], kinds: Sequence[str], explained: tuple[float, float], *, title: str
) -> bytes:
    """The bytes of a PNG. The most frequent kinds have a colour each, all others are grey.

    Args:
        kinds: of each code, empty for an unknown one.
        explained: as in `LatentAxes`.
    """
    from PIL import Image, ImageDraw

    counts = Counter(kind or NO_KIND for kind in kinds)
    coloured = [kind for kind, _ in counts.most_common() if kind != NO_KIND][: len(DRUM_COLOURS)]
    colours = dict(zip(coloured, DRUM_COLOURS, strict=False))
    width, height = 2 * MARGIN + SIZE + LEGEND_WIDTH, 2 * MARGIN + SIZE + TITLE_HEIGHT
    image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), PAPER)
    draw = ImageDraw.Draw(image)
    left, top = MARGIN, MARGIN + TITLE_HEIGHT
    _text(draw, left, MARGIN, title, 20, INK)
    axes = (
        f"the two directions along which codes vary most: {explained[0]:.1%} and {explained[1]:.1%} of their variance"
    )
    _text(draw, left, MARGIN + 30, axes, 14, FAINT_INK)
    frame = [left, top, left + SIZE, top + SIZE]
    draw.rectangle([value * OVERSAMPLING for value in frame], outline=ROW_LINE, width=OVERSAMPLING)

    # One scale for both axes: distances on the map are distances between codes.
    low, high = np.quantile(places, [OUTERMOST, 1 - OUTERMOST], axis=0)
    half = max(float((high - low).max()) / 2, 1e-9) * 1.06
    inside = ((places - (low + high) / 2) / half).clip(-1, 1)
    x, y = left + (inside[:, 0] + 1) / 2 * SIZE, top + (1 - inside[:, 1]) / 2 * SIZE
    # The rare kinds, which would drown, are drawn last.
    for place in sorted(range(len(kinds)), key=lambda i: -counts[kinds[i] or NO_KIND]):
        corners = (x[place] - DOT, y[place] - DOT, x[place] + DOT, y[place] + DOT)
        draw.ellipse([value * OVERSAMPLING for value in corners], fill=colours.get(kinds[place], OTHER))

    legend = [(f"{kind} ({counts[kind]:,})", colour) for kind, colour in colours.items()]
    if others := len(kinds) - sum(counts[kind] for kind in coloured):
        legend.append((f"{NO_KIND} ({others:,})", OTHER))
    for line, (words, colour) in enumerate(legend):
        at = top + line * LINE + 10
        box = (left + SIZE + 20, at, left + SIZE + 32, at + 12)
        draw.ellipse([value * OVERSAMPLING for value in box], fill=colour)
        _text(draw, left + SIZE + 40, at - 2, words, 15, INK)
    buffer = io.BytesIO()
    image.reduce(OVERSAMPLING).save(buffer, "PNG")
    return buffer.getvalue()


def _text(draw: "ImageDraw", x: int, y: int, words: str, size: int, fill: Colour) -> None:
    from PIL import ImageFont

    draw.text((x * OVERSAMPLING, y * OVERSAMPLING), words, fill, ImageFont.load_default(size * OVERSAMPLING))
