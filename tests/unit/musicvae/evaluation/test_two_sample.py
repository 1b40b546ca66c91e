"""Classifiers that tell sets of windows apart, on sets of which it is known whether they can be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from musicvae.evaluation.bootstrap import ResampledFigure, Resamples
from musicvae.evaluation.playing import shuffled_offsets
from musicvae.evaluation.two_sample import HitsTest, _areas, playing_auc
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID
from tests.unit.musicvae.evaluation.test_playing import repeating

BAR = GRID.steps_per_bar
PERFORMANCES, WINDOWS = 12, 120


def test_equal_scores_count_half_and_weights_count():
    labels = np.array([False, True, False, True])
    weights = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]])
    areas = _areas(np.array([0.0, 1, 2, 2]), labels, weights)
    np.testing.assert_allclose(areas, [(1 + 0 + 1 + 0.5) / 4, 1, 0.5, np.nan])


def test_a_classifier_tells_shuffled_offsets_but_not_the_same_playing():
    rng, performance = np.random.default_rng(0), np.arange(60) // 5
    played = repeating(60)
    loose = (played.offset + rng.normal(0, 0.02, played.offset.shape) * played.hits).astype(np.float32)
    played = replace(played, offset=loose)
    resamples = Resamples(12, replicates=50, seed=0)
    same = playing_auc(played, played, (performance, performance), resamples, bar=BAR)
    assert same.value == pytest.approx(0.5, abs=0.02)
    apart = playing_auc(played, shuffled_offsets(played, 0), (performance, performance), resamples, bar=BAR)
    interval = resamples.percentiles(apart.replicates)
    assert 0.8 < interval.low <= apart.value <= interval.high <= 1


def windows(seed: int, count: int = WINDOWS, *, repeats: bool) -> np.ndarray:
    """Hits of equal density at random steps; bars of a window are the same, or each is another."""
    rng = np.random.default_rng(seed)
    bars = 1 if repeats else GRID.bars
    hits = rng.random((count, bars * BAR, DRUM_MAP.num_drums)) < 0.2
    tokens = (hits @ (1 << np.arange(DRUM_MAP.num_drums))).astype(np.int16)
    return np.tile(tokens, (1, GRID.num_steps // tokens.shape[1]))


@pytest.fixture(scope="module")
def hits_test() -> HitsTest:
    return HitsTest(
        windows(0, 2 * WINDOWS, repeats=True),
        windows(1, repeats=True),
        np.arange(WINDOWS) // (WINDOWS // PERFORMANCES),
        Resamples(PERFORMANCES, replicates=100, seed=0),
        num_drums=DRUM_MAP.num_drums,
        beat=GRID.steps_per_beat,
        bar=BAR,
        seeds=(0,),
    )


def interval_of(hits_test: HitsTest, figure: ResampledFigure) -> tuple[float, float]:
    interval = hits_test.resamples.percentiles(figure.replicates)
    return interval.low, interval.high


def test_windows_that_repeat_are_told_from_those_that_do_not_though_every_step_is_alike(hits_test):
    figure = hits_test.auc(windows(2, repeats=False), windows(3, repeats=False))
    low, high = interval_of(hits_test, figure)
    assert 0.9 < low <= figure.value <= high <= 1


def test_the_threads_of_a_machine_change_no_figure(hits_test):
    """The order of a sum would: classifiers of two threads each differed in the second decimal."""
    sets, before = (windows(4, repeats=True), windows(5, repeats=True)), torch.get_num_threads()
    figures = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        figures.append(replace(hits_test, seeds=(0, 1), threads=threads).auc(*sets))
    torch.set_num_threads(before)
    assert figures[0].value == figures[1].value
    np.testing.assert_array_equal(figures[0].replicates, figures[1].replicates)


def test_windows_of_one_kind_are_not_told_apart(hits_test):
    figure = hits_test.auc(windows(4, repeats=True), windows(5, repeats=True))
    low, high = interval_of(hits_test, figure)
    assert low < 0.5 < high
    control = hits_test.control(np.arange(2 * WINDOWS) // 10)
    low, high = interval_of(hits_test, control)
    assert low < 0.5 < high


def test_without_windows_there_is_no_figure(hits_test):
    assert np.isnan(hits_test.auc(windows(0, 0, repeats=True), windows(1, repeats=True)).value)
