"""How the features of many windows are distributed, as counts that can be added up and kept with a model.

Bins are fixed, so that windows that were never in one place compare: those of the training data, which a model carries
in its export, and those that it makes, block by block.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int16, Int64

from musicvae.evaluation.sample_figures import window_features
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

BINS = 40
ENDS = {"hits per bar": 40.0, "syncopation": 20.0, "polyphony": 4.0, "self-similarity": 1.0}
"""Where the last bin of a feature ends; larger values count in it. Of the others it is the number of steps of a bar."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureHistograms:
    """Counts of the features of `musicvae.evaluation.sample_figures.window_features`.

    Attributes:
        names: of the features.
        counts: values in each of `BINS` equal bins from 0 on.
        sums: of the values themselves, so that means are exact whatever the bins.

    Raises:
        ValueError: shapes that do not fit together.
    """

    names: tuple[str, ...]
    counts: Int64[np.ndarray, "feature bin"]
    sums: Float64[np.ndarray, " feature"]

    def __post_init__(self) -> None:
        if self.counts.shape != (len(self.names), BINS) or self.sums.shape != (len(self.names),):
            raise ValueError(f"{len(self.names)} features in {BINS} bins, found {self.counts.shape}, {self.sums.shape}")

    def __add__(self, other: "FeatureHistograms") -> "FeatureHistograms":
        return FeatureHistograms(self.names, self.counts + other.counts, self.sums + other.sums)

    @property
    def means(self) -> Float64[np.ndarray, " feature"]:
        """Of the values of each feature; 0 without any."""
        return self.sums / np.maximum(1, self.counts.sum(axis=1))

    def overlaps(self, other: "FeatureHistograms") -> Float64[np.ndarray, " feature"]:
        """Overlapping area of each feature, 0..1, as `musicvae.evaluation.overlap` defines it, over these bins."""
        shares = [of.counts / np.maximum(1, of.counts.sum(axis=1, keepdims=True)) for of in (self, other)]
        return np.minimum(*shares).sum(axis=1)


def count_features(tokens: Int16[np.ndarray, "window step"], grid: GridSpec, drum_map: DrumMap) -> FeatureHistograms:
    """The features of some windows; none at all count as nothing."""
    features = window_features(tokens, grid, drum_map)
    names = tuple(features)
    counts = np.zeros((len(names), BINS), dtype=np.int64)
    for row, name in enumerate(names):
        bins = (features[name].values / ENDS.get(name, grid.steps_per_bar) * BINS).astype(np.int64)
        counts[row] = np.bincount(bins.clip(0, BINS - 1), minlength=BINS)
    sums = np.array([features[name].values.sum() for name in names], dtype=np.float64)
    return FeatureHistograms(names, counts, sums)
