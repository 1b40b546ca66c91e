"""The drum kit in a gallery's page, rendered off line: it sounds, and like the one in Python."""

from typing import get_args

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from musicvae.groove.groove import DrumGroove
from musicvae.groove.sound import LEAD_IN_STEPS, LOUDNESS_EXPONENT, MIX, SAMPLE_RATE, Voice, render, step_seconds
from tests.support.pages.gallery_grooves import DRUM_MAP, GRID, chance_groove, drum_groove

pytestmark = pytest.mark.slow

BAND_EDGES = (0, 100, 200, 400, 800, 1600, 3200, 6400, 9000, SAMPLE_RATE)
"""Hertz."""
ENERGY_SHARES = (0.5, 0.9, 0.99)
RENDER = """
  const [strikes, rate, seconds] = given;
  const context = new OfflineAudioContext(1, Math.round(rate * seconds), rate), kit = new Kit(context);
  for (const [voice, velocity, when] of strikes) kit.strike(context.destination, voice, velocity, when);
  return [...(await context.startRendering()).getChannelData(0)]"""


def in_page(gallery, strikes, *, rate: int = SAMPLE_RATE, seconds: float = 2.0) -> np.ndarray:
    """The samples of (voice, velocity, seconds) strikes, played by the kit of the page."""
    return np.array(gallery.run_async(RENDER, strikes, rate, seconds))


def in_python(voice: Voice, velocity: int) -> np.ndarray:
    """The samples of one hit, from its onset on."""
    hits = np.zeros((GRID.num_steps, DRUM_MAP.num_drums), dtype=bool)
    hits[0, get_args(Voice).index(voice)] = True
    groove = DrumGroove(GRID, hits, hits * np.float32(velocity / 127), np.zeros(hits.shape, np.float32))
    return render(groove, DRUM_MAP)[round(LEAD_IN_STEPS * step_seconds(groove) * SAMPLE_RATE) :]


def energy(samples: np.ndarray, rate: int) -> float:
    return float((samples.astype(np.float64) ** 2).sum()) / rate


def band_shares(samples: np.ndarray, rate: int) -> np.ndarray:
    power = np.abs(np.fft.rfft(samples)) ** 2
    bands = np.histogram(np.fft.rfftfreq(len(samples), 1 / rate), BAND_EDGES, weights=power)[0]
    return bands / bands.sum()


def seconds_to(samples: np.ndarray, rate: int) -> np.ndarray:
    """When some shares of the energy have come."""
    come = np.cumsum(samples.astype(np.float64) ** 2)
    return np.searchsorted(come / come[-1], ENERGY_SHARES) / rate


@pytest.mark.parametrize(("rate", "velocity"), [(SAMPLE_RATE, 127), (44_100, 127), (SAMPLE_RATE, 30)])
@pytest.mark.parametrize("voice", get_args(Voice))
def test_a_voice_sounds_like_that_of_the_kit_in_python(gallery, voice, rate, velocity):
    page, python = in_page(gallery, [[voice, velocity, 0]], rate=rate), in_python(voice, velocity)
    loudest = MIX * (velocity / 127) ** LOUDNESS_EXPONENT
    assert np.abs(page).max() == pytest.approx(loudest, abs=0.001) == pytest.approx(np.abs(python).max(), abs=0.001)
    assert abs(10 * np.log10(energy(page, rate) / energy(python, SAMPLE_RATE))) < 2.5  # decibels
    assert np.abs(band_shares(page, rate) - band_shares(python, SAMPLE_RATE)).max() < 0.12
    assert seconds_to(page, rate) == pytest.approx(seconds_to(python, SAMPLE_RATE), rel=0.15, abs=0.004)


def test_a_groove_is_heard_as_the_kit_in_python_plays_it(gallery):
    """Loudness over time, in windows of 20 ms, of what the page plays and what Python renders."""
    groove = drum_groove(chance_groove(1))
    gallery.press(Keys.ARROW_RIGHT, Keys.SPACE)
    strikes = gallery.run(
        """const early = 0.5, heard = player.hitsBetween(-early, grooves.numSteps - early);
        return heard.map(({ place, drum, velocity }) =>
          [grooves.drums[drum].voice, velocity, (place + early) * player.stepSeconds])"""
    )
    gallery.press(Keys.SPACE)
    assert len(strikes) == groove.hits.sum()
    length = (GRID.num_steps + LEAD_IN_STEPS) * step_seconds(groove)
    page = in_page(gallery, strikes, seconds=length)
    python = render(groove, DRUM_MAP)[: len(page)]
    assert np.abs(page).max() > 0.3
    window = SAMPLE_RATE // 50

    def loudness(samples: np.ndarray) -> np.ndarray:
        return np.sqrt((samples[: len(samples) // window * window].reshape(-1, window) ** 2).mean(axis=1))

    assert np.corrcoef(loudness(page), loudness(python))[0, 1] > 0.95


def test_a_closed_hihat_ends_an_open_one(gallery):
    ringing = in_page(gallery, [["open_hihat", 127, 0]])
    choked = in_page(gallery, [["open_hihat", 127, 0], ["closed_hihat", 1, 0.1]])
    later = slice(round(0.12 * SAMPLE_RATE), None)
    assert energy(choked[later], SAMPLE_RATE) < 0.01 * energy(ringing[later], SAMPLE_RATE)
    beside = in_page(gallery, [["open_hihat", 127, 0], ["kick", 1, 0.1]])
    assert energy(beside[later], SAMPLE_RATE) > 0.9 * energy(ringing[later], SAMPLE_RATE)


def test_loudness_follows_velocity(gallery):
    soft, loud = (in_page(gallery, [["snare", velocity, 0]]) for velocity in (40, 120))
    assert np.abs(loud).max() / np.abs(soft).max() == pytest.approx(3**LOUDNESS_EXPONENT, rel=0.01)
