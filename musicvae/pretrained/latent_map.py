"""A map of a latent space: codes on the two axes along which they vary most, coloured by kind.

The axes are the first two principal components of the codes, by singular value decomposition. They keep distances as
they are and show nothing that is not there; what they leave out is said on the map, as the share of variance.
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64

from musicvae.groove.picture import DRUM_COLOURS, FAINT_INK, INK, PAPER, ROW_LINE, Colour

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIZE, MARGIN, LEGEND_WIDTH, LINE, TITLE_HEIGHT = 900, 36, 210, 24, 64
"""In pixels: of the map, around it, and of what is written beside it."""
DOT, OVERSAMPLING = 3.0, 3
NO_KIND = "other"
OTHER: Colour = (190, 190, 186)
OUTERMOST = 0.005
"""Share of codes on either side of an axis that may lie beyond the frame's padding; they are drawn on its edge."""


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
