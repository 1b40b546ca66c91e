"""What whole grooves tell of their player."""

import numpy as np

from musicvae.groove.played import MANNER, PlayedHits


def played(steps: list[int], velocity: list[int], ticks: list[int]) -> PlayedHits:
    """One drum of two, hit at some steps."""
    hits, loudness, offset = (np.zeros((64, 2), kind) for kind in (bool, np.float32, np.float32))
    hits[steps, 0], loudness[steps, 0], offset[steps, 0] = True, np.array(velocity) / 127, np.array(ticks) / 120
    return PlayedHits(hits, loudness, offset)


def test_level_spread_lean_looseness_and_swing():
    swung = played([*range(0, 16, 2), *range(1, 16, 2)], [100] * 8 + [60] * 8, [-10] * 8 + [20] * 8)
    figures = dict(zip(MANNER, swung.manner().tolist(), strict=True))
    expected: dict[str, float] = {
        "level": 80 / 127,
        "spread": 20 / 127,
        "lean": 5 / 120,
        "looseness": 15 / 120,
        "swing": 30 / 120,
    }
    for name, value in expected.items():
        assert abs(figures[name] - value) < 1e-6, name


def test_what_too_few_hits_tell_is_not_a_number():
    straight = played([0, 4, 8, 12], [90] * 4, [3] * 4)
    assert np.isnan(straight.manner()).tolist() == [False, False, False, False, True]
    silent = played([], [], [])
    both = PlayedHits(
        *(np.stack([getattr(g, name) for g in (silent, straight)]) for name in ("hits", "velocity", "offset"))
    )
    assert np.isnan(both.manner()).tolist() == [[True] * 5, [False, False, False, False, True]]


def test_velocity_and_ticks_are_whole_numbers_that_stay():
    edges = played([0, 1, 2, 3], [1, 127, 64, 100], [-60, 59, 0, -1])
    assert edges.midi_velocity()[:4, 0].tolist() == [1, 127, 64, 100]
    assert edges.ticks()[:4, 0].tolist() == [-60, 59, 0, -1]
    assert not edges.midi_velocity()[4:].any()
