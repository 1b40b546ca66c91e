"""Sets of windows beside train and a held-out split."""

import numpy as np
import pytest

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.predictions import EvaluatedWindows
from musicvae.evaluation.samples import NEAR_CELLS, SampleComparison, window_features
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

GRID = GridSpec(bars=2)
DRUMS = DrumMap("three", {"kick": (36,), "snare": (38,), "hat": (42,)})


def split(seed: int, performances: int, density: float = 0.2) -> SplitTokens:
    """Eight windows of each performance, with a density of its own."""
    rng = np.random.default_rng(seed)
    performance = np.repeat(np.arange(performances), 8)
    own = density * rng.uniform(0.5, 1.5, performances)[performance]
    hits = rng.random((len(performance), GRID.num_steps, DRUMS.num_drums)) < own[:, None, None]
    return SplitTokens((hits @ (1 << np.arange(DRUMS.num_drums))).astype(np.int16), performance)


TRAIN, VALIDATION = split(0, 60), split(1, 30)
NO_OTHERS = TRAIN.tokens[:0]


@pytest.fixture(scope="module")
def comparison() -> SampleComparison:
    return SampleComparison(
        TRAIN, VALIDATION, GRID, DRUMS, size=240, learnt=None, classifiers=1, replicates=300, seed=0
    )


def test_samples_of_the_same_kind_are_not_behind_train(comparison: SampleComparison) -> None:
    found = comparison.samples("same", split(2, 30).tokens, split(5, 30).tokens)
    train = comparison.resample_of_train()
    assert found.mean_overlap == pytest.approx(train.mean_overlap, abs=0.06)
    for name, difference in found.behind_train.items():
        assert difference.value == pytest.approx(found.overlap[name] - train.overlap[name])
    structure = {name: found.behind_train[name].value for name in found.structure}
    assert sum(one.interval.excludes_zero for name, one in found.behind_train.items() if name not in structure) <= 2
    assert {"different bars", "bars 1 apart", "snare repeated", "time kept"} <= set(structure)
    assert structure == pytest.approx(dict.fromkeys(structure, 0), abs=0.1)
    assert found.auc.value == pytest.approx(0.5, abs=0.1)
    assert train.auc.value == pytest.approx(0.5, abs=0.1)


def test_samples_of_another_kind_are_behind_train(comparison: SampleComparison) -> None:
    found = comparison.samples("dense", split(3, 30, density=0.5).tokens, split(5, 30, density=0.5).tokens)
    behind = found.behind_train["hits per bar"]
    assert behind.value < -0.4
    assert behind.interval.excludes_zero
    assert found.auc.value > 0.95
    assert found.overlap["onset step"] > 0.9


def test_memorised_near_duplicates_and_empty(comparison: SampleComparison) -> None:
    tokens = split(4, 2).tokens.copy()
    tokens[0] = TRAIN.tokens[5]
    tokens[1] = TRAIN.tokens[6]
    tokens[1, :NEAR_CELLS] ^= 1
    tokens[2] = TRAIN.tokens[7]
    tokens[2, : NEAR_CELLS + 1] ^= 1
    tokens[3:6] = 0
    found = comparison.samples("hand-made", tokens, NO_OTHERS)
    assert found.nearest[:3].tolist() == [0, NEAR_CELLS, NEAR_CELLS + 1]
    assert found.memorised == 1 / 16
    assert found.near == 2 / 16
    assert found.duplicates == 2 / 16
    assert found.empty == 3 / 16


def test_train_is_not_its_own_neighbour(comparison: SampleComparison) -> None:
    assert comparison.resample_of_train().memorised == 0
    assert comparison.samples("train itself", TRAIN.tokens[:50], NO_OTHERS).memorised == 1


def test_bars_that_are_equal_and_a_backbone_that_is_kept(comparison: SampleComparison) -> None:
    tokens = np.zeros((5, GRID.num_steps), np.int16)
    tokens[0, [0, 16]] = 1  # equal
    tokens[1, [0, 16]] = 1, 5  # other hats, the same kick
    tokens[2, [0, 16]] = 1, 2
    tokens[3, [0, 16]] = 4, 0  # no kick and no snare to be kept
    found = comparison.samples("hand-made", tokens, NO_OTHERS)
    assert (found.equal_bars, found.kept) == (1 / 5, 2 / 5)
    assert found.likeness == pytest.approx(((1 + 2 / 3) / 5,))
    assert np.isnan(found.auc.value)


def test_features_have_a_value_a_window_and_onsets_one_a_hit() -> None:
    features = window_features(VALIDATION.tokens, GRID, DRUMS)
    assert {"hits per bar", "syncopation", "polyphony", "self-similarity", "snare density"} <= set(features)
    hits = sum(int(token).bit_count() for token in VALIDATION.tokens.ravel())
    for name, of in features.items():
        assert len(of.values) == len(of.window) == (hits if name == "onset step" else len(VALIDATION.tokens))
    of_seven = features["onset step"].window == 7
    assert of_seven.sum() == sum(int(token).bit_count() for token in VALIDATION.tokens[7])


def test_spaced_windows_go_through_all_performances() -> None:
    some = EvaluatedWindows.spaced(VALIDATION, 60)
    assert len(some) == 60
    assert np.bincount(some.split.performance).tolist() == [2] * 30
    np.testing.assert_array_equal(some.split.tokens, VALIDATION.tokens[some.ids])
    whole = EvaluatedWindows.spaced(VALIDATION, None)
    np.testing.assert_array_equal(whole.ids, np.arange(240))
    np.testing.assert_array_equal(whole.split.performance, VALIDATION.performance)
