"""All that decides what item i is, besides the weights and i itself; and where its code comes from.

A code is z itself. It comes from the prior, from a given window, or from the interpolation of two or four codes, and
each of them can be moved. What is random goes through the prior's noise, in which z is N(0, I): see
`musicvae.model.prior`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float32, Int16, Int64
from torch import Tensor

from musicvae.generation.constraints import GrooveConstraint, HitMask
from musicvae.generation.latent import slerp, variations
from musicvae.generation.style_guide import CANDIDATES, WantedStyle
from musicvae.groove.features import quality
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens
from musicvae.model.prior import Prior
from musicvae.model.settings import DecodingPrecision
from musicvae.model.token_choice import Temperature, TokenChoice
from musicvae.randomness import Purpose, normals, uniforms


@dataclass(frozen=True, slots=True)
class PriorSource:
    """New grooves: the code of item i is a draw from the prior.

    Attributes:
        style: what it is chosen by among several draws; None takes the first.
    """

    style: WantedStyle | None = None


@dataclass(frozen=True, slots=True, eq=False)
class VariationSource:
    """Variations of given windows, which take turns.

    Attributes:
        mu: code of each window, see `musicvae.generation.generate.encode_windows`.
        distance: 0 is the window's reconstruction, 1 a groove that knows nothing of it
            (`musicvae.generation.latent.variations`).

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
    """Points of the arc between two codes, both included, which take turns.

    Attributes:
        fractions: where on the arc each point is, the first 0 and the last 1
            (`musicvae.generation.interpolation.even_fractions`).

    Raises:
        ValueError: fewer than two points, or other ends.
    """

    start: Float32[np.ndarray, " latent"]
    end: Float32[np.ndarray, " latent"]
    fractions: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.fractions) < 2 or (self.fractions[0], self.fractions[-1]) != (0, 1):
            raise ValueError(f"an interpolation needs its two ends, found {self.fractions}")

    @property
    def points(self) -> int:
        return len(self.fractions)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of points: one row."""
        return 1, self.points

    def share_of(self, item: int) -> float:
        """How far along the path an item is, by the number of its point: 0 at the start, 1 at the end."""
        return item % self.points / (self.points - 1)

    def between(self, item: int, start: float, end: float) -> float:
        """A number that goes along the path as the item does."""
        return start + (end - start) * self.share_of(item)

    def ends_of(self, item: int) -> tuple[int, int]:
        """The ends, 0 and 1, whose hits an item keeps: of the first, then of the second. An end is its own alone."""
        share = self.share_of(item)
        nearer = int(share > 0.5)
        return (nearer, nearer) if share in (0, 1) else (nearer, 1 - nearer)

    def codes(self) -> Float32[Tensor, "point latent"]:
        """The code of each point."""
        fractions = torch.tensor(self.fractions, dtype=torch.float64)
        return slerp(torch.from_numpy(self.start), torch.from_numpy(self.end), fractions)


@dataclass(frozen=True, slots=True, eq=False)
class Square:
    """Points between four codes, which take turns row by row.

    The first row is the interpolation of the first two codes, the last row that of the other two. A column is the
    interpolation from its point of the first row to that of the last.

    Attributes:
        columns: from left to right, all with the same number of points, at least two of them.
    """

    columns: tuple[Interpolation, ...]

    @property
    def points(self) -> int:
        return len(self.columns) * self.columns[0].points

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of points."""
        return self.columns[0].points, len(self.columns)

    def shares_of(self, item: int) -> tuple[float, float]:
        """How far down and how far across an item is, by the numbers of its row and column: 0 to 1."""
        rows, columns = self.shape
        row, column = divmod(item % self.points, columns)
        return row / (rows - 1), column / (columns - 1)

    def between(self, item: int, start: float, end: float, other_start: float, other_end: float) -> float:
        """A number that goes from corner to corner as the item does."""
        down, across = self.shares_of(item)
        above, below = start + (end - start) * across, other_start + (other_end - other_start) * across
        return above + (below - above) * down

    def ends_of(self, item: int) -> tuple[int, ...]:
        """The corners, 0 to 3, whose hits an item keeps, the nearest first. A corner is its own alone.

        Four numbers: those that an edge does not have are the nearest again.
        """
        corners = np.eye(4)
        weights = [self.between(item, *corner) for corner in corners]
        near = [end for end in sorted(range(4), key=lambda end: -weights[end]) if weights[end] > 0]
        return (*near, *near[:1] * (4 - len(near)))

    def codes(self) -> Float32[Tensor, "point latent"]:
        """The code of each point, row by row."""
        return torch.stack([column.codes() for column in self.columns], dim=1).flatten(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """Another origin's codes with something added to each, such as `AttributeVectors.shift`."""

    origin: PriorSource | VariationSource | Interpolation | Square
    shift: Float32[np.ndarray, " latent"]


LatentSource: TypeAlias = PriorSource | VariationSource | Interpolation | Square | Moved


def codes_of(
    origin: LatentSource, prior: Prior, latent: int, *, seed: int, first: int, count: int, draw: int = 0
) -> Float32[Tensor, "item latent"]:
    """Codes of the items from `first` on, each a function of the origin, the seed, the draw and its own number.

    Args:
        draw: which of several independent codes of each item.
    """
    items = range(first, first + count)

    def noise(purpose: Purpose) -> Tensor:
        return torch.from_numpy(normals(seed, purpose, draw, first, count, latent)).float()

    match origin:
        case PriorSource(style=style):
            if style is None:
                return prior.z_of(noise(Purpose.PRIOR))
            several = normals(seed, Purpose.PRIOR, draw, first * CANDIDATES, count * CANDIDATES, latent)
            chance = torch.from_numpy(uniforms(seed, Purpose.STYLE, draw, first, count, 1)[:, 0])
            return style.chosen(prior.z_of(torch.from_numpy(several).float()), chance)
        case VariationSource(mu=mu, distance=distance) as like:
            rows = torch.from_numpy(mu[[like.window_of(item) for item in items]])
            if distance == 0:  # there and back again would cost the last bits
                return rows
            return prior.z_of(variations(prior.noise_of(rows), noise(Purpose.VARIATION), distance))
        case (Interpolation() | Square()) as path:
            return path.codes()[[item % path.points for item in items]]
        case Moved(origin=before, shift=shift):
            codes = codes_of(before, prior, latent, seed=seed, first=first, count=count, draw=draw)
            return codes + torch.from_numpy(shift)


@dataclass(frozen=True, slots=True)
class BestOf:
    """Which of several candidates becomes a groove: that of the highest quality, of equal ones the first.

    Attributes:
        candidates: for each groove. Those of groove i are the items from `candidates` x i on of the same settings
            without a choice.
        drums: name of each class, for `musicvae.groove.features.quality`.
    """

    candidates: int
    grid: GridSpec
    drums: tuple[str, ...]

    @classmethod
    def several(cls, candidates: int, grid: GridSpec, drums: Sequence[str]) -> "BestOf | None":
        """The choice among some candidates; none among one.

        Raises:
            ValueError: fewer than one.
        """
        if candidates < 1:
            raise ValueError(f"a groove is chosen from 1 or more, found {candidates}")
        return None if candidates == 1 else cls(candidates, grid, tuple(drums))

    def chosen(self, tokens: Int16[np.ndarray, "candidate step"]) -> Int64[np.ndarray, " groove"]:
        """The rows that become grooves; candidates of a groove lie side by side."""
        figure = quality(hits_from_tokens(tokens, len(self.drums)), self.grid, self.drums)
        return np.arange(len(tokens)).reshape(-1, self.candidates)[:, 0] + figure.reshape(-1, self.candidates).argmax(1)


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How grooves are made.

    Attributes:
        origin: where codes come from.
        seed: key of all noise.
        temperature: divides the logits before a token is drawn, one for all or one for each bar; None takes the
            likeliest token at every step, so that a groove is a function of its code alone.
        top_p: see `TokenChoice`.
        hit_mask: hits and silences that are decided beforehand.
        constraint: what each groove has to have as a whole.
        precision: of decoding.
        best_of: how a groove is chosen from several; None makes one alone.

    Raises:
        ValueError: a negative seed, a temperature that is not positive, a top_p outside (0, 1], or several candidates
            where codes do not come from the prior.
    """

    origin: LatentSource
    seed: int
    temperature: Temperature = 1.0
    top_p: float = 1.0
    hit_mask: HitMask | None = None
    constraint: GrooveConstraint | None = None
    precision: DecodingPrecision = "float32"
    best_of: BestOf | None = None

    def __post_init__(self) -> None:
        origin = self.origin.origin if isinstance(self.origin, Moved) else self.origin
        if self.best_of is not None and not isinstance(origin, PriorSource):
            raise ValueError(f"only grooves of the prior are chosen from several, found a {type(origin).__name__}")
        if self.seed < 0:
            raise ValueError(f"a seed cannot be negative, found {self.seed}")
        TokenChoice(self.temperature, self.top_p)

    @property
    def choice(self) -> TokenChoice:
        """How a token is chosen from its logits."""
        return TokenChoice(self.temperature, self.top_p)
