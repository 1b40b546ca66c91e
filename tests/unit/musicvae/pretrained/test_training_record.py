"""What a model carries of its training windows."""

import numpy as np
import pytest

from musicvae.evaluation.samples import count_features, window_features
from musicvae.groove.distance import window_hashes
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.pretrained.training_record import TrainingRecord, record_of

GRID, DRUMS = GridSpec(), DrumMap.load("roland")


def windows(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 512, (count, 64)) * (rng.random((count, 64)) < 0.4)).astype(np.int16)


def test_training_windows_are_told_from_others():
    record = record_of(windows(100), GRID, DRUMS)
    mixed = np.concatenate([windows(100)[:3], windows(3, seed=1)])
    assert record.holds(window_hashes(mixed)).tolist() == [True] * 3 + [False] * 3


def test_a_record_comes_back_from_its_bytes_and_only_from_them():
    record = record_of(windows(40), GRID, DRUMS)
    data = record.to_bytes()
    back = TrainingRecord.from_bytes(data, GRID, DRUMS)
    np.testing.assert_array_equal(back.hashes, record.hashes)
    np.testing.assert_array_equal(back.histograms.counts, record.histograms.counts)
    assert back.to_bytes() == data
    other = DrumMap("few", {"kick": (36,), "snare": (38,)})
    for args in ((data[:50], GRID, DRUMS), (data, GRID, other)):
        with pytest.raises(ValueError, match=r"."):
            TrainingRecord.from_bytes(*args)


def test_histograms_add_up_and_have_the_means_of_the_values():
    whole, tokens = count_features(windows(50), GRID, DRUMS), windows(50)
    halves = count_features(tokens[:20], GRID, DRUMS) + count_features(tokens[20:], GRID, DRUMS)
    np.testing.assert_array_equal(whole.counts, halves.counts)
    features = window_features(tokens, GRID, DRUMS)
    assert whole.names == tuple(features)
    np.testing.assert_allclose(whole.means, [features[name].values.mean() for name in whole.names])
    assert (whole.counts.sum(axis=1) == [len(features[name].values) for name in whole.names]).all()


def test_overlap_is_1_with_itself_and_less_with_others():
    some = count_features(windows(200), GRID, DRUMS)
    dense = count_features((windows(200) | windows(200, seed=2)).astype(np.int16), GRID, DRUMS)
    np.testing.assert_allclose(some.overlaps(some), 1)
    assert some.overlaps(dense)[some.names.index("hits per bar")] < 0.5


def test_without_windows_everything_is_0():
    nothing = record_of(windows(0), GRID, DRUMS)
    assert not nothing.histograms.counts.any()
    assert not nothing.holds(window_hashes(windows(3))).any()
