"""The feel of each style of the training data: velocity, timing and tempo of what was played as rock, jazz or samba.

A style is what stands before the stroke in GMD's names: `jazz/swing` is jazz. Windows without a style count in the mean
of all alone.
"""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, Int64

from musicvae.data.feel import PLAIN_VELOCITY, FeelSums, GrooveFeel, sum_feel, tempo_quantiles
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError
from musicvae.groove.grid import GridSpec

SHRINKAGE = 1000
"""Hits of the mean of all styles that are added to those of a style, at each step of the bar and drum.

So a cell with 1,000 hits of the style (windows overlap: about 250 that were played) is half its own, one with ten is
nearly the mean of all, and one without is that. Mean squared error on GMD's validation windows with their styles given:
velocity .0633, offset .0367, where the mean of all has .0688 and .0370, and hardly shrunk styles (10) have .0668 and
.0377.
"""
TEMPO_STEPS = 32
"""Into which the tempos of a style, in order, are cut: 33 of them are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class StyleFeel:
    """What is known of how a style is played.

    Attributes:
        velocity: mean, in 0..1, as in `GrooveFeel`, shrunk towards that of all styles (`SHRINKAGE`).
        offset: mean, in steps, shrunk as well.
        tempos: quarter notes per minute that 0/32, 1/32, ... 32/32 of the windows do not exceed. They are what was
            played and are not shrunk: a style of one performance has one tempo.
        windows: of the style.

    Raises:
        ValueError: shapes that do not match, or values out of range.
    """

    name: str
    velocity: Float32[np.ndarray, "bar_step drum"]
    offset: Float32[np.ndarray, "bar_step drum"]
    tempos: Float64[np.ndarray, " share"]
    windows: int

    def __post_init__(self) -> None:
        if self.velocity.shape != self.offset.shape or self.tempos.shape != (TEMPO_STEPS + 1,):
            shapes = f"{self.velocity.shape}, {self.offset.shape}, {self.tempos.shape}"
            raise ValueError(f"velocity, offset and {TEMPO_STEPS + 1} tempos of style {self.name!r}, found {shapes}")
        if not (self.tempos[0] > 0 and (np.diff(self.tempos) >= 0).all()):
            raise ValueError(f"tempos of style {self.name!r} must be positive and ascend, found {self.tempos}")

    def tempo_at(self, share: float) -> float:
        """The tempo, quarter notes per minute, that a share in 0..1 of the windows do not exceed."""
        return float(np.interp(share, np.linspace(0, 1, TEMPO_STEPS + 1), self.tempos))

    def applied(self, feel: GrooveFeel) -> GrooveFeel:
        """The feel of all windows with velocity, timing and median tempo of this style.

        Raises:
            ValueError: it is of another grid or number of drums.
        """
        return replace(feel, velocity=self.velocity, offset=self.offset, tempo=float(self.tempos[TEMPO_STEPS // 2]))


@dataclass(frozen=True, slots=True, eq=False)
class StyleFeels:
    """The feel of every style, in alphabetical order; empty if no window had one."""

    styles: tuple[StyleFeel, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the styles."""
        return tuple(style.name for style in self.styles)

    def of(self, name: str) -> StyleFeel:
        """A style by its name.

        Raises:
            ConfigError: there is no such style.
        """
        for style in self.styles:
            if style.name == name:
                return style
        by_word = {known.lower(): known for known in self.names}
        near = difflib.get_close_matches(name.partition("/")[0].strip().lower(), by_word, n=1)
        raise ConfigError(
            f"there is no style {name!r}",
            expected=", ".join(self.names) or "windows with a style: those that this model was trained on have none",
            found=repr(name),
            likely=f"{by_word[near[0]]} was meant" if near else "",
            do="name one of them" if self.names else "leave the style out",
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """All of it as arrays, as a safetensors file without metadata takes them."""
        names = {"style_names": np.frombuffer(json.dumps(self.names).encode(), dtype=np.uint8)}
        if not self.styles:
            return names
        return names | {
            "style_velocity": np.stack([style.velocity for style in self.styles]),
            "style_offset": np.stack([style.offset for style in self.styles]),
            "style_tempos": np.stack([style.tempos for style in self.styles]),
            "style_windows": np.array([style.windows for style in self.styles], dtype=np.int64),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], grid: GridSpec, num_drums: int) -> "StyleFeels":
        """What `tensors` gave.

        Raises:
            KeyError, TypeError, ValueError: something else, or styles of another grid or number of drums.
        """
        names: list[str] = json.loads(tensors["style_names"].tobytes())
        if not names:
            return cls(())
        windows: Int64[np.ndarray, " style"] = tensors["style_windows"]
        velocity, offset, tempos = (tensors[f"style_{name}"] for name in ("velocity", "offset", "tempos"))
        expected = (len(names), grid.steps_per_bar, num_drums)
        if velocity.shape != expected or len(windows) != len(names):
            raise ValueError(f"feels of shape {expected} expected, found {velocity.shape}")
        columns = zip(names, velocity, offset, tempos, windows.tolist(), strict=True)
        return cls(tuple(StyleFeel(*values) for values in columns))


def primary_style(style: str) -> str:
    """What a style is a kind of: `jazz` of `jazz/swing`."""
    return style.partition("/")[0]


def measure_styles(blocks: Iterable[WindowBlock], grid: GridSpec) -> StyleFeels:
    """Measures windows as they stream by, in any order; memory grows with the styles and different tempos alone."""
    sums: dict[str, FeelSums] = {}
    tempos: dict[str, Counter[float]] = {}
    for block in blocks:
        styles = np.array([primary_style(meta.style) for meta in block.meta])
        for name in np.unique(styles).tolist():
            own = block.take(np.flatnonzero(styles == name))
            of_block = sum_feel(own, grid)
            sums[name] = sums[name] + of_block if name in sums else of_block
            tempos.setdefault(name, Counter()).update(meta.tempo for meta in own.meta)
    if not sums:
        return StyleFeels(())
    first, *others = sums.values()
    velocity, offset = sum(others, start=first).means(when_silent=PLAIN_VELOCITY)
    return StyleFeels(
        tuple(
            StyleFeel(
                name,
                *sums[name].shrunk(velocity, offset, SHRINKAGE),
                np.array(tempo_quantiles(tempos[name], TEMPO_STEPS)),
                tempos[name].total(),
            )
            for name in sorted(filter(None, sums))
        )
    )
