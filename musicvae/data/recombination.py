"""Training windows recombined from two: drums of one with drums of another, or bars of one with bars of another.

GMD has some 330 performances of four bars or more to learn from; what a hi-hat does and what the bar after does are
largely free of each other, so mixtures are plausible grooves that nobody played. Only ever applied to training windows.
"""

import numpy as np
from jaxtyping import Float64, Int16

from musicvae.groove.grid import GridSpec


def draws_per_window(grid: GridSpec, num_drums: int) -> int:
    """How many uniform numbers `recombine` needs for one window."""
    return 2 + num_drums + grid.bars


def recombine(
    windows: Int16[np.ndarray, "window step"],
    partners: Int16[np.ndarray, "window step"],
    uniforms: Float64[np.ndarray, "window draw"],
    *,
    mix_drums: float,
    mix_bars: float,
    grid: GridSpec,
    num_drums: int,
) -> Int16[np.ndarray, "window step"]:
    """Each window with, by chance, a random half of its drums and a random half of its bars taken from its partner.

    Args:
        uniforms: in [0, 1), `draws_per_window` for each window.
        mix_drums: probability that drums are exchanged.
        mix_bars: probability that bars are exchanged.
    """
    wants_drums, wants_bars = uniforms[:, 0] < mix_drums, uniforms[:, 1] < mix_bars
    from_partner = (uniforms[:, 2 : 2 + num_drums] < 0.5) & wants_drums[:, None]
    mask = (from_partner * (1 << np.arange(num_drums))).sum(axis=1).astype(np.int16)[:, None]
    mixed = (windows & ~mask) | (partners & mask)
    bars = (uniforms[:, 2 + num_drums :] < 0.5) & wants_bars[:, None]
    return np.where(np.repeat(bars, grid.steps_per_bar, axis=1), partners, mixed)
