"""What the windows that a model writes by itself are like, beside those of the data.

Conventions:
    A *set* is a number of windows: draws from a prior at temperature 1, or windows of a split. Its features are those
    of `musicvae.groove.features`, a density for each drum class, and the steps in the bar of all its hits. Each
    feature's distribution is compared with that of the reference, the windows of a held-out split, by their overlapping
    area. Two finite sets never overlap in full, so a set is judged beside *resamples of train*: as many training
    windows, drawn without replacement. Differences have an interval over the reference's performances, paired; the set
    itself is not resampled.

    *Memorised*: the nearest training window is the very same groove. *Near*: it differs in at most `NEAR_CELLS` cells.
    A split that was never trained on has both too, since drummers repeat themselves, and so has each training window
    among the other performances: these are what a model's shares are judged beside.
    *Duplicates*: windows that the set already contains. *Empty*: windows without a hit.

Overlapping area (OA):
    Both sets of values are counted into the same 40 equal bins over their pooled range, each histogram is scaled to the
    sum 1, and the smaller of the two is summed over the bins. 1 means the same distribution, 0 that no bin holds values
    of both. The idea is Yang and Lerch's (2020, DOI 10.1007/s00521-018-3849-7), who smooth with kernels and compare
    distances within and between sets; this is the plain area of the features themselves, which has no bandwidth to
    choose. Two finite sets of the same distribution overlap by less than 1, the less the fewer values there are: so an
    OA says something only beside that of a set of the same size that is known to be good.

Histograms:
    Their bins are fixed, so that windows that were never in one place compare: those of the training data, which a
    model carries in its export, and those that it makes, block by block. They can be added up.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int16, Int64

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.bootstrap import Difference, Resamples
from musicvae.groove import features
from musicvae.groove.distance import nearest_distances
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens
from musicvae.randomness import Purpose, generator

BINS = 40
ENDS = {"hits per bar": 40.0, "syncopation": 20.0, "polyphony": 4.0, "self-similarity": 1.0}
"""Where the last bin of a feature ends; larger values count in it. Of the others it is the number of steps of a bar."""
NEAR_CELLS = 4
"""One cell of a bar on average, of the 18 or so that are struck: a stray ghost note or one stroke moved by half a bar.

Most listeners would take the two for the same groove, and a copy with such a change for a copy.
"""
TRAIN_RESAMPLES = 5
"""Sets of training windows that the overlap of train is the mean of."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureHistograms:
    """Counts of the features of `musicvae.evaluation.samples.window_features`.

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
        """Overlapping area of each feature, 0..1, as `musicvae.evaluation.samples` defines it, over these bins."""
        shares = [
            histograms.counts / np.maximum(1, histograms.counts.sum(axis=1, keepdims=True))
            for histograms in (self, other)
        ]
        return np.minimum(*shares).sum(axis=1)


def count_features(tokens: Int16[np.ndarray, "window step"], grid: GridSpec, drum_map: DrumMap) -> FeatureHistograms:
    """The features of some windows; none at all count as nothing."""
    by_feature = window_features(tokens, grid, drum_map)
    names = tuple(by_feature)
    counts = np.zeros((len(names), BINS), dtype=np.int64)
    for row, name in enumerate(names):
        bins = (by_feature[name].values / ENDS.get(name, grid.steps_per_bar) * BINS).astype(np.int64)
        counts[row] = np.bincount(bins.clip(0, BINS - 1), minlength=BINS)
    sums = np.array([by_feature[name].values.sum() for name in names], dtype=np.float64)
    return FeatureHistograms(names, counts, sums)


def overlap(a: Float64[np.ndarray, " a"], b: Float64[np.ndarray, " b"]) -> float:
    """OA of two sets of values, in 0..1; NaN if one is empty."""
    if not (len(a) and len(b)):
        return float("nan")
    edges = _edges(a, b)
    shares = [np.histogram(values, edges)[0] / len(values) for values in (a, b)]
    return float(np.minimum(*shares).sum())


def resampled_overlap(
    values: Float64[np.ndarray, " a"],
    reference: Float64[np.ndarray, " b"],
    cluster: Int64[np.ndarray, " b"],
    counts: Float64[np.ndarray, "replicate cluster"],
) -> Float64[np.ndarray, " replicate"]:
    """OA of `values` with every resample of the reference's clusters, all over the bins of the whole sets.

    Args:
        cluster: of each value of the reference.
        counts: how often each cluster is drawn in each replicate (`musicvae.evaluation.bootstrap.Resamples.counts`).
    """
    edges = _edges(values, reference)
    share = np.histogram(values, edges)[0] / len(values)
    bins = (np.searchsorted(edges, reference, side="right") - 1).clip(0, BINS - 1)
    clusters = counts.shape[1]
    by_cluster = np.bincount(cluster * BINS + bins, minlength=clusters * BINS).reshape(clusters, BINS)
    resampled = counts @ by_cluster
    whole = resampled.sum(axis=1, keepdims=True)
    shares = np.divide(resampled, whole, out=np.full(resampled.shape, np.nan), where=whole != 0)
    return np.minimum(share, shares).sum(axis=1)


def _edges(a: Float64[np.ndarray, " a"], b: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " edge"]:
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    # Constant sets share one bin, wherever it lies.
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureValues:
    """Values of one feature and the window that each belongs to; most features have one a window."""

    values: Float64[np.ndarray, " value"]
    window: Int64[np.ndarray, " value"]


@dataclass(frozen=True, slots=True, eq=False)
class SampleFigures:
    """Figures of one set; see the module.

    Attributes:
        overlap: OA of each feature with the reference.
        behind_train: that, less the same of train's resamples; none for train itself.
        nearest: cells between each window and the training window nearest to it.
        duplicates: share of the windows that stand in the set before.
        empty: share of the windows without a hit.
    """

    name: str
    windows: int
    overlap: dict[str, float]
    behind_train: dict[str, Difference]
    nearest: Int64[np.ndarray, " window"]
    duplicates: float
    empty: float

    @property
    def mean_overlap(self) -> float:
        """Over all features, each counting the same; NaN without any."""
        return float(np.mean(list(self.overlap.values()))) if self.overlap else math.nan

    @property
    def median_distance(self) -> float:
        return float(np.median(self.nearest))

    @property
    def memorised(self) -> float:
        return float((self.nearest == 0).mean())

    @property
    def near(self) -> float:
        return float((self.nearest <= NEAR_CELLS).mean())


class SampleComparison:
    """Compares sets with a reference and with the training windows.

    Args:
        reference: windows of a held-out split.
        size: windows of train's resamples, as many as the sets have.
        replicates: resamples of the reference's performances that intervals are taken from.
        seed: of all draws.
    """

    def __init__(
        self,
        train: SplitTokens,
        reference: SplitTokens,
        grid: GridSpec,
        drum_map: DrumMap,
        *,
        size: int,
        replicates: int,
        seed: int,
    ) -> None:
        self.train, self.reference, self.grid, self.drum_map = train, reference, grid, drum_map
        performances = int(reference.performance.max(initial=-1)) + 1
        self.resamples = Resamples(performances, replicates=replicates, seed=seed)
        self.reference_features = window_features(reference.tokens, grid, drum_map)
        draw, count = generator(seed, Purpose.RESAMPLE), min(size, len(train.tokens))
        self.train_ids = [draw.choice(len(train.tokens), count, replace=False) for _ in range(TRAIN_RESAMPLES)]
        of_train = [window_features(train.tokens[ids], grid, drum_map) for ids in self.train_ids]
        self.train_overlap = {
            name: float(np.mean([overlap(by_feature[name].values, reference.values) for by_feature in of_train]))
            for name, reference in self.reference_features.items()
        }
        self.train_replicates = {
            name: np.mean([self._replicates(by_feature, name) for by_feature in of_train], axis=0)
            for name in self.reference_features
        }

    def samples(self, name: str, tokens: Int16[np.ndarray, "sample step"]) -> SampleFigures:
        """Windows that a model wrote."""
        by_feature = window_features(tokens, self.grid, self.drum_map)
        overlaps = {
            name: overlap(by_feature[name].values, reference.values)
            for name, reference in self.reference_features.items()
        }
        behind = {
            name: Difference(
                overlaps[name] - self.train_overlap[name],
                self.resamples.percentiles(self._replicates(by_feature, name) - self.train_replicates[name]),
            )
            for name in overlaps
        }
        nearest = nearest_distances(tokens, self.train.tokens, self.drum_map.num_drums)
        return _figures(name, tokens, overlaps, behind, nearest)

    def resample_of_train(self) -> SampleFigures:
        """Training windows: overlap is the mean of some resamples; the nearest are those of other performances."""
        ids = self.train_ids[0]
        tokens, owner = self.train.tokens, self.train.performance
        nearest = nearest_distances(
            tokens[ids], tokens, self.drum_map.num_drums, excluded_owner=owner[ids], owner=owner
        )
        return _figures("train", tokens[ids], self.train_overlap, {}, nearest)

    def reference_itself(self, name: str) -> SampleFigures:
        """The reference against train, as people play: what no model need do better."""
        tokens = self.reference.tokens
        return _figures(name, tokens, {}, {}, nearest_distances(tokens, self.train.tokens, self.drum_map.num_drums))

    def _replicates(self, by_feature: dict[str, FeatureValues], name: str) -> Float64[np.ndarray, " replicate"]:
        reference = self.reference_features[name]
        performance = self.reference.performance[reference.window]
        return resampled_overlap(by_feature[name].values, reference.values, performance, self.resamples.counts)


def window_features(
    tokens: Int16[np.ndarray, "window step"], grid: GridSpec, drum_map: DrumMap
) -> dict[str, FeatureValues]:
    """Every feature that sets are compared by."""
    hits = hits_from_tokens(tokens, drum_map.num_drums)
    density = features.class_density(hits, grid)
    per_window = {
        "hits per bar": features.hits_per_bar(hits, grid),
        "syncopation": features.syncopation(hits, grid),
        "polyphony": features.polyphony(hits),
        "self-similarity": features.self_similarity(hits, grid),
        "mean onset": features.onset_position(hits, grid),
        **{f"{drum} density": density[:, number] for number, drum in enumerate(drum_map.classes)},
    }
    every = np.arange(len(tokens))
    of_step = features.onsets_in_bar(hits, grid)
    onsets = np.repeat(np.tile(np.arange(grid.steps_per_bar), len(tokens)), of_step.ravel())
    onset_windows = np.repeat(every, of_step.sum(axis=1))
    return {name: FeatureValues(values, every) for name, values in per_window.items()} | {
        "onset step": FeatureValues(onsets.astype(np.float64), onset_windows)
    }


def _figures(
    name: str,
    tokens: Int16[np.ndarray, "window step"],
    overlaps: dict[str, float],
    behind_train: dict[str, Difference],
    nearest: Int64[np.ndarray, " window"],
) -> SampleFigures:
    return SampleFigures(
        name=name,
        windows=len(tokens),
        overlap=overlaps,
        behind_train=behind_train,
        nearest=nearest,
        duplicates=1 - len(np.unique(tokens, axis=0)) / len(tokens),
        empty=float((~tokens.any(axis=1)).mean()),
    )
