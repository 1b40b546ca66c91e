"""What the windows of a split look like, as histograms that can be added up: each shard is counted where it is written.

All counts are integers, so the sum is the same in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from musicvae.data.windows import OFFSET_UNITS, WindowBlock
from musicvae.groove.features import GrooveStatistics
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY

MOST_HITS = 64
"""Hits of a bar that are counted apart; fuller bars share this last bin."""
TEMPO_EDGES = np.arange(40, 261, 10)
"""Quarter notes per minute between the bins of tempo; the first and the last bin are open."""
OFFSET_BINS = 32
"""Bins of equal width over [-0.5, 0.5) of a step."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowStatistics:
    """Counts over windows, their bars and their hits.

    Attributes:
        grooves: windows, bars and the hits of each drum class.
        hits_per_bar: bars with 0, 1, ... hits; the last bin holds those with `MOST_HITS` or more.
        tempo: windows between the `TEMPO_EDGES`.
        offset: hits by quantization error, early ones first.
        offset_sum: of all hits, in 1/65536 of a step.
        offset_squares: sum of their squares, so that mean and deviation are exact whatever the bins.
        velocity: hits of each MIDI velocity; none of velocity 0.

    Raises:
        ValueError: histograms of another shape, or that do not hold every window, bar and hit.
    """

    grooves: GrooveStatistics
    hits_per_bar: Int64[np.ndarray, " hits_bin"]
    tempo: Int64[np.ndarray, " tempo_bin"]
    offset: Int64[np.ndarray, " offset_bin"]
    offset_sum: int
    offset_squares: int
    velocity: Int64[np.ndarray, " velocity_bin"]

    def __post_init__(self) -> None:
        hits = int(self.grooves.hits.sum())
        for name, bins, total in (
            ("hits_per_bar", MOST_HITS + 1, self.grooves.bars),
            ("tempo", len(TEMPO_EDGES) + 1, self.grooves.windows),
            ("offset", OFFSET_BINS, hits),
            ("velocity", MAX_VELOCITY + 1, hits),
        ):
            counts = getattr(self, name)
            if counts.shape != (bins,) or counts.sum() != total:
                raise ValueError(f"{name} must hold {total} in {bins} bins, found {counts.sum()} in {counts.shape}")

    def __add__(self, other: "WindowStatistics") -> "WindowStatistics":
        return WindowStatistics(
            grooves=self.grooves + other.grooves,
            hits_per_bar=self.hits_per_bar + other.hits_per_bar,
            tempo=self.tempo + other.tempo,
            offset=self.offset + other.offset,
            offset_sum=self.offset_sum + other.offset_sum,
            offset_squares=self.offset_squares + other.offset_squares,
            velocity=self.velocity + other.velocity,
        )

    @property
    def mean_offset(self) -> float:
        """Mean quantization error in steps, early is negative; 0 without hits."""
        return self.offset_sum / self._hits / OFFSET_UNITS

    @property
    def offset_deviation(self) -> float:
        """Standard deviation of the quantization error in steps; 0 without hits."""
        variance = self.offset_squares / self._hits - (self.offset_sum / self._hits) ** 2
        return max(0.0, variance) ** 0.5 / OFFSET_UNITS

    @property
    def mean_velocity(self) -> float:
        """Mean MIDI velocity, 1 to 127; 0 without hits."""
        return float(self.velocity @ np.arange(len(self.velocity))) / self._hits

    @property
    def _hits(self) -> int:
        return max(1, int(self.grooves.hits.sum()))

    @classmethod
    def zero(cls, num_drums: int) -> "WindowStatistics":
        """No windows: what every sum begins with."""
        return cls(
            grooves=GrooveStatistics(0, 0, 0, np.zeros(num_drums, dtype=np.int64)),
            hits_per_bar=np.zeros(MOST_HITS + 1, dtype=np.int64),
            tempo=np.zeros(len(TEMPO_EDGES) + 1, dtype=np.int64),
            offset=np.zeros(OFFSET_BINS, dtype=np.int64),
            offset_sum=0,
            offset_squares=0,
            velocity=np.zeros(MAX_VELOCITY + 1, dtype=np.int64),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists; exact inverse of `from_json`."""
        return {
            "windows": self.grooves.windows,
            "empty": self.grooves.empty,
            "bars": self.grooves.bars,
            "hits": self.grooves.hits.tolist(),
            "hits_per_bar": self.hits_per_bar.tolist(),
            "tempo": self.tempo.tolist(),
            "offset": self.offset.tolist(),
            "offset_sum": self.offset_sum,
            "offset_squares": self.offset_squares,
            "velocity": self.velocity.tolist(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "WindowStatistics":
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        return cls(
            grooves=GrooveStatistics(values["windows"], values["empty"], values["bars"], _counts(values["hits"])),
            hits_per_bar=_counts(values["hits_per_bar"]),
            tempo=_counts(values["tempo"]),
            offset=_counts(values["offset"]),
            offset_sum=values["offset_sum"],
            offset_squares=values["offset_squares"],
            velocity=_counts(values["velocity"]),
        )


def count_windows(windows: WindowBlock, grid: GridSpec) -> WindowStatistics:
    """The statistics of some windows."""
    # Few cells hold a hit, so the places of those that do are found once and everything is counted on them.
    cell = np.flatnonzero(windows.velocity.ravel() != 0)
    num_drums = windows.velocity.shape[-1]
    in_bar = np.bincount(cell // (grid.steps_per_bar * num_drums), minlength=len(windows) * grid.bars)
    offset = windows.offset.ravel()[cell].astype(np.int64)
    tempo = np.searchsorted(TEMPO_EDGES, [meta.tempo for meta in windows.meta], side="right")
    return WindowStatistics(
        grooves=GrooveStatistics(
            windows=len(windows),
            empty=int((in_bar.reshape(len(windows), grid.bars).sum(axis=1) == 0).sum()),
            bars=len(in_bar),
            hits=_histogram(cell % num_drums, num_drums),
        ),
        hits_per_bar=_histogram(np.minimum(in_bar, MOST_HITS), MOST_HITS + 1),
        tempo=_histogram(tempo, len(TEMPO_EDGES) + 1),
        offset=_histogram((offset + OFFSET_UNITS // 2) * OFFSET_BINS // OFFSET_UNITS, OFFSET_BINS),
        offset_sum=int(offset.sum()),
        offset_squares=int((offset * offset).sum()),
        velocity=_histogram(windows.velocity.ravel()[cell], MAX_VELOCITY + 1),
    )


def _histogram(bins: np.ndarray, num_bins: int) -> Int64[np.ndarray, " bin"]:
    return np.bincount(bins, minlength=num_bins).astype(np.int64)


def _counts(values: list[int]) -> Int64[np.ndarray, " bin"]:
    return np.array(values, dtype=np.int64)
