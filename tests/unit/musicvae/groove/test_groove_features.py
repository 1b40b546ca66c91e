"""Features of grooves made by hand."""

from functools import partial

import numpy as np
import pytest

from musicvae.groove.features import (
    backbeat,
    bar_likeness,
    class_density,
    contrast,
    different_bars,
    drum_shares,
    ending,
    fill,
    hits_per_bar,
    metrical_weights,
    onset_likeness,
    onset_position,
    onsets_in_bar,
    polyphony,
    quality,
    repetition,
    self_similarity,
    steadiness,
    stray_drums,
    syncopation,
)
from musicvae.groove.grid import GridSpec

GRID = GridSpec(bars=2)
KICK, SNARE, HAT = range(3)
DRUMS = ("kick", "snare", "closed_hihat")


def groove(*strokes: tuple[int, int]) -> np.ndarray:
    """One window of two bars with three drums, struck at (step, drum)."""
    hits = np.zeros((1, GRID.num_steps, 3), dtype=bool)
    for step, drum in strokes:
        hits[0, step, drum] = True
    return hits


ROCK = groove(
    *[(step, KICK) for step in (0, 8, 16, 24)],
    *[(step, SNARE) for step in (4, 12, 20, 28)],
    *[(step, HAT) for step in range(0, 32, 2)],
)
SILENCE = groove()


def test_weights_of_four_four_are_those_of_longuet_higgins_and_lee() -> None:
    assert metrical_weights(GRID).tolist() == [0, -4, -3, -4, -2, -4, -3, -4, -1, -4, -3, -4, -2, -4, -3, -4]


def test_weights_of_a_triple_metre_divide_the_bar_in_three() -> None:
    grid = GridSpec(bars=1, beats_per_bar=3, steps_per_beat=2)
    assert metrical_weights(grid).tolist() == [0, -2, -1, -2, -1, -2]


def test_density() -> None:
    assert hits_per_bar(ROCK, GRID).tolist() == [12]
    assert class_density(ROCK, GRID).tolist() == [[2, 2, 8]]


@pytest.mark.parametrize(
    ("strokes", "per_window"),
    [
        ([], 0),
        ([(0, KICK), (16, KICK)], 0),  # downbeats: nothing is heavier
        ([(14, KICK)], 3),  # the last eighth of bar 1 (-3), with the next downbeat (0) silent
        ([(14, KICK), (16, KICK)], 0),  # the downbeat is struck, the silence between them is lighter
        ([(14, KICK), (16, SNARE)], 3),  # by another voice
        ([(3, HAT)], 4),  # a sixteenth; the heaviest silence is the next downbeat
        ([(3, HAT), (5, HAT), (16, HAT)], 2 + 3),  # beat 2 (-2) after -4; then beat 3 (-1) after -4
        ([(28, SNARE)], 0),  # beat 4 of the last bar: what follows it in the window is lighter
    ],
)
def test_syncopation_by_hand(strokes: list[tuple[int, int]], per_window: float) -> None:
    assert syncopation(groove(*strokes), GRID).tolist() == [per_window / GRID.bars]


def test_syncopation_of_a_backbeat() -> None:
    """Kick and hats: none. The snare on 2 (-2) leaves 3 (-1) silent: 1. On 4 it leaves the next downbeat (0): 2."""
    assert syncopation(ROCK, GRID).tolist() == [(1 + 2 + 1 + 0) / 2]


def test_polyphony_counts_struck_steps_alone() -> None:
    assert polyphony(ROCK).tolist() == [24 / 16]
    assert polyphony(groove((3, KICK), (3, SNARE), (3, HAT), (9, HAT))).tolist() == [2]


def test_self_similarity() -> None:
    assert self_similarity(ROCK, GRID).tolist() == [1]
    assert self_similarity(groove((0, KICK), (17, KICK)), GRID).tolist() == [0]
    one_of_three = groove((0, KICK), (4, SNARE), (16, KICK), (20, HAT))
    assert self_similarity(one_of_three, GRID).tolist() == [1 / 3]
    assert self_similarity(groove((0, KICK)), GRID).tolist() == [0]
    one_bar = GridSpec(bars=1)
    assert self_similarity(ROCK[:, :16], one_bar).tolist() == [0]


def test_onset_position() -> None:
    assert onset_position(groove((2, KICK), (16 + 4, SNARE), (16 + 4, HAT)), GRID).tolist() == [10 / 3]
    assert onsets_in_bar(ROCK, GRID).tolist() == [[4, 0, 2, 0, 4, 0, 2, 0, 4, 0, 2, 0, 4, 0, 2, 0]]


def test_silence_has_a_value_in_every_feature() -> None:
    assert hits_per_bar(SILENCE, GRID) == syncopation(SILENCE, GRID) == polyphony(SILENCE) == 0
    assert onset_position(SILENCE, GRID) == 0
    assert self_similarity(SILENCE, GRID) == 1
    assert repetition(SILENCE, GRID) == contrast(SILENCE, GRID) == stray_drums(SILENCE) == 0
    assert steadiness(SILENCE, GRID, DRUMS) == 0
    assert quality(SILENCE, GRID, DRUMS) < 0.5


def test_windows_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random((6, GRID.num_steps, 3)) < 0.2
    named = [partial(feature, drums=DRUMS) for feature in (steadiness, quality)]
    for feature in (hits_per_bar, syncopation, self_similarity, onset_position, repetition, contrast, *named):
        alone = np.concatenate([feature(hits[i : i + 1], GRID) for i in range(6)])
        np.testing.assert_array_equal(feature(hits, GRID), alone)


def test_drum_shares() -> None:
    assert drum_shares(ROCK).tolist() == [[4 / 24, 4 / 24, 16 / 24]]
    assert drum_shares(SILENCE).tolist() == [[0, 0, 0]]


def test_a_fill_is_a_beat_of_snare_or_toms_without_a_timekeeper() -> None:
    assert fill(ROCK, GRID, DRUMS).tolist() == [0]
    roll = [(step, SNARE) for step in range(28, 32)]
    assert fill(groove(*roll), GRID, DRUMS).tolist() == [1 / 8]
    assert fill(groove(*roll, (30, HAT)), GRID, DRUMS).tolist() == [0]
    assert fill(groove((28, SNARE), (30, KICK)), GRID, DRUMS).tolist() == [0]
    assert fill(groove(*roll), GRID, ("a", "b", "c")).tolist() == [0]


def test_each_bar_is_compared_with_the_bar_most_like_it() -> None:
    assert repetition(ROCK, GRID).tolist() == [1]
    assert repetition(groove((0, KICK), (17, KICK)), GRID).tolist() == [0]
    assert repetition(groove((0, KICK), (4, SNARE), (16, KICK)), GRID).tolist() == [2 / 3]
    # Bars 0 and 2 are equal; of the others one is like both in half of its hits, and one is silent.
    first, second = groove((0, KICK), (4, SNARE), (16, KICK), (22, SNARE)), groove((0, KICK), (4, SNARE))
    assert repetition(np.concatenate([first, second], axis=1), GridSpec(bars=4)).tolist() == [(1 + 1 / 2 + 1) / 4]
    assert repetition(ROCK[:, :16], GridSpec(bars=1)).tolist() == [0]


def test_time_is_steady_where_two_bars_have_the_same_strokes_on_a_beat() -> None:
    assert steadiness(ROCK, GRID, DRUMS).tolist() == [1]
    one_of_four = groove((0, HAT), (16, HAT), (20, HAT), (8, HAT), (24, HAT), (26, HAT))
    assert steadiness(one_of_four, GRID, DRUMS).tolist() == [1 / 4]
    assert steadiness(ROCK, GRID, ("kick", "snare", "cowbell")).tolist() == [0]


def test_contrast_is_large_where_one_bar_is_another() -> None:
    four = GridSpec(bars=4)
    all_alike = np.concatenate([ROCK, ROCK], axis=1)
    assert contrast(all_alike, four).tolist() == [0]
    one_other = all_alike.copy()
    one_other[:, 48:] = np.roll(one_other[:, 48:], 1, axis=1)  # no hit of it is in the other bars
    assert contrast(one_other, four).tolist() == [3 / 4 - 3 / 6]
    assert contrast(ROCK[:, :16], GridSpec(bars=1)).tolist() == [0]


def test_a_stray_drum_is_struck_once_or_twice() -> None:
    assert stray_drums(ROCK).tolist() == [0]
    assert stray_drums(groove((0, KICK), (16, KICK), (3, SNARE), *[(step, HAT) for step in (0, 4, 8)])).tolist() == [2]


def test_a_beat_with_a_fill_is_of_higher_quality_than_one_that_never_repeats() -> None:
    four = GridSpec(bars=4)
    beat = np.concatenate([ROCK, ROCK], axis=1)
    with_fill = beat.copy()
    with_fill[:, 56:, HAT], with_fill[:, 56:, SNARE] = False, True
    rng = np.random.default_rng(0)
    wandering = np.concatenate([beat[:, rng.permutation(four.num_steps)] for _ in range(20)])
    assert (quality(wandering, four, DRUMS) < quality(with_fill, four, DRUMS)).all()
    assert quality(wandering, four, DRUMS).mean() < 0.4 < 0.6 < quality(with_fill, four, DRUMS)
    stray = np.concatenate([with_fill, np.zeros((1, 64, 1), dtype=bool)], axis=2)
    stray[0, 5, 3] = True
    assert quality(stray, four, (*DRUMS, "crash")) < quality(with_fill, four, DRUMS)


def test_bars_by_how_far_they_are_apart() -> None:
    four, bar = GridSpec(bars=4), ROCK[:, :16]
    empty, other = np.zeros_like(bar), np.roll(bar, 1, axis=1)
    window = np.concatenate([bar, other, bar, empty], axis=1)
    assert different_bars(window, four).tolist() == [3]
    assert different_bars(np.concatenate([empty] * 4, axis=1), four).tolist() == [1]
    np.testing.assert_allclose(bar_likeness(window, four), [[0, 1 / 2, 0]])
    # A bar has eight steps with a stroke: none of those of the bar that is a step later, and no silent one either.
    np.testing.assert_allclose(onset_likeness(window, four), [[(0 + 0 + 1 / 2) / 3, (1 + 1 / 2) / 2, 1 / 2]])
    assert bar_likeness(bar, GridSpec(bars=1)).shape == (1, 0)


def test_a_backbeat_has_the_snare_on_two_and_four() -> None:
    assert backbeat(ROCK, GRID, DRUMS).tolist() == [1]
    late = ROCK.copy()
    late[0, 28, SNARE] = False
    assert backbeat(late, GRID, DRUMS).tolist() == [0.5]


def test_an_ending_is_a_fill_in_the_last_bar() -> None:
    run = ROCK.copy()
    run[0, 28:, HAT], run[0, 28:, SNARE] = False, True
    assert ending(run, GRID, DRUMS).tolist() == [1 / 4]
    assert ending(ROCK, GRID, DRUMS).tolist() == [0]
    assert ending(ROCK[:, :16], GridSpec(bars=1), DRUMS).tolist() == [0]
