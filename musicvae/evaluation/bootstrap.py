"""Confidence intervals from performances, not from windows.

Windows of one performance overlap and repeat each other, so an interval that takes them for independent is far too
narrow. What is independent, as far as anything is, is the recording: a *cluster*. The cluster bootstrap (Davison and
Hinkley 1997, Bootstrap Methods and their Application, section 3.8; Field and Welsh 2007, DOI
10.1111/j.1467-9868.2007.00593.x) draws as many clusters as there are, with replacement and whole, and computes the
figure anew. Intervals are percentiles of the figures of the replicates.

Every figure is a ratio of two sums over clusters, so a replicate is the sums weighted with how often each cluster was
drawn, and all replicates are one matrix product. Figures on the same resamples are paired: the interval of their
difference is the interval of what one is better on the same windows.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from musicvae.randomness import Purpose, generator

LEVEL = 0.95
"""Share of the replicates inside an interval."""


@dataclass(frozen=True, slots=True, eq=False)
class RatioOfSums:
    """A figure: one sum over clusters by another, NaN where there is nothing to divide by.

    A mean over windows has the windows of each cluster below; an accuracy the steps; F1 = 2 TP / (2 TP + FP + FN).
    """

    numerator: Float64[np.ndarray, " cluster"]
    denominator: Float64[np.ndarray, " cluster"]

    @classmethod
    def over_windows(
        cls,
        numerator: Float64[np.ndarray, " window"],
        denominator: Float64[np.ndarray, " window"],
        cluster: Int64[np.ndarray, " window"],
        clusters: int,
    ) -> "RatioOfSums":
        """Sums of windows, each in the cluster of that number."""
        return cls(
            np.bincount(cluster, weights=numerator, minlength=clusters),
            np.bincount(cluster, weights=denominator, minlength=clusters),
        )

    @property
    def value(self) -> float:
        whole = float(self.denominator.sum())
        return float(self.numerator.sum()) / whole if whole else math.nan


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`; both are NaN where no interval can be had."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Difference:
    """How much greater one figure is than another, and the interval of that."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True, eq=False)
class ResampledFigure:
    """A figure that is no ratio of sums: its value, and its value in every replicate."""

    value: float
    replicates: Float64[np.ndarray, " replicate"]


class Resamples:
    """How often each cluster is drawn in each replicate.

    Args:
        clusters: how many there are; with one there is nothing to resample, and intervals are NaN.
        replicates: a percentile's own error falls with the square root; 1,000 give the second digit of an interval.
        seed: the same clusters, replicates and seed give the same resamples.
    """

    def __init__(self, clusters: int, *, replicates: int, seed: int) -> None:
        even = np.full(clusters, 1 / max(1, clusters))
        draws = generator(seed, Purpose.BOOTSTRAP).multinomial(clusters, even, size=replicates)
        self.counts: Float64[np.ndarray, "replicate cluster"] = draws.astype(np.float64)

    def ratios(self, figure: RatioOfSums) -> Float64[np.ndarray, " replicate"]:
        """The figure in every replicate, NaN where the clusters drawn leave nothing to divide by."""
        whole = self.counts @ figure.denominator
        part = self.counts @ figure.numerator
        return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole != 0)

    def interval(self, figure: RatioOfSums) -> Interval:
        return self.percentiles(self.ratios(figure))

    def difference(self, figure: RatioOfSums, other: RatioOfSums) -> Difference:
        """`figure` less `other`, paired."""
        return Difference(figure.value - other.value, self.percentiles(self.ratios(figure) - self.ratios(other)))

    def percentiles(self, replicates: Float64[np.ndarray, " replicate"]) -> Interval:
        """The interval of a figure that was computed in every replicate by other means."""
        defined = replicates[~np.isnan(replicates)]
        if self.counts.shape[1] < 2 or not len(defined):
            return Interval(math.nan, math.nan)
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(low), float(high))
