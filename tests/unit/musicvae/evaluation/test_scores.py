"""Scores by hand: three drums, a few steps."""

import numpy as np
import pytest

from musicvae.evaluation.scores import MatchCounts, active_units, f1, precision, recall, token_accuracy

KICK, SNARE, HAT = 1, 2, 4


def tokens(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int16)


REFERENCE = tokens(KICK | HAT, 0, SNARE | HAT, HAT)
ESTIMATED = tokens(KICK | HAT, HAT, SNARE, KICK)


def test_identity_is_perfect() -> None:
    counts = MatchCounts.compare(REFERENCE, REFERENCE, 3)
    assert counts.token_accuracy == counts.hit_f1 == 1
    assert counts.hit_f1_by_drum.tolist() == [1, 1, 1]


def test_counts_by_hand() -> None:
    counts = MatchCounts.compare(REFERENCE, ESTIMATED, 3)
    assert (counts.steps, counts.correct) == (4, 1)
    assert counts.true_positives.tolist() == [1, 1, 1]
    assert counts.false_positives.tolist() == [1, 0, 1]
    assert counts.false_negatives.tolist() == [0, 0, 2]
    assert counts.token_accuracy == token_accuracy(REFERENCE, ESTIMATED) == 0.25
    assert counts.hit_f1_by_drum.tolist() == pytest.approx([2 / 3, 1, 2 / 5])
    assert counts.hit_f1 == pytest.approx(6 / 10)


def test_kick_counts_although_its_class_is_zero() -> None:
    counts = MatchCounts.compare(tokens(KICK, KICK), tokens(KICK, 0), 3)
    assert counts.true_positives[0] == counts.false_negatives[0] == 1


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    found, wrong, missed = np.array([6.0, 1.0]), np.array([2.0, 3.0]), np.array([4.0, 0.0])
    p, r = precision(found, wrong), recall(found, missed)
    assert p.tolist() == [0.75, 0.25]
    assert r.tolist() == [0.6, 1.0]
    np.testing.assert_allclose(f1(found, wrong, missed), 2 * p * r / (p + r))


def test_silence_is_worth_nothing_although_most_cells_are_empty() -> None:
    counts = MatchCounts.compare(REFERENCE, np.zeros_like(REFERENCE), 3)
    assert counts.token_accuracy == 0.25
    assert counts.hit_f1 == 0


def test_nothing_to_divide_by_is_undefined() -> None:
    assert np.isnan(MatchCounts.empty(3).token_accuracy)
    assert np.isnan(MatchCounts.empty(3).hit_f1)
    by_drum = MatchCounts.compare(tokens(KICK, 0), tokens(KICK, 0), 3).hit_f1_by_drum
    assert by_drum[0] == 1
    assert np.isnan(by_drum[1:]).all()


def test_sums_of_parts_are_the_whole() -> None:
    whole = MatchCounts.compare(REFERENCE, ESTIMATED, 3)
    parts = MatchCounts.compare(REFERENCE[:1], ESTIMATED[:1], 3) + MatchCounts.compare(REFERENCE[1:], ESTIMATED[1:], 3)
    assert parts.token_accuracy == whole.token_accuracy
    assert parts.hit_f1_by_drum.tolist() == whole.hit_f1_by_drum.tolist()


def test_windows_may_have_any_shape() -> None:
    square = MatchCounts.compare(REFERENCE.reshape(2, 2), ESTIMATED.reshape(2, 2), 3)
    assert square.hit_f1 == MatchCounts.compare(REFERENCE, ESTIMATED, 3).hit_f1


def test_active_units_are_those_above_the_threshold_of_burda() -> None:
    assert active_units(np.array([0.0, 0.01, 0.011, 1.0])) == 2
