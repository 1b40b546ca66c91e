"""A groove as sound: played once, or as a loop that repeats without a gap or a click.

The drum kit is synthesised from sines and filtered noise, so nothing is downloaded. Nobody will mistake it for a
recording: it lets a listener tell a groove that swings from one that stumbles. The same groove always gives the same
samples.
"""

import io
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64, Int64

from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import DrumGroove
from musicvae.randomness import Purpose, generator

SAMPLE_RATE = 22050
"""Hertz."""
LEAD_IN_STEPS = 0.5
"""Silence before the first bar line: an onset may be that early."""
TAIL_SECONDS = 1.0
"""After the last step; what rings longer is faded out."""
FADE_SECONDS = 0.01
"""In which a sound that is cut off dies away: a shorter one would click."""
HEADROOM = 0.9
"""The largest amplitude."""
MIX = 0.6
"""Of a sound at full velocity, so that the usual few at once stay below the headroom."""
LOUDNESS_EXPONENT = 1.6
"""Amplitude is velocity to this power: equal steps of velocity sound about equally far apart."""
Voice = Literal["kick", "snare", "closed_hihat", "open_hihat", "low_tom", "mid_tom", "high_tom", "crash", "ride"]
VOICE_OF_PITCH: dict[int, Voice] = {
    **dict.fromkeys((35, 36), "kick"),
    **dict.fromkeys((37, 38, 39, 40), "snare"),
    **dict.fromkeys((22, 42, 44), "closed_hihat"),
    **dict.fromkeys((26, 46), "open_hihat"),
    **dict.fromkeys((41, 43, 45), "low_tom"),
    **dict.fromkeys((47, 48), "mid_tom"),
    50: "high_tom",
    **dict.fromkeys((49, 52, 55, 57), "crash"),
    **dict.fromkeys((51, 53, 59), "ride"),
}
"""General MIDI percussion."""
CHOKES = ("closed_hihat", "open_hihat")
"""One pair of cymbals: a hit of either ends what rings of the open one."""


@dataclass(frozen=True, slots=True)
class _Hit:
    """A sound to be mixed in."""

    voice: Voice
    start: int
    velocity: float


def render(groove: DrumGroove, drum_map: DrumMap) -> Float32[np.ndarray, " sample"]:
    """The groove as mono sound at `SAMPLE_RATE`, in -1..1, with its velocities, its timing and its tempo.

    It lasts the groove's steps, `LEAD_IN_STEPS` before them and `TAIL_SECONDS` after them. Only a groove that would
    pass the headroom is turned down as a whole, so loudness compares between grooves.
    """
    seconds = step_seconds(groove)
    length = round(((groove.grid.num_steps + LEAD_IN_STEPS) * seconds + TAIL_SECONDS) * SAMPLE_RATE)
    mixed = np.zeros(length)
    hits = _hits(groove, drum_map)
    for place, hit in enumerate(hits):
        sound = _sound(hit.voice)
        if hit.voice == "open_hihat":
            sound = _choked(sound, hit, hits[place + 1 :])
        sound = sound[: length - hit.start]
        mixed[hit.start : hit.start + len(sound)] += MIX * hit.velocity**LOUDNESS_EXPONENT * sound
    fade = round(FADE_SECONDS * SAMPLE_RATE)
    mixed[-fade:] *= np.linspace(1, 0, fade)
    return (mixed * min(1.0, HEADROOM / max(np.abs(mixed).max(), 1e-9))).astype(np.float32)


def onset_samples(groove: DrumGroove) -> Int64[np.ndarray, "step drum"]:
    """The sample at which each cell's hit begins; meaningless where there is none."""
    steps = np.arange(groove.grid.num_steps)[:, None] + groove.offset.astype(np.float64) + LEAD_IN_STEPS
    return np.rint(steps * step_seconds(groove) * SAMPLE_RATE).astype(np.int64)


def step_seconds(groove: DrumGroove) -> float:
    """How long a step lasts; the tempo counts beats a minute."""
    return 60 / groove.tempo / groove.grid.steps_per_beat


def write_wav(path: Path, samples: Float32[np.ndarray, " sample"]) -> None:
    """Writes sound in -1..1 as a WAV file of 16 bits.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(wav_bytes(samples))


def wav_bytes(samples: Float32[np.ndarray, " sample"]) -> bytes:
    """Sound in -1..1 as a WAV file of 16 bits."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(samples.astype(np.float64) * 32767).astype("<i2").tobytes())
    return data.getvalue()


def voices(drum_map: DrumMap) -> list[Voice]:
    """The voice of each drum class: that of the pitch that it is written as, or of the nearest pitch that has one."""
    known = np.array(sorted(VOICE_OF_PITCH))
    return [VOICE_OF_PITCH[int(known[np.abs(known - int(pitch)).argmin()])] for pitch in drum_map.written_pitch]


def _hits(groove: DrumGroove, drum_map: DrumMap) -> list[_Hit]:
    voice, starts = voices(drum_map), onset_samples(groove)
    hits = [
        _Hit(voice[drum], int(starts[step, drum]), float(groove.velocity[step, drum]))
        for step, drum in np.argwhere(groove.hits).tolist()
    ]
    return sorted(hits, key=lambda hit: hit.start)


def _choked(sound: Float64[np.ndarray, " sample"], hit: _Hit, later: list[_Hit]) -> Float64[np.ndarray, " kept"]:
    end = next((other.start - hit.start for other in later if other.voice in CHOKES), len(sound))
    fade = round(FADE_SECONDS * SAMPLE_RATE)
    if end >= len(sound):
        return sound
    cut = sound[: end + fade].copy()
    cut[end:] *= np.linspace(1, 0, len(cut) - end)
    return cut


@lru_cache
def _sound(voice: Voice) -> Float64[np.ndarray, " sample"]:
    """A voice at full velocity, with a peak of 1."""
    match voice:
        case "kick":
            sound = _drum(0.32, from_hertz=170, to_hertz=48, bend=0.035, decay=0.10) + 0.25 * _click(voice, 0.32)
        case "snare":
            body = _drum(0.25, from_hertz=240, to_hertz=185, bend=0.02, decay=0.05)
            sound = 0.6 * body + 0.8 * _noise(voice, 0.25, low=900, high=9000, decay=0.065)
        case "closed_hihat":
            sound = _noise(voice, 0.12, low=6500, high=10800, decay=0.022)
        case "open_hihat":
            sound = _noise(voice, 0.7, low=6000, high=10800, decay=0.19)
        case "low_tom":
            sound = _drum(0.5, from_hertz=125, to_hertz=82, bend=0.06, decay=0.15) + 0.12 * _click(voice, 0.5)
        case "mid_tom":
            sound = _drum(0.45, from_hertz=175, to_hertz=118, bend=0.05, decay=0.13) + 0.12 * _click(voice, 0.45)
        case "high_tom":
            sound = _drum(0.4, from_hertz=240, to_hertz=165, bend=0.04, decay=0.11) + 0.12 * _click(voice, 0.4)
        case "crash":
            sound = _noise(voice, 1.8, low=2500, high=10800, decay=0.5)
        case "ride":
            bell = _partials(1.0, hertz=(3170, 4410, 5230, 6870, 8110), decay=0.28)
            sound = 0.35 * bell + 0.5 * _noise(voice, 1.0, low=5000, high=10000, decay=0.16)
    return sound / np.abs(sound).max()


def _times(seconds: float) -> Float64[np.ndarray, " sample"]:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _drum(
    seconds: float, *, from_hertz: int, to_hertz: int, bend: float, decay: float
) -> Float64[np.ndarray, " sample"]:
    """A skin: a sine whose pitch falls within `bend` seconds and that dies away within `decay`."""
    time = _times(seconds)
    hertz = to_hertz + (from_hertz - to_hertz) * np.exp(-time / bend)
    return np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE) * np.exp(-time / decay)


def _partials(seconds: float, *, hertz: tuple[int, ...], decay: float) -> Float64[np.ndarray, " sample"]:
    """Metal: sines without a common fundamental."""
    time = _times(seconds)
    return np.sin(2 * np.pi * np.outer(hertz, time)).sum(axis=0) / len(hertz) * np.exp(-time / decay)


def _noise(voice: Voice, seconds: float, *, low: int, high: int, decay: float) -> Float64[np.ndarray, " sample"]:
    """Noise between two frequencies that dies away; each voice has its own."""
    time = _times(seconds)
    spectrum = np.fft.rfft(generator(0, Purpose.DRUM_KIT, get_args(Voice).index(voice)).standard_normal(len(time)))
    hertz = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
    # Steep edges ring; these fall by half an octave's width.
    band = 1 / (1 + (low / np.maximum(hertz, 1)) ** 8) / (1 + (hertz / high) ** 8)
    noise = np.fft.irfft(spectrum * band, len(time))
    return noise / np.abs(noise).max() * np.exp(-time / decay)


def _click(voice: Voice, seconds: float) -> Float64[np.ndarray, " sample"]:
    """The beater or stick, in a space of so many seconds."""
    click = _noise(voice, 0.01, low=1500, high=6000, decay=0.002)
    return np.pad(click, (0, len(_times(seconds)) - len(click)))


def render_loop(groove: DrumGroove, drum_map: DrumMap) -> Float32[np.ndarray, " sample"]:
    """The groove as mono sound at `SAMPLE_RATE`, in -1..1, from bar line to bar line.

    What rings on after the last step is heard at the start, as it is when the loop goes round, and so is a hit that
    comes before the first bar line at the end.
    """
    sound = render(groove, drum_map).astype(np.float64)
    length = round(groove.grid.num_steps * step_seconds(groove) * SAMPLE_RATE)
    before = round(LEAD_IN_STEPS * step_seconds(groove) * SAMPLE_RATE)
    loop = np.zeros(length)
    np.add.at(loop, (np.arange(len(sound)) - before) % length, sound)
    return (loop * min(1.0, HEADROOM / max(np.abs(loop).max(), 1e-9))).astype(np.float32)
