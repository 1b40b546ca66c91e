"""What the windows that a model writes by itself are like, beside those of the data.

Conventions:
    A *set* is a number of windows: draws from a prior at temperature 1, or windows of a split. Its features are those
    of `musicvae.groove.features`: of how many hits there are and where (`window_features`), and of how bars go together
    (`structure_features`). Each feature's distribution is compared with that of the reference, the windows of a
    held-out split, by their overlapping area. Two finite sets never overlap in full, so a set is judged beside
    *resamples of train*: as many training windows, drawn without replacement. Differences have an interval over the
    reference's performances, paired; the set itself is not resampled.

    *Memorised*: the nearest training window is the very same groove. *Near*: it differs in at most `NEAR_CELLS` cells.
    A split that was never trained on has both too, since drummers repeat themselves, and so has each training window
    among the other performances: these are what a model's shares are judged beside.
    *Equal bars*: two bars of the window are the same. *Kept*: kick and snare of the second bar are those of the first.
    Neither counts silence. *AUC*: of a classifier between the set and people (`musicvae.evaluation.two_sample`).
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

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int64

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.bootstrap import Difference, ResampledFigure, Resamples
from musicvae.evaluation.two_sample import HitsTest
from musicvae.groove import features
from musicvae.groove.distance import nearest_distances
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens
from musicvae.randomness import Purpose, generator

BINS = 40
ENDS = {
    "hits per bar": 40.0,
    "syncopation": 20.0,
    "polyphony": 4.0,
    **dict.fromkeys(("self-similarity", "time kept", "backbeat", "ending"), 1.0),
}
"""Where the last bin of a feature ends, as in `bounds_of`; larger values count in it."""
BACKBONE = ("kick", "snare")
NEAR_CELLS = 4
"""One cell of a bar on average, of the 18 or so that are struck: a stray ghost note or one stroke moved by half a bar.

Most listeners would take the two for the same groove, and a copy with such a change for a copy.
"""
TRAIN_RESAMPLES = 5
"""Sets of training windows that the overlap of train is the mean of."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureHistograms:
    """Counts of features.

    Attributes:
        names: of the features.
        counts: values in each of `BINS` equal bins between the `bounds_of` the feature.
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


def bounds_of(feature: str, grid: GridSpec) -> tuple[float, float]:
    """Where the first bin of a feature begins and the last one ends."""
    if feature == "different bars":
        return 0.0, grid.bars + 1.0
    end = 1.0 if feature.endswith((" apart", " repeated")) else ENDS.get(feature, float(grid.steps_per_bar))
    return (-1.0 if feature == "ending" else 0.0), end


def count_features(by_feature: Mapping[str, "FeatureValues"], grid: GridSpec) -> FeatureHistograms:
    """What `window_features` or `structure_features` gave; features of no windows count as nothing."""
    names = tuple(by_feature)
    counts = np.zeros((len(names), BINS), dtype=np.int64)
    for row, name in enumerate(names):
        low, high = bounds_of(name, grid)
        bins = np.floor((by_feature[name].values - low) / (high - low) * BINS).astype(np.int64)
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
        overlap: OA of each feature with the reference, of structure too.
        mean_overlap: of `window_features`, each counting the same; NaN without any.
        behind_train: OA of each, less the same of train's resamples; none for train itself.
        structure: names of the features of structure.
        equal_bars, kept: shares of the windows.
        likeness: F1 of the hits of bars one, two, ... apart.
        auc: how well a classifier tells the set from people; None where it was not tried.
        nearest: cells between each window and the training window nearest to it.
        duplicates: share of the windows that stand in the set before.
        empty: share of the windows without a hit.
    """

    name: str
    windows: int
    overlap: dict[str, float]
    mean_overlap: float
    behind_train: dict[str, Difference]
    structure: tuple[str, ...]
    equal_bars: float
    kept: float
    likeness: tuple[float, ...]
    auc: ResampledFigure | None
    nearest: Int64[np.ndarray, " window"]
    duplicates: float
    empty: float

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
        learnt: training windows that the classifier learns from at most; None for all.
        classifiers: how many are trained for each set, of which AUC is the mean.
        threads: how many of them at a time.
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
        learnt: int | None,
        classifiers: int,
        replicates: int,
        seed: int,
        threads: int = 1,
    ) -> None:
        self.train, self.reference, self.grid, self.drum_map = train, reference, grid, drum_map
        performances = int(reference.performance.max(initial=-1)) + 1
        self.resamples = Resamples(performances, replicates=replicates, seed=seed)
        self.reference_features = _all_features(reference.tokens, grid, drum_map)
        draw, count = generator(seed, Purpose.RESAMPLE), min(size, len(train.tokens))
        self.train_ids = [draw.choice(len(train.tokens), count, replace=False) for _ in range(TRAIN_RESAMPLES)]
        self.structure = tuple(structure_features(reference.tokens[:0], grid, drum_map))
        of_train = [_all_features(train.tokens[ids], grid, drum_map) for ids in self.train_ids]
        self.train_overlap = {
            name: float(np.mean([overlap(by_feature[name].values, reference.values) for by_feature in of_train]))
            for name, reference in self.reference_features.items()
        }
        self.train_replicates = {
            name: np.mean([self._replicates(by_feature, name) for by_feature in of_train], axis=0)
            for name in self.reference_features
        }
        whole = np.arange(len(train.tokens))
        self.learnt = whole if learnt is None or learnt >= len(whole) else draw.choice(whole, learnt, replace=False)
        self.hits_test = HitsTest(
            train.tokens[self.learnt],
            reference.tokens,
            reference.performance,
            self.resamples,
            num_drums=drum_map.num_drums,
            beat=grid.steps_per_beat,
            bar=grid.steps_per_bar,
            seeds=range(classifiers),
            threads=threads,
        )

    def samples(
        self, name: str, tokens: Int16[np.ndarray, "sample step"], others: Int16[np.ndarray, "other step"]
    ) -> SampleFigures:
        """Windows that a model wrote.

        Args:
            others: further windows of it, for a classifier to learn from.
        """
        by_feature = _all_features(tokens, self.grid, self.drum_map)
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
        return self._figures(name, tokens, overlaps, behind, nearest, self.hits_test.auc(others, tokens))

    def resample_of_train(self) -> SampleFigures:
        """Training windows: overlap is the mean of some resamples; the nearest are those of other performances.

        AUC is that of people beside other people.
        """
        ids = self.train_ids[0]
        tokens, owner = self.train.tokens, self.train.performance
        nearest = nearest_distances(
            tokens[ids], tokens, self.drum_map.num_drums, excluded_owner=owner[ids], owner=owner
        )
        control = self.hits_test.control(owner[self.learnt])
        return self._figures("train", tokens[ids], self.train_overlap, {}, nearest, control)

    def reference_itself(self, name: str) -> SampleFigures:
        """The reference against train, as people play: what no model need do better."""
        tokens = self.reference.tokens
        nearest = nearest_distances(tokens, self.train.tokens, self.drum_map.num_drums)
        return self._figures(name, tokens, {}, {}, nearest, None)

    def _figures(
        self,
        name: str,
        tokens: Int16[np.ndarray, "window step"],
        overlaps: dict[str, float],
        behind_train: dict[str, Difference],
        nearest: Int64[np.ndarray, " window"],
        auc: ResampledFigure | None,
    ) -> SampleFigures:
        hits = hits_from_tokens(tokens, self.drum_map.num_drums)
        equal, kept = _repeats(hits, self.grid, tuple(self.drum_map.classes))
        of_hits = [value for feature, value in overlaps.items() if feature not in self.structure]
        return SampleFigures(
            name=name,
            windows=len(tokens),
            overlap=overlaps,
            mean_overlap=float(np.mean(of_hits)) if of_hits else math.nan,
            behind_train=behind_train,
            structure=self.structure,
            equal_bars=equal,
            kept=kept,
            likeness=tuple(features.bar_likeness(hits, self.grid).mean(axis=0).tolist()),
            auc=auc,
            nearest=nearest,
            duplicates=1 - len(np.unique(tokens, axis=0)) / len(tokens),
            empty=float((~tokens.any(axis=1)).mean()),
        )

    def _replicates(self, by_feature: dict[str, FeatureValues], name: str) -> Float64[np.ndarray, " replicate"]:
        reference = self.reference_features[name]
        performance = self.reference.performance[reference.window]
        return resampled_overlap(by_feature[name].values, reference.values, performance, self.resamples.counts)


def window_features(
    tokens: Int16[np.ndarray, "window step"], grid: GridSpec, drum_map: DrumMap
) -> dict[str, FeatureValues]:
    """The features of how many hits a window has, and where."""
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


def structure_features(
    tokens: Int16[np.ndarray, "window step"], grid: GridSpec, drum_map: DrumMap
) -> dict[str, FeatureValues]:
    """The features of how the bars of a window go together."""
    hits, drums = hits_from_tokens(tokens, drum_map.num_drums), tuple(drum_map.classes)
    apart = [f"{bars} apart" for bars in range(1, grid.bars)]
    per_window = {
        "different bars": features.different_bars(hits, grid),
        **{f"bars {far}": values for far, values in zip(apart, features.bar_likeness(hits, grid).T, strict=True)},
        **{f"onsets {far}": values for far, values in zip(apart, features.onset_likeness(hits, grid).T, strict=True)},
        **{
            f"{drum} repeated": features.repetition(hits[:, :, [drums.index(drum)]], grid)
            for drum in BACKBONE
            if drum in drums
        },
        "time kept": features.steadiness(hits, grid, drums),
        "backbeat": features.backbeat(hits, grid, drums),
        "ending": features.ending(hits, grid, drums),
    }
    every = np.arange(len(tokens))
    return {name: FeatureValues(values, every) for name, values in per_window.items()}


def _all_features(
    tokens: Int16[np.ndarray, "window step"], grid: GridSpec, drum_map: DrumMap
) -> dict[str, FeatureValues]:
    return window_features(tokens, grid, drum_map) | structure_features(tokens, grid, drum_map)


def _repeats(hits: Bool[np.ndarray, "window step drum"], grid: GridSpec, drums: tuple[str, ...]) -> tuple[float, float]:
    """The shares of windows with two equal bars, and of those whose second bar has kick and snare of the first."""
    bars = hits.reshape(len(hits), grid.bars, grid.steps_per_bar, len(drums))
    backbone = bars[..., [number for number, drum in enumerate(drums) if drum in BACKBONE]]

    def same(values: Bool[np.ndarray, "window bar step drum"], first: int, second: int) -> Bool[np.ndarray, " window"]:
        return (values[:, first] == values[:, second]).all(axis=(1, 2)) & values[:, first].any(axis=(1, 2))

    equal = np.zeros(len(hits), bool)
    for first, second in itertools.combinations(range(grid.bars), 2):
        equal |= same(bars, first, second)
    kept = same(backbone, 0, 1) if grid.bars > 1 else equal
    return float(equal.mean()), float(kept.mean())
