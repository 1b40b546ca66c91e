"""Intervals that hold what they say, on clustered data with a known mean."""

import numpy as np
import pytest

from musicvae.evaluation.bootstrap import Interval, RatioOfSums, Resamples

CLUSTERS, WINDOWS = 40, 25


def clustered(seed: int, mean: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Windows that share much of what they are with the others of their cluster: (values, cluster)."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(CLUSTERS), WINDOWS)
    return mean + rng.normal(size=CLUSTERS)[cluster] + 0.5 * rng.normal(size=len(cluster)), cluster


def mean_of(values: np.ndarray, cluster: np.ndarray) -> RatioOfSums:
    return RatioOfSums.over_windows(values, np.ones(len(values)), cluster, int(cluster.max()) + 1)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """95% of 400 data sets, within what 40 clusters and 400 sets leave open: percentile intervals are a bit short."""
    resamples = Resamples(CLUSTERS, replicates=500, seed=0)
    held = 0
    for seed in range(400):
        interval = resamples.interval(mean_of(*clustered(seed)))
        held += interval.low <= 3.0 <= interval.high
    assert 0.90 <= held / 400 <= 0.98


def test_intervals_over_windows_would_be_far_too_narrow() -> None:
    values, cluster = clustered(0)
    by_cluster = Resamples(CLUSTERS, replicates=1000, seed=0).interval(mean_of(values, cluster))
    alone = np.arange(len(values))
    by_window = Resamples(len(values), replicates=1000, seed=0).interval(mean_of(values, alone))
    assert by_cluster.high - by_cluster.low > 3 * (by_window.high - by_window.low)


def test_a_replicate_is_the_figure_of_the_clusters_drawn() -> None:
    values, cluster = clustered(1)
    weights = np.random.default_rng(2).random(len(values))
    figure = RatioOfSums.over_windows(values * weights, weights, cluster, CLUSTERS)
    resamples = Resamples(CLUSTERS, replicates=3, seed=5)
    for counts, found in zip(resamples.counts, resamples.ratios(figure), strict=True):
        assert counts.sum() == CLUSTERS
        drawn = np.repeat(np.arange(CLUSTERS), counts.astype(int))
        windows = np.concatenate([np.flatnonzero(cluster == one) for one in drawn])
        assert found == pytest.approx(np.average(values[windows], weights=weights[windows]))


def test_paired_differences_see_what_clusters_hide() -> None:
    """The clusters differ by far more than the two predictors, whose difference is the same in each."""
    values, cluster = clustered(3)
    better = values - 0.1 + 0.02 * np.random.default_rng(4).normal(size=len(values))
    resamples = Resamples(CLUSTERS, replicates=1000, seed=0)
    difference = resamples.difference(mean_of(better, cluster), mean_of(values, cluster))
    assert difference.value == pytest.approx(-0.1, abs=0.01)
    assert difference.interval.excludes_zero
    whole = resamples.interval(mean_of(values, cluster))
    assert whole.high - whole.low > 20 * (difference.interval.high - difference.interval.low)


def test_no_difference_is_rarely_found() -> None:
    resamples = Resamples(CLUSTERS, replicates=500, seed=0)
    found = 0
    for seed in range(300):
        values, cluster = clustered(seed)
        other, _ = clustered(1000 + seed)
        found += resamples.difference(mean_of(values, cluster), mean_of(other, cluster)).interval.excludes_zero
    assert 0.01 <= found / 300 <= 0.1


def test_the_same_seed_gives_the_same_resamples() -> None:
    first, again, other = (Resamples(9, replicates=20, seed=seed).counts for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_not_defined_is_nan_and_one_cluster_gives_no_interval() -> None:
    nothing = RatioOfSums(np.zeros(3), np.zeros(3))
    assert np.isnan(nothing.value)
    assert np.isnan(Resamples(3, replicates=10, seed=0).interval(nothing).low)
    one = RatioOfSums(np.array([2.0]), np.array([4.0]))
    assert one.value == 0.5
    assert np.isnan(Resamples(1, replicates=10, seed=0).interval(one).low)
    assert not Interval(np.nan, np.nan).excludes_zero
    # A drum that only one performance has: replicates without that performance are left out.
    rare = RatioOfSums(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    assert Resamples(2, replicates=50, seed=0).interval(rare) == Interval(0.5, 0.5)
