"""Training windows changed by themselves: bars rotated, a drum silent, a drum a step early or late."""

import numpy as np
from jaxtyping import Float64, Int16

from musicvae.grid import GridSpec

AUGMENTATION_DRAWS = 7
"""Uniform numbers that `augment` needs for one window."""


def augment(
    windows: Int16[np.ndarray, "window step"],
    uniforms: Float64[np.ndarray, "window draw"],
    *,
    rotate_bars: float,
    silence_drum: float,
    move_drum: float,
    grid: GridSpec,
    num_drums: int,
) -> Int16[np.ndarray, "window step"]:
    """Each window changed by chance in each of three ways.

    Args:
        uniforms: in [0, 1), `AUGMENTATION_DRAWS` for each window.
    """
    steps = np.arange(grid.num_steps)
    by = np.where(uniforms[:, 0] < rotate_bars, 1 + (uniforms[:, 1] * (grid.bars - 1)).astype(int), 0)
    changed = np.take_along_axis(windows, (steps + by[:, None] * grid.steps_per_bar) % grid.num_steps, axis=1)

    silent = np.where(uniforms[:, 2] < silence_drum, 1 << (uniforms[:, 3] * num_drums).astype(np.int16), 0)
    changed = changed & ~silent.astype(np.int16)[:, None]

    moved = np.where(uniforms[:, 4] < move_drum, 1 << (uniforms[:, 5] * num_drums).astype(np.int16), 0)
    moved = moved.astype(np.int16)[:, None]
    late = np.where(uniforms[:, 6] < 0.5, 1, -1)[:, None]
    there = np.take_along_axis(changed, (steps - late) % grid.num_steps, axis=1)
    return (changed & ~moved) | (there & moved)
