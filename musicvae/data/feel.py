"""The feel of the training data: how hard, and how early or late, each drum is hit at each place of the bar.

The model writes which drums are hit when. Their velocity and timing are the training data's mean at the same step of
the bar and the same drum class: not a performance, but far closer to one than a fixed velocity on the grid (mean
squared error on GMD's validation windows: velocity .069 instead of .084, offset .037 instead of .044). `FeelCounts`
are those of some windows, which parts of a data set can add up.

A style is what stands before the stroke in GMD's names: `jazz/swing` is jazz. Windows without a style count in the mean
of all alone.
"""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Float32, Float64, Int64
from safetensors import SafetensorError

from musicvae.data.windows import OFFSET_UNITS, WindowBlock
from musicvae.durable import write_whole
from musicvae.errors import ConfigError, DataError
from musicvae.groove.features import GrooveStatistics, count_grooves
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove, hits_from_tokens
from musicvae.groove.played import LAST_OFFSET, PlayedHits

PLAIN_VELOCITY = 100 / MAX_VELOCITY
"""What most sequencers give a note that nobody played."""
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
class GrooveFeel:
    """Mean velocity and offset per step of the bar and drum class, and what else is known of the training data.

    Attributes:
        velocity: in 0..1, as in `DrumGroove`.
        offset: in steps, early is negative, as in `DrumGroove`.
        tempo: median tempo of the windows, quarter notes per minute.
        statistics: counts over the windows that it was measured on.

    Raises:
        ValueError: shapes that do not match the grid, or values out of range.
    """

    grid: GridSpec
    velocity: Float32[np.ndarray, "bar_step drum"]
    offset: Float32[np.ndarray, "bar_step drum"]
    tempo: float
    statistics: GrooveStatistics

    def __post_init__(self) -> None:
        expected = (self.grid.steps_per_bar, len(self.statistics.hits))
        if not self.velocity.shape == self.offset.shape == expected:
            raise ValueError(f"velocity and offset must have shape {expected}, found {self.velocity.shape}")
        if not (np.all(self.velocity > 0) and np.all(self.velocity <= 1)):
            raise ValueError("velocity must lie in (0, 1]")
        if not (np.all(self.offset >= -0.5) and np.all(self.offset < 0.5)):
            raise ValueError("offset must lie in [-0.5, 0.5) of a step")
        if not self.tempo > 0:
            raise ValueError(f"tempo must be positive, found {self.tempo}")

    def plain(self) -> "GrooveFeel":
        """The same with one velocity for every hit and every hit on the grid."""
        return replace(self, velocity=np.full_like(self.velocity, PLAIN_VELOCITY), offset=np.zeros_like(self.offset))

    def centred(self) -> "GrooveFeel":
        """The same without what all hits are early or late by on the whole: the latency of a recording, no feel."""
        weights = np.broadcast_to(self.statistics.class_shares, self.offset.shape)
        lean = np.average(self.offset, weights=weights) if weights.any() else 0.0
        return replace(self, offset=(self.offset - lean).clip(-0.5, LAST_OFFSET).astype(np.float32))

    def play(
        self, hits: Bool[np.ndarray, "*groove step drum"], kept: PlayedHits | None = None
    ) -> tuple[Float32[np.ndarray, "*groove step drum"], Float32[np.ndarray, "*groove step drum"]]:
        """Velocity and offset of hits, 0 where there is none: every groove that is generated is played here.

        Args:
            kept: hits that stay as they were played, where the grooves have them: of each groove, or one for all of
                them. All other hits are new and have the mean.
        """
        velocity, offset = (np.tile(of_bar, (self.grid.bars, 1)) for of_bar in (self.velocity, self.offset))
        if kept is not None:
            velocity = np.where(kept.hits, kept.velocity, velocity)
            offset = np.where(kept.hits, kept.offset, offset)
        return np.where(hits, velocity, np.float32(0)), np.where(hits, offset, np.float32(0))

    def groove(
        self,
        hits: Bool[np.ndarray, "step drum"],
        *,
        tempo: float | None = None,
        source: str = "",
        kept: PlayedHits | None = None,
    ) -> DrumGroove:
        """Hits as a groove, played as in `play`, at the median tempo unless told otherwise."""
        velocity, offset = self.play(hits, kept)
        return DrumGroove(
            grid=self.grid,
            hits=hits,
            velocity=velocity,
            offset=offset,
            tempo=self.tempo if tempo is None else tempo,
            source=source,
        )

    def save(self, path: Path) -> None:
        """Writes a safetensors file. Everything is a tensor: metadata would be written in no fixed order."""
        counts = self.statistics
        tensors = {
            "grid": np.array(astuple(self.grid), dtype=np.int64),
            "velocity": self.velocity,
            "offset": self.offset,
            "tempo": np.array([self.tempo], dtype=np.float64),
            "counts": np.array([counts.windows, counts.empty, counts.bars], dtype=np.int64),
            "hits": counts.hits,
        }
        write_whole(path, safetensors.numpy.save({name: np.ascontiguousarray(t) for name, t in tensors.items()}))

    @classmethod
    def load(cls, path: Path) -> "GrooveFeel":
        """Reads what `save` wrote.

        Raises:
            DataError: no such file, or it is not one of ours.
        """
        try:
            tensors = safetensors.numpy.load(path.read_bytes())
            windows, empty, bars = tensors["counts"].tolist()
            return cls(
                grid=GridSpec(*tensors["grid"].tolist()),
                velocity=tensors["velocity"],
                offset=tensors["offset"],
                tempo=tensors["tempo"].item(),
                statistics=GrooveStatistics(windows, empty, bars, tensors["hits"]),
            )
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"{path} cannot be used",
                expected="velocity, timing and tempo of the training data, as jobs.train writes them",
                found=f"{type(error).__name__}: {error}",
                likely="the run never started, or an incomplete copy",
                do="copy the run folder again, or run the same jobs.train command again, which rewrites the file",
            ) from None


def measure_feel(blocks: Iterable[WindowBlock], grid: GridSpec) -> GrooveFeel:
    """Measures windows as they stream by; memory does not grow with their number.

    Raises:
        ValueError: there are no windows.
    """
    return feel_of([count_feel(blocks, grid)], grid)


def count_feel(blocks: Iterable[WindowBlock], grid: GridSpec) -> "FeelCounts | None":
    """The part of `feel_of` that some of the data has; None where there are no blocks."""
    counts: FeelCounts | None = None
    for block in blocks:
        part = FeelCounts.of(block, grid)
        counts = part if counts is None else counts + part
    return counts


def feel_of(parts: Iterable["FeelCounts | None"], grid: GridSpec) -> GrooveFeel:
    """The feel of data that was counted in parts, which is the same however it was parted.

    Raises:
        ValueError: there are no windows.
    """
    counted = list(filter(None, parts))
    if not counted or not sum(part.statistics.windows for part in counted):
        raise ValueError("no windows to measure a feel on")
    counts = reduce(add, counted)
    velocity, offset = counts.means(when_silent=PLAIN_VELOCITY)
    tempo = tempo_quantiles(counts.tempos, 2)[1]
    return GrooveFeel(grid=grid, velocity=velocity, offset=offset, tempo=tempo, statistics=counts.statistics)


def tempo_quantiles(counts: Counter[float], steps: int) -> list[float]:
    """The least counted values that 0, 1, ... `steps` of `steps` equal shares do not exceed; there is at least one."""
    values = sorted(counts)
    below = np.cumsum([counts[value] for value in values])
    ranks = [max(1, -(-share * int(below[-1]) // steps)) for share in range(steps + 1)]
    return [float(values[place]) for place in np.searchsorted(below, ranks).tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class FeelCounts:
    """Counts of windows, in the shards' integer units, so that the order of blocks cannot change the result.

    Attributes:
        hits: how many there are.
        velocity: sum of MIDI velocities.
        offset: sum of distances from the grid in 1/65536 of a step.
        statistics: of the same windows.
        tempos: how many windows have each tempo.
    """

    hits: Int64[np.ndarray, "bar_step drum"]
    velocity: Int64[np.ndarray, "bar_step drum"]
    offset: Int64[np.ndarray, "bar_step drum"]
    statistics: GrooveStatistics
    tempos: Counter[float]

    @classmethod
    def of(cls, block: WindowBlock, grid: GridSpec) -> "FeelCounts":
        """The counts of a block, all bars together."""
        hits = hits_from_tokens(block.tokens, block.velocity.shape[-1])
        hits_sum, velocity, offset = (
            values.reshape(-1, grid.steps_per_bar, values.shape[-1]).sum(axis=0, dtype=np.int64)
            for values in (hits, block.velocity * hits, block.offset * hits)
        )
        tempos = Counter(meta.tempo for meta in block.meta)
        return cls(hits_sum, velocity, offset, count_grooves(hits, grid), tempos)

    def __add__(self, other: "FeelCounts") -> "FeelCounts":
        return FeelCounts(
            self.hits + other.hits,
            self.velocity + other.velocity,
            self.offset + other.offset,
            self.statistics + other.statistics,
            self.tempos + other.tempos,
        )

    def means(
        self, *, when_silent: float
    ) -> tuple[Float32[np.ndarray, "bar_step drum"], Float32[np.ndarray, "bar_step drum"]]:
        """Mean velocity, 0..1, and offset, in steps, of each cell.

        Without hits there it is the mean of its class, then of everything, then a velocity `when_silent` on the grid.
        """
        return (
            _mean(self.velocity, self.hits, when_silent=when_silent * MAX_VELOCITY, unit=MAX_VELOCITY),
            _mean(self.offset, self.hits, when_silent=0.0, unit=OFFSET_UNITS),
        )

    def shrunk(
        self, velocity: Float32[np.ndarray, "bar_step drum"], offset: Float32[np.ndarray, "bar_step drum"], hits: int
    ) -> tuple[Float32[np.ndarray, "bar_step drum"], Float32[np.ndarray, "bar_step drum"]]:
        """Mean velocity and offset of each cell, as in `means`, with so many hits of given ones added to it."""
        return (
            _shrunk(self.velocity / MAX_VELOCITY, self.hits, velocity, hits),
            _shrunk(self.offset / OFFSET_UNITS, self.hits, offset, hits),
        )


def _mean(
    sums: Int64[np.ndarray, "bar_step drum"],
    hits: Int64[np.ndarray, "bar_step drum"],
    *,
    when_silent: float,
    unit: int,
) -> Float32[np.ndarray, "bar_step drum"]:
    def ratio(total: np.ndarray, count: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
        return np.where(count > 0, total / np.maximum(count, 1), otherwise)

    overall = ratio(sums.sum(keepdims=True), hits.sum(keepdims=True), when_silent)
    of_class = ratio(sums.sum(axis=0), hits.sum(axis=0), overall)
    return (ratio(sums, hits, of_class) / unit).astype(np.float32)


def _shrunk(
    sums: Float64[np.ndarray, "bar_step drum"],
    hits: Int64[np.ndarray, "bar_step drum"],
    towards: Float32[np.ndarray, "bar_step drum"],
    added: int,
) -> Float32[np.ndarray, "bar_step drum"]:
    return ((sums + added * towards.astype(np.float64)) / (hits + added)).astype(np.float32)


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
            expected=", ".join(self.names) or "training windows with a style; those of this model have none",
            found=repr(name),
            likely=f"{by_word[near[0]]} was meant" if near else "",
            do="choose one of them" if self.names else "leave the style out",
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
    counts: dict[str, FeelCounts] = {}
    for block in blocks:
        styles = np.array([primary_style(meta.style) for meta in block.meta])
        for name in np.unique(styles).tolist():
            part = FeelCounts.of(block.take(np.flatnonzero(styles == name)), grid)
            counts[name] = counts[name] + part if name in counts else part
    if not counts:
        return StyleFeels(())
    velocity, offset = reduce(add, counts.values()).means(when_silent=PLAIN_VELOCITY)
    return StyleFeels(
        tuple(
            StyleFeel(
                name,
                *of_style.shrunk(velocity, offset, SHRINKAGE),
                np.array(tempo_quantiles(of_style.tempos, TEMPO_STEPS)),
                of_style.tempos.total(),
            )
            for name, of_style in sorted(counts.items())
            if name
        )
    )
