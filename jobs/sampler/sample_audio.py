"""A groove's loop of sound as the bytes of a file; only this file knows soundfile."""

import io

from jobs.sampler.sample_options import Audio
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import DrumGroove
from musicvae.groove.sound import SAMPLE_RATE, render_loop, wav_bytes


def sound_suffix(audio: Audio) -> str:
    """Of a file with a loop; empty where there is to be none."""
    return "" if audio is Audio.NONE else f".{audio}"


def sound_bytes(audio: Audio, groove: DrumGroove, drum_map: DrumMap) -> bytes:
    """The file of a loop, mono, 16 bits, exactly as long as its bars.

    Raises:
        ValueError: no kind of file is asked for.
    """
    sound = render_loop(groove, drum_map)
    match audio:
        case Audio.WAV:
            return wav_bytes(sound)
        case Audio.FLAC:
            import soundfile  # takes a while to load, so only where it is asked for

            data = io.BytesIO()  # soundfile's own errors would not say that the disk is full
            soundfile.write(data, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            return data.getvalue()
        case Audio.NONE:
            raise ValueError("no sound is asked for")
