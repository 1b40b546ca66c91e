"""A groove as text: one row a drum, one character a step."""

import numpy as np

from musicvae.groove.groove import DrumGroove

LOUDNESS = "░▒▓█"
"""From the softest quarter of the velocities to the loudest."""
EMPTY, EMPTY_ON_BEAT = "·", "┊"
BAR_LINE = "│"


def drum_grid(groove: DrumGroove, drums: tuple[str, ...]) -> str:
    """The groove as lines of text, the first drum (the kick) at the bottom, bars numbered on top.

    Four bars of sixteenths with the shipped drum classes are 80 columns wide. Timing off the grid is not shown.

    Args:
        drums: name of each drum class.
    """
    label = max(len(drum) for drum in drums)
    rows = [f"{name:>{label}}{_row(groove, drum)}" for drum, name in enumerate(drums)]
    return "\n".join([" " * label + _header(groove), *reversed(rows)])


def _header(groove: DrumGroove) -> str:
    return "".join(f"{BAR_LINE}{bar + 1:<{groove.grid.steps_per_bar}}" for bar in range(groove.grid.bars))


def _row(groove: DrumGroove, drum: int) -> str:
    grid = groove.grid
    hits, velocity = groove.hits[:, drum], groove.velocity[:, drum]
    level = np.minimum((velocity * len(LOUDNESS)).astype(int), len(LOUDNESS) - 1)
    cells = np.where(np.arange(grid.num_steps) % grid.steps_per_beat == 0, EMPTY_ON_BEAT, EMPTY)
    cells = np.where(hits, np.array(list(LOUDNESS))[level], cells)
    return "".join(BAR_LINE + "".join(bar) for bar in cells.reshape(grid.bars, grid.steps_per_bar))
