"""The first bars of a groove, for what goes on from them.

The bars themselves are given to the decoder token by token, so they stay as they are and the rest follows them. What
else the rest is to be like is said by z: that of the bars repeated to the window's length, or a variation of it.
"""

import numpy as np
from jaxtyping import Int16

from musicvae.generation.given_hits import GivenHits
from musicvae.groove.grid import GridSpec

Tokens = Int16[np.ndarray, "window step"]


def first_bars(tokens: Tokens, bars: int, grid: GridSpec) -> GivenHits:
    """All that windows have in their first bars is given.

    Raises:
        ValueError: no bars, or no fewer than all.
    """
    if not 0 < bars < grid.bars:
        raise ValueError(f"1 to {grid.bars - 1} bars can be continued, found {bars}")
    return GivenHits.kept(tokens, 0, np.arange(grid.num_steps) < bars * grid.steps_per_bar)


def looped(tokens: Tokens, bars: int, grid: GridSpec) -> Tokens:
    """The first bars of windows, repeated to their end."""
    return tokens[:, np.arange(grid.num_steps) % (bars * grid.steps_per_bar)]
