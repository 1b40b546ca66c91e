"""What a model carries of its training windows."""

from dataclasses import replace

import numpy as np
import pytest

from musicvae.evaluation.samples import FeatureHistograms, count_features, structure_features, window_features
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
    assert back.structure is not None
    np.testing.assert_array_equal(back.structure.counts, record.structure.counts)
    assert TrainingRecord.from_bytes(replace(record, structure=None).to_bytes(), GRID, DRUMS).structure is None
    assert back.to_bytes() == data
    other = DrumMap("few", {"kick": (36,), "snare": (38,)})
    for args in ((data[:50], GRID, DRUMS), (data, GRID, other)):
        with pytest.raises(ValueError, match=r"."):
            TrainingRecord.from_bytes(*args)


def counted(tokens: np.ndarray, features=window_features) -> FeatureHistograms:
    return count_features(features(tokens, GRID, DRUMS), GRID)


@pytest.mark.parametrize("features", [window_features, structure_features])
def test_histograms_add_up_and_have_the_means_of_the_values(features):
    tokens = windows(50)
    whole, first, second = (counted(part, features) for part in (tokens, tokens[:20], tokens[20:]))
    np.testing.assert_array_equal(whole.counts, (first + second).counts)
    values = {name: feature.values for name, feature in features(tokens, GRID, DRUMS).items()}
    assert whole.names == tuple(values)
    np.testing.assert_allclose(whole.means, [values[name].mean() for name in whole.names])
    assert (whole.counts.sum(axis=1) == [len(values[name]) for name in whole.names]).all()


def test_bins_lie_between_the_bounds_of_a_feature():
    no_fill, fill = np.full((2, 64), 1, dtype=np.int16)
    fill[48:] = 2
    counts = counted(np.stack([no_fill, fill]), structure_features)
    row = {name: counts.counts[place] for place, name in enumerate(counts.names)}
    assert np.flatnonzero(row["different bars"]).tolist() == [8, 16], "1 and 2 of 0 to 5, in 40 bins"
    assert np.flatnonzero(row["ending"]).tolist() == [20, 39], "0 and 1 of -1 to 1"


def test_overlap_is_1_with_itself_and_less_with_others():
    some = counted(windows(200))
    dense = counted((windows(200) | windows(200, seed=2)).astype(np.int16))
    np.testing.assert_allclose(some.overlaps(some), 1)
    assert some.overlaps(dense)[some.names.index("hits per bar")] < 0.5


def test_without_windows_everything_is_0():
    nothing = record_of(windows(0), GRID, DRUMS)
    assert not nothing.histograms.counts.any()
    assert not nothing.holds(window_hashes(windows(3))).any()
