"""How far windows are from those of a corpus: whether a model composes or remembers.

The distance is Hamming's over hit cells: how many of the (step, drum) cells are struck in one window and not in the
other. 0 is the same groove.
"""

import numpy as np
from jaxtyping import Float32, Int16, Int64

from musicvae.groove.groove import hits_from_tokens

BLOCK = 512
"""Windows whose distances to the whole corpus are held at once: 32 MB for 16,000 training windows."""


def nearest_distances(
    windows: Int16[np.ndarray, "window step"],
    corpus: Int16[np.ndarray, "other step"],
    num_drums: int,
    *,
    own: Int64[np.ndarray, " window"] | None = None,
    owner: Int64[np.ndarray, " other"] | None = None,
) -> Int64[np.ndarray, " window"]:
    """Cells between each window and the one of the corpus that is nearest to it.

    Args:
        own: of each window, the part of the corpus that it must not be compared with, such as its own performance;
            None compares with all.
        owner: the part that each window of the corpus belongs to.
    """
    others = _cells(corpus, num_drums)
    # |a - b| = |a| + |b| - 2 a.b on zeros and ones; sums of at most some thousand ones are exact in float32.
    hits_of_others = others.sum(axis=1)
    nearest = []
    for first in range(0, len(windows), BLOCK):
        cells = _cells(windows[first : first + BLOCK], num_drums)
        distance = cells.sum(axis=1)[:, None] + hits_of_others - 2 * (cells @ others.T)
        if own is not None and owner is not None:
            distance[own[first : first + BLOCK, None] == owner] = np.inf
        nearest.append(distance.min(axis=1))
    return np.concatenate(nearest).astype(np.int64) if nearest else np.zeros(0, np.int64)


def nearest_others(windows: Int16[np.ndarray, "window step"], num_drums: int) -> Int64[np.ndarray, " window"]:
    """Cells between each window and the nearest other one among them; there have to be two or more.

    Raises:
        ValueError: fewer than two windows.
    """
    if len(windows) < 2:
        raise ValueError(f"no other window among {len(windows)}")
    cells = _cells(windows, num_drums)
    hits = cells.sum(axis=1, keepdims=True)
    # |a - b| = (a, |a|, 1) . (-2 b, 1, |b|): the product is the distance, and each pair is needed once.
    left = np.concatenate([cells, hits, np.ones_like(hits)], axis=1)
    right = np.concatenate([-2 * cells, np.ones_like(hits), hits], axis=1)
    nearest = np.full(len(windows), np.inf, dtype=np.float32)
    for first in range(0, len(windows), BLOCK):
        own = slice(first, first + BLOCK)
        distance = left[own] @ right[first:].T
        np.fill_diagonal(distance, np.inf)
        nearest[own] = np.minimum(nearest[own], distance.min(axis=1))
        nearest[first:] = np.minimum(nearest[first:], distance.min(axis=0))
    return nearest.astype(np.int64)


def _cells(tokens: Int16[np.ndarray, "window step"], num_drums: int) -> Float32[np.ndarray, "window cell"]:
    return hits_from_tokens(tokens, num_drums).reshape(len(tokens), -1).astype(np.float32)
