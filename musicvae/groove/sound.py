"""A groove as sound: played once, or as a loop that repeats without a gap or a click.

The drum kit is synthesised from sines and filtered noise, so nothing is downloaded. Nobody will mistake it for a
recording: it lets a listener tell a groove that swings from one that stumbles. A soft hit is not only quieter but also
duller: its noise has less of the high frequencies, and one hears less of the stick. The same groove always gives the
same samples.
"""

import io
import wave
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Float64, Int64

from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove, onset_ticks
from musicvae.randomness import Purpose, generator

SAMPLE_RATE = 48_000
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
HARDNESSES = 8
"""Sounds of a voice, from the softest hit to the hardest."""
PAN: dict[Voice, float] = {
    "kick": 0.0,
    "snare": 0.05,
    "closed_hihat": 0.35,
    "open_hihat": 0.35,
    "low_tom": -0.3,
    "mid_tom": 0.0,
    "high_tom": 0.25,
    "crash": 0.45,
    "ride": -0.4,
}
"""Where each voice is heard in stereo: -1 is left, 1 right, as the listener sees the kit."""
TICKS = 480
"""Of a quarter note, to which onsets are rounded where no MIDI file says otherwise."""


@dataclass(frozen=True, slots=True)
class _Hit:
    """A sound to be mixed in."""

    voice: Voice
    start: int
    velocity: float


def render(
    groove: DrumGroove, drum_map: DrumMap, *, stereo: bool = False, ticks: int = TICKS
) -> Float32[np.ndarray, " sample *channel"]:
    """The groove as sound at `SAMPLE_RATE`, in -1..1, with its velocities, its timing and its tempo.

    It lasts the groove's steps, `LEAD_IN_STEPS` before them and `TAIL_SECONDS` after them. Only a groove that would
    pass the headroom is turned down as a whole, so loudness compares between grooves.

    Args:
        stereo: left and right of each sample; otherwise it is mono.
        ticks: of a quarter note in the MIDI file of the same groove, whose onsets it has.
    """
    seconds = step_seconds(groove)
    length = round(((groove.grid.num_steps + LEAD_IN_STEPS) * seconds + TAIL_SECONDS) * SAMPLE_RATE)
    mixed = np.zeros((2 if stereo else 1, length))
    hits = _hits(groove, drum_map, ticks)
    for place, hit in enumerate(hits):
        sound = _placed_sound(hit.voice, _hardness(hit.velocity), stereo)
        if hit.voice == "open_hihat":
            sound = _choked(sound, hit, hits[place + 1 :])
        sound = sound[:, : length - hit.start]
        mixed[:, hit.start : hit.start + sound.shape[1]] += MIX * hit.velocity**LOUDNESS_EXPONENT * sound
    fade = round(FADE_SECONDS * SAMPLE_RATE)
    mixed[:, -fade:] *= np.linspace(1, 0, fade)
    return _within_headroom(mixed.T if stereo else mixed[0])


def onset_samples(groove: DrumGroove, ticks: int = TICKS) -> Int64[np.ndarray, "step drum"]:
    """The sample at which each cell's hit begins; meaningless where there is none.

    Args:
        ticks: of a quarter note, to which onsets are rounded as in a MIDI file (`onset_ticks`).
    """
    steps = np.broadcast_to(np.arange(groove.grid.num_steps)[:, None], groove.offset.shape)
    seconds = onset_ticks(steps, groove.offset, groove.grid, ticks) * (60 / groove.tempo / ticks)
    return np.rint((seconds + LEAD_IN_STEPS * step_seconds(groove)) * SAMPLE_RATE).astype(np.int64)


def step_seconds(groove: DrumGroove) -> float:
    """How long a step lasts; the tempo counts beats a minute."""
    return 60 / groove.tempo / groove.grid.steps_per_beat


def write_wav(path: Path, samples: Float32[np.ndarray, " sample *channel"]) -> None:
    """Writes sound in -1..1 as a WAV file of 16 bits.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(wav_bytes(samples))


def wav_bytes(samples: Float32[np.ndarray, " sample *channel"]) -> bytes:
    """Sound in -1..1 as a WAV file of 16 bits."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(samples.astype(np.float64) * 32767).astype("<i2").tobytes())
    return data.getvalue()


def voices(drum_map: DrumMap) -> list[Voice]:
    """The voice of each drum class: that of the pitch that it is written as, or of the nearest pitch that has one."""
    known = np.array(sorted(VOICE_OF_PITCH))
    return [VOICE_OF_PITCH[int(known[np.abs(known - int(pitch)).argmin()])] for pitch in drum_map.written_pitch]


def _hits(groove: DrumGroove, drum_map: DrumMap, ticks: int) -> list[_Hit]:
    voice, starts = voices(drum_map), onset_samples(groove, ticks)
    loudness = np.rint(groove.velocity * MAX_VELOCITY).clip(1, MAX_VELOCITY) / MAX_VELOCITY  # as in MIDI files
    hits = [
        _Hit(voice[drum], int(starts[step, drum]), float(loudness[step, drum]))
        for step, drum in np.argwhere(groove.hits).tolist()
    ]
    return sorted(hits, key=lambda hit: hit.start)


def _choked(
    sound: Float64[np.ndarray, "channel sample"], hit: _Hit, later: list[_Hit]
) -> Float64[np.ndarray, "channel kept"]:
    end = next((other.start - hit.start for other in later if other.voice in CHOKES), sound.shape[1])
    fade = round(FADE_SECONDS * SAMPLE_RATE)
    if end >= sound.shape[1]:
        return sound
    cut = sound[:, : end + fade].copy()
    cut[:, end:] *= np.linspace(1, 0, cut.shape[1] - end)
    return cut


def _within_headroom(mixed: Float64[np.ndarray, " sample *channel"]) -> Float32[np.ndarray, " sample *channel"]:
    return (mixed * min(1.0, HEADROOM / max(np.abs(mixed).max(), 1e-9))).astype(np.float32)


def _sides(voice: Voice) -> Float64[np.ndarray, " channel"]:
    """How loud a voice is left and right: of equal power wherever it is, and 1 on both sides in the middle."""
    angle = np.pi / 4 * (1 + PAN[voice])
    return np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)])


def _hardness(velocity: float) -> float:
    """How hard a hit of a velocity in 0..1 sounds: one of `HARDNESSES`, from 0 to 1."""
    return round(velocity * (HARDNESSES - 1)) / (HARDNESSES - 1)


@cache
def _placed_sound(voice: Voice, hard: float, stereo: bool) -> Float64[np.ndarray, "channel sample"]:
    """`_sound` as it comes from its place between left and right, or of one channel."""
    sides = _sides(voice) if stereo else np.ones(1)
    return sides[:, None] * _sound(voice, hard)


@cache
def _sound(voice: Voice, hard: float) -> Float64[np.ndarray, " sample"]:
    """A voice, struck softly (0) to hard (1), with a peak of 1."""
    match voice:
        case "kick":
            skin = _drum(0.32, from_hertz=110 + 60 * hard, to_hertz=48, bend=0.035, decay=0.10)
            sound = skin + (0.03 + 0.22 * hard**2) * _click(voice, 0.32)
        case "snare":
            body = _drum(0.25, from_hertz=210 + 30 * hard, to_hertz=185, bend=0.02, decay=0.05)
            wires = _noise(voice, 0.25, low=900, high=3500 + 5500 * hard, decay=0.04 + 0.025 * hard)
            sound = 0.6 * body + (0.4 + 0.4 * hard) * wires
        case "closed_hihat":
            sound = _noise(voice, 0.12, low=5500 + 1000 * hard, high=7500 + 3300 * hard, decay=0.014 + 0.008 * hard)
        case "open_hihat":
            sound = _noise(voice, 0.7, low=5000 + 1000 * hard, high=7500 + 3300 * hard, decay=0.12 + 0.07 * hard)
        case "low_tom":
            skin = _drum(0.5, from_hertz=90 + 45 * hard, to_hertz=82, bend=0.06, decay=0.15)
            sound = skin + 0.25 * hard**2 * _click(voice, 0.5)
        case "mid_tom":
            skin = _drum(0.45, from_hertz=125 + 65 * hard, to_hertz=118, bend=0.05, decay=0.13)
            sound = skin + 0.25 * hard**2 * _click(voice, 0.45)
        case "high_tom":
            skin = _drum(0.4, from_hertz=172 + 85 * hard, to_hertz=165, bend=0.04, decay=0.11)
            sound = skin + 0.25 * hard**2 * _click(voice, 0.4)
        case "crash":
            sound = _noise(voice, 1.8, low=2500, high=5500 + 5300 * hard, decay=0.3 + 0.2 * hard)
        case "ride":
            bell = _partials(1.0, hertz=(3170, 4410, 5230, 6870, 8110), decay=0.28)
            wash = _noise(voice, 1.0, low=5000, high=7000 + 3000 * hard, decay=0.16)
            sound = (0.15 + 0.2 * hard) * bell + 0.5 * wash
    return sound / np.abs(sound).max()


def _times(seconds: float) -> Float64[np.ndarray, " sample"]:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _drum(
    seconds: float, *, from_hertz: float, to_hertz: float | int, bend: float, decay: float
) -> Float64[np.ndarray, " sample"]:
    """A skin: a sine whose pitch falls within `bend` seconds and that dies away within `decay`."""
    time = _times(seconds)
    hertz = to_hertz + (from_hertz - to_hertz) * np.exp(-time / bend)
    return np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE) * np.exp(-time / decay)


def _partials(seconds: float, *, hertz: tuple[int, ...], decay: float) -> Float64[np.ndarray, " sample"]:
    """Metal: sines without a common fundamental."""
    time = _times(seconds)
    return np.sin(2 * np.pi * np.outer(hertz, time)).sum(axis=0) / len(hertz) * np.exp(-time / decay)


def _noise(
    voice: Voice, seconds: float, *, low: float | int, high: float | int, decay: float
) -> Float64[np.ndarray, " sample"]:
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


def render_loop(
    groove: DrumGroove, drum_map: DrumMap, *, stereo: bool = False, ticks: int = TICKS
) -> Float32[np.ndarray, " sample *channel"]:
    """The groove as sound at `SAMPLE_RATE`, in -1..1, from bar line to bar line.

    What rings on after the last step is heard at the start, as it is when the loop goes round, and so is a hit that
    comes before the first bar line at the end.

    Args:
        stereo, ticks: as of `render`.
    """
    sound = render(groove, drum_map, stereo=stereo, ticks=ticks).astype(np.float64)
    length = round(groove.grid.num_steps * step_seconds(groove) * SAMPLE_RATE)
    before = round(LEAD_IN_STEPS * step_seconds(groove) * SAMPLE_RATE)
    loop = np.zeros((length, *sound.shape[1:]))
    starts = [0, *range(before % length, len(sound), length), len(sound)]
    for start, end in pairwise(starts):
        first = (start - before) % length
        loop[first : first + end - start] += sound[start:end]
    return _within_headroom(loop)


def render_led_in(
    groove: DrumGroove, drum_map: DrumMap, *, stereo: bool = False, ticks: int = TICKS
) -> Float32[np.ndarray, " sample *channel"]:
    """The groove played once at `SAMPLE_RATE`, after a silent bar: as a MIDI file with a lead-in.

    Args:
        stereo, ticks: as of `render`.
    """
    sound = render(groove, drum_map, stereo=stereo, ticks=ticks)
    silence = (groove.grid.steps_per_bar - LEAD_IN_STEPS) * step_seconds(groove)
    return np.pad(sound, [(round(silence * SAMPLE_RATE), 0), *[(0, 0)] * (sound.ndim - 1)])
