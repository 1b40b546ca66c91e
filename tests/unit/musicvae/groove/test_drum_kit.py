"""The drum kit: a sound where a hit is, as loud as it is, and the same every time."""

import wave

import numpy as np
import pytest

from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.groove.sound import (
    HEADROOM,
    LEAD_IN_STEPS,
    LOUDNESS_EXPONENT,
    SAMPLE_RATE,
    TAIL_SECONDS,
    onset_samples,
    render,
    step_seconds,
    voices,
    write_wav,
)

DRUM_MAP = DrumMap.load("general_midi")
GRID = GridSpec(bars=1)


def groove(*hits: tuple[int, str, float, float], tempo: float = 120.0) -> DrumGroove:
    """Hits as (step, drum, velocity, offset)."""
    cells = (GRID.num_steps, DRUM_MAP.num_drums)
    struck, velocity, offset = np.zeros(cells, bool), np.zeros(cells, np.float32), np.zeros(cells, np.float32)
    for step, name, loudness, shift in hits:
        cell = step, DRUM_MAP.classes.index(name)
        struck[cell], velocity[cell], offset[cell] = True, loudness, shift
    return DrumGroove(GRID, struck, velocity, offset, tempo)


def power(sound: np.ndarray) -> float:
    return float(np.square(sound, dtype=np.float64).sum())


def centroid(sound: np.ndarray) -> float:
    """The mean frequency of a sound in hertz, weighted by power."""
    spectrum = np.square(np.abs(np.fft.rfft(sound)))
    return float((spectrum * np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)).sum() / spectrum.sum())


def edge(sound: np.ndarray) -> float:
    """The frequency in hertz below which lies 99% of the power of a sound's first hundredth of a second, faded out."""
    stroke = sound[: SAMPLE_RATE // 100] * np.hanning(SAMPLE_RATE // 50)[SAMPLE_RATE // 100 :]
    below = np.cumsum(np.square(np.abs(np.fft.rfft(stroke, SAMPLE_RATE))))
    return float(np.searchsorted(below, 0.99 * below[-1]))


def test_silence_is_silent_and_as_long_as_the_bar():
    sound = render(groove(), DRUM_MAP)
    assert not sound.any()
    assert sound.dtype == np.float32
    expected = (GRID.num_steps + LEAD_IN_STEPS) * 60 / 120 / 4 + TAIL_SECONDS
    assert len(sound) == round(expected * SAMPLE_RATE)


@pytest.mark.parametrize("drum", DRUM_MAP.classes)
@pytest.mark.parametrize(("step", "offset", "tempo"), [(0, -0.5, 120.0), (0, 0.0, 73.0), (7, 0.4, 200.0)])
def test_a_sound_begins_at_its_onset(drum, step, offset, tempo):
    hit = groove((step, drum, 1.0, offset), tempo=tempo)
    sound = render(hit, DRUM_MAP)
    expected = (step + offset + LEAD_IN_STEPS) * 60 / tempo / 4
    first = int(np.flatnonzero(np.abs(sound) > 0.02)[0])
    assert not sound[: max(0, round(expected * SAMPLE_RATE) - 1)].any()
    assert first / SAMPLE_RATE == pytest.approx(expected, abs=0.003)
    assert onset_samples(hit)[step, DRUM_MAP.classes.index(drum)] == pytest.approx(expected * SAMPLE_RATE, abs=0.51)


def test_a_late_hit_is_later_than_an_early_one():
    early, late = (int(np.flatnonzero(render(groove((4, "snare", 1.0, at)), DRUM_MAP))[0]) for at in (-0.3, 0.3))
    assert late - early == pytest.approx(0.6 * step_seconds(groove()) * SAMPLE_RATE, abs=1)


@pytest.mark.parametrize("drum", DRUM_MAP.classes)
def test_more_velocity_is_louder(drum):
    powers = [power(render(groove((2, drum, velocity, 0.0)), DRUM_MAP)) for velocity in (0.2, 0.5, 0.8, 1.0)]
    assert powers == sorted(powers)
    assert powers[0] > 0
    assert powers[-1] > 20 * powers[0]


@pytest.mark.parametrize("drum", DRUM_MAP.classes)
def test_a_soft_hit_is_duller_too(drum):
    """Nearly all of its stroke lies lower."""
    soft, loud = (render(groove((2, drum, velocity, 0.0)), DRUM_MAP) for velocity in (0.15, 1.0))
    onset = round((2 + LEAD_IN_STEPS) * step_seconds(groove()) * SAMPLE_RATE)
    assert edge(soft[onset:]) < 0.9 * edge(loud[onset:])
    assert np.abs(soft).max() / np.abs(loud).max() == pytest.approx(0.15**LOUDNESS_EXPONENT, rel=0.01)


def test_a_closed_hihat_chokes_the_open_one():
    seconds = step_seconds(groove())
    after = slice(round((4 + LEAD_IN_STEPS) * seconds * SAMPLE_RATE + 0.12 * SAMPLE_RATE), None)
    ringing = render(groove((2, "open_hihat", 1.0, 0.0)), DRUM_MAP)
    closed = render(groove((4, "closed_hihat", 1.0, 0.0)), DRUM_MAP)
    choked = render(groove((2, "open_hihat", 1.0, 0.0), (4, "closed_hihat", 1.0, 0.0)), DRUM_MAP)
    kicked = render(groove((2, "open_hihat", 1.0, 0.0), (4, "kick", 1.0, 0.0)), DRUM_MAP)
    assert power(ringing[after]) > 1e-3
    np.testing.assert_allclose(choked[after], closed[after], atol=1e-6)
    assert power(kicked[after]) > power(ringing[after]) / 2, "no other drum chokes it"


def test_each_drum_has_its_own_pitch():
    pitch = {drum: centroid(render(groove((0, drum, 1.0, 0.0)), DRUM_MAP)) for drum in DRUM_MAP.classes}
    assert pitch["kick"] < pitch["low_tom"] < pitch["mid_tom"] < pitch["high_tom"] < pitch["snare"]
    assert pitch["snare"] < min(pitch["closed_hihat"], pitch["open_hihat"], pitch["ride"], pitch["crash"])
    assert pitch["kick"] < 400
    assert pitch["closed_hihat"] > 5000


def test_a_sound_dies_away_in_its_own_time():
    def lasts(drum: str) -> float:
        loud = np.flatnonzero(np.abs(render(groove((0, drum, 1.0, 0.0)), DRUM_MAP)) > 0.01)
        return (loud[-1] - loud[0]) / SAMPLE_RATE

    assert lasts("closed_hihat") < lasts("snare") < lasts("open_hihat") < lasts("crash")


def test_everything_at_once_does_not_clip():
    sound = render(groove(*((step, drum, 1.0, 0.0) for step in range(16) for drum in DRUM_MAP.classes)), DRUM_MAP)
    assert np.abs(sound).max() == pytest.approx(HEADROOM, abs=1e-3)
    assert np.isfinite(sound).all()


def test_the_same_groove_gives_the_same_samples():
    busy = groove(*((step, drum, 0.7, 0.1) for step in range(0, 16, 3) for drum in DRUM_MAP.classes))
    assert render(busy, DRUM_MAP).tobytes() == render(busy, DRUM_MAP).tobytes()


def test_every_class_of_every_map_has_a_voice():
    names = ["kick", "snare", "closed_hihat", "open_hihat", "low_tom", "mid_tom", "high_tom", "crash", "ride"]
    assert voices(DRUM_MAP) == voices(DrumMap.load("roland")) == names
    assert voices(DrumMap("own", {"cowbell": (56,), "lowest": (1,), "highest": (127,)})) == [
        "crash",
        "closed_hihat",
        "ride",
    ]


def test_a_wav_file_holds_the_sound(tmp_path):
    sound = render(groove((0, "kick", 1.0, 0.0)), DRUM_MAP)
    write_wav(tmp_path / "kick.wav", sound)
    with wave.open(str(tmp_path / "kick.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    np.testing.assert_allclose(read, sound, atol=1e-4)
