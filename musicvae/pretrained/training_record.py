"""What a model carries of the windows that it was trained on: enough to see whether a groove is one of them, and to
play grooves in their styles.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Int16, UInt64
from safetensors import SafetensorError

from musicvae.data.feel import StyleFeels
from musicvae.errors import ConfigError
from musicvae.evaluation.samples import FeatureHistograms, count_features, structure_features, window_features
from musicvae.generation.style_guide import StyleGuide, WantedStyle
from musicvae.groove.distance import among, window_hashes
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

BLOCK = 10_000
"""Windows whose features are held at once."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRecord:
    """Hashes, distributions and styles of the training windows; the windows themselves cannot be had from it.

    Attributes:
        hashes: of the different windows, ascending (`musicvae.groove.distance`).
        histograms, structure: of all windows, by `window_features` and `structure_features`; the latter None in a
            record of before.
        styles: how each style is played; None in a record of before styles were kept.
        guide: which style a code has; None in a record of before, or without two styles.
    """

    hashes: UInt64[np.ndarray, " window"]
    histograms: FeatureHistograms
    styles: StyleFeels | None = None
    guide: StyleGuide | None = None
    structure: FeatureHistograms | None = None

    def holds(self, hashes: UInt64[np.ndarray, " groove"]) -> Bool[np.ndarray, " groove"]:
        """Which grooves, given by their hashes, are training windows."""
        return among(hashes, self.hashes)

    def to_bytes(self) -> bytes:
        """A safetensors file; names of features are not in it, as metadata would be written in no fixed order."""
        tensors = {"hashes": self.hashes, "counts": self.histograms.counts, "sums": self.histograms.sums}
        if self.structure is not None:
            tensors |= {"structure_counts": self.structure.counts, "structure_sums": self.structure.sums}
        if self.styles is not None:
            tensors |= self.styles.tensors()
        if self.guide is not None:
            tensors |= self.guide.tensors()
        return safetensors.numpy.save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes, grid: GridSpec, drum_map: DrumMap) -> "TrainingRecord":
        """What `to_bytes` wrote.

        Raises:
            ValueError: something else, or a record of another grid or drum map.
        """
        no_windows = np.zeros((0, grid.num_steps), dtype=np.int16)
        names, of_structure = (
            tuple(features(no_windows, grid, drum_map)) for features in (window_features, structure_features)
        )
        try:
            tensors = safetensors.numpy.load(data)
            histograms = FeatureHistograms(names, tensors["counts"], tensors["sums"])
            styles = guide = structure = None
            if "structure_counts" in tensors:
                counts = tensors["structure_counts"]
                structure = FeatureHistograms(of_structure, counts, tensors["structure_sums"])
            if "style_names" in tensors:
                styles = StyleFeels.from_tensors(tensors, grid, drum_map.num_drums)
            if styles is not None and "guide_manners" in tensors:
                guide = StyleGuide.from_tensors(styles.names, tensors)
            return cls(tensors["hashes"], histograms, styles, guide, structure)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


def wanted_style(
    guide: StyleGuide | None, styles: str | Mapping[str, float], tempo: float | None = None
) -> WantedStyle:
    """What `StyleGuide.wanted` gives.

    Raises:
        ConfigError: a model without a guide, no such style, or shares that are not positive.
    """
    if guide is None:
        raise ConfigError(
            f"style {styles!r} cannot be used: which styles codes have is not known",
            expected="an export with a style guide",
            found="none in the model",
            likely="a run folder, an export without --shards, an export of an earlier version, or data without styles",
            do="run once: python -m jobs.export renew EXPORT --shards SHARDS",
        )
    return guide.wanted(styles, tempo)


def record_of(
    tokens: Int16[np.ndarray, "window step"],
    grid: GridSpec,
    drum_map: DrumMap,
    styles: StyleFeels | None = None,
    guide: StyleGuide | None = None,
) -> TrainingRecord:
    """The record of training windows.

    Args:
        styles, guide: of the same windows, where somebody has measured them.
    """
    histograms, structure = (
        reduce(
            operator.add,
            (
                count_features(features(tokens[first : first + BLOCK], grid, drum_map), grid)
                for first in range(0, max(1, len(tokens)), BLOCK)
            ),
        )
        for features in (window_features, structure_features)
    )
    return TrainingRecord(np.unique(window_hashes(tokens)), histograms, styles, guide, structure)
