"""A groove as a loop of sound: exactly as long as its bars, so that it repeats without a gap or a click."""

import numpy as np
from jaxtyping import Float32

from musicvae.groove.drum_kit import HEADROOM, LEAD_IN_STEPS, SAMPLE_RATE, render, step_seconds
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import DrumGroove


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
