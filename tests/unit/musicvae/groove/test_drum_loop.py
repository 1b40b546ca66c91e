"""Loops of sound: as long as their bars, with what rings over heard at the start."""

import numpy as np
import pytest

from musicvae.groove.sound import SAMPLE_RATE, render_led_in, render_loop
from musicvae.midi.performance import read_performance
from musicvae.midi.writer import groove_to_midi
from tests.unit.musicvae.groove.test_drum_kit import DRUM_MAP, GRID, groove


@pytest.mark.parametrize("tempo", [60.0, 97.3, 200.0])
def test_a_loop_is_as_long_as_its_bars(tempo):
    loop = render_loop(groove((0, "kick", 1.0, 0.0), tempo=tempo), DRUM_MAP)
    assert len(loop) == round(GRID.num_steps * 60 / tempo / GRID.steps_per_beat * SAMPLE_RATE)
    assert loop.dtype == np.float32
    assert np.abs(loop).max() <= 1


def test_what_rings_over_the_end_is_heard_at_the_start():
    last = render_loop(groove((15, "crash", 1.0, 0.0)), DRUM_MAP)
    assert np.abs(last[: SAMPLE_RATE // 10]).max() > 0.01
    first = render_loop(groove((0, "crash", 1.0, 0.0)), DRUM_MAP)
    step = round(60 / 120 / 4 * SAMPLE_RATE)
    # Both begin with the stroke, and the last step's dies away a second after the bar line.
    heard = slice(0, SAMPLE_RATE)
    np.testing.assert_allclose(np.roll(last, step)[heard], first[heard], atol=1e-3)


def test_an_early_hit_on_the_first_step_is_heard_at_the_end():
    loop = render_loop(groove((0, "kick", 1.0, -0.4)), DRUM_MAP)
    step = 60 / 120 / 4 * SAMPLE_RATE
    assert np.abs(loop[round(len(loop) - 0.4 * step) :]).max() > 0.1
    assert np.abs(loop[len(loop) // 2 : round(len(loop) - 0.5 * step)]).max() < 1e-3


@pytest.mark.parametrize("tempo", [61.0, 97.3, 200.0])
@pytest.mark.parametrize("ticks", [24, 480])
@pytest.mark.parametrize("offset", [-0.5, -0.123, 0.0, 0.31])
def test_a_loop_sounds_when_its_midi_file_does(tempo, ticks, offset):
    """Also with a division so coarse that onsets are moved by it."""
    for step in (0, 5, 11):
        one = groove((step, "snare", 1.0, offset), tempo=tempo)
        for rendered, lead_in in ((render_loop, False), (render_led_in, True)):
            (tick,) = read_performance(groove_to_midi(one, DRUM_MAP, ticks=ticks, lead_in=lead_in)).tick.tolist()
            sound = np.abs(rendered(one, DRUM_MAP, ticks=ticks))
            # A loop is never silent: what rings on is heard at its start. The stroke comes after the quietest time.
            begin = (np.argmax(sound) - SAMPLE_RATE // 100) % len(sound)
            first = (begin + np.flatnonzero(np.roll(sound, -begin) > 0.05)[0]) % len(sound)
            assert first / SAMPLE_RATE == pytest.approx(tick * 60 / tempo / ticks, abs=0.001)


def test_left_and_right_differ_as_the_kit_stands():
    left, right = render_loop(groove((0, "ride", 1.0, 0.0)), DRUM_MAP, stereo=True).T
    assert np.square(left).sum() > 2 * np.square(right).sum() > 0
    left, right = render_loop(groove((0, "kick", 1.0, 0.0)), DRUM_MAP, stereo=True).T
    np.testing.assert_allclose(left, right, atol=1e-6)
    np.testing.assert_allclose(left, render_loop(groove((0, "kick", 1.0, 0.0)), DRUM_MAP), atol=1e-6)
