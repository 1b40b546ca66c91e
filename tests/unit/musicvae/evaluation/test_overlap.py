"""Overlapping area by hand."""

import numpy as np
import pytest

from musicvae.evaluation.samples import BINS, overlap, resampled_overlap

RNG = np.random.default_rng(0)


def test_identical_sets_overlap_in_full_whatever_their_sizes() -> None:
    values = RNG.normal(size=200)
    assert overlap(values, values) == pytest.approx(1)
    assert overlap(values, np.repeat(values, 3)) == pytest.approx(1)


def test_disjoint_sets_do_not_overlap() -> None:
    assert overlap(RNG.random(50), 2 + RNG.random(70)) == 0


def test_by_hand() -> None:
    # Bins are 1 wide from 0 to 40. Shares .5 .5 against .25 .25 .5 of bins 0, 1 and 39.
    a = np.array([0.2, 1.5])
    b = np.array([0.0, 1.1, 39.5, 40.0])
    assert overlap(a, b) == 0.5
    assert overlap(b, a) == 0.5


def test_constants_and_nothing() -> None:
    assert overlap(np.full(3, 7.0), np.full(5, 7.0)) == 1
    assert overlap(np.full(3, 7.0), np.full(5, 8.0)) == 0
    assert np.isnan(overlap(np.zeros(0), np.zeros(2)))


def test_neither_scale_nor_origin_matters() -> None:
    a, b = RNG.normal(size=300), 0.5 + RNG.normal(size=400)
    assert overlap(3 * a - 8, 3 * b - 8) == pytest.approx(overlap(a, b), abs=0.01)
    assert 0.5 < overlap(a, b) < 0.9


def test_resampled_overlap_is_that_of_the_clusters_drawn() -> None:
    cluster = RNG.integers(0, 6, 300)
    reference = RNG.normal(size=300) + 0.3 * cluster
    values = RNG.normal(size=200)
    once = np.ones((1, 6))
    assert resampled_overlap(values, reference, cluster, once) == pytest.approx(overlap(values, reference))
    counts = np.array([[2.0, 0, 0, 1, 3, 0]])
    edges = np.histogram_bin_edges(np.concatenate([values, reference]), BINS)
    drawn = np.concatenate([reference[cluster == one] for one in (0, 0, 3, 4, 4, 4)])
    shares = [np.histogram(of, edges)[0] / len(of) for of in (values, drawn)]
    assert resampled_overlap(values, reference, cluster, counts) == pytest.approx(np.minimum(*shares).sum())
