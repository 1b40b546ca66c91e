"""One window as jobs.show draws it: where it comes from, and its drum grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musicvae.data.windows import WindowMeta
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove
from musicvae.groove.picture import drum_grid
from preprocess.sources.listing import printable


def window_text(title: str, meta: WindowMeta, groove: DrumGroove, drums: tuple[str, ...]) -> str:
    """A line about the window, and the grid as text."""
    style = f", {printable(meta.style)}" if meta.style else ""
    about = f"{title}: {printable(meta.source)}, bar {meta.bar + 1}, {meta.tempo:.4g} bpm{style}"
    return f"{about}\n{drum_grid(groove, drums)}"


def window_values(meta: WindowMeta, groove: DrumGroove) -> dict[str, Any]:
    """What is known of a window as a whole; bars are counted from 0 here, as in the shards."""
    return {
        "source": meta.source,
        "bar": meta.bar,
        "tempo": meta.tempo,
        "style": meta.style,
        "tokens": groove.tokens.tolist(),
    }


def hit_values(groove: DrumGroove, drums: Sequence[str]) -> list[dict[str, Any]]:
    """Each hit with its step, MIDI velocity, and offset in steps."""
    return [
        {
            "step": step,
            "drum": drums[drum],
            "velocity": round(float(groove.velocity[step, drum]) * MAX_VELOCITY),
            "offset": round(float(groove.offset[step, drum]), 6),
        }
        for step, drum in np.argwhere(groove.hits).tolist()
    ]
