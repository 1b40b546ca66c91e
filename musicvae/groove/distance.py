"""How near windows are to each other: exact copies by hash, others by Hamming distance.

A hash of 8 bytes tells whether a window was seen before, in a fraction of the memory of its tokens. The distance of two
windows is the number of (step, drum) cells that are hit in one window and not in the other; 0 is the same groove.
It shows whether a model composes or remembers.
"""

import hashlib

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int64, UInt64

from musicvae.groove.groove import hits_from_tokens

BLOCK = 512
"""Windows whose distances to the whole corpus are held at once: 32 MB for 16,000 training windows."""


def nearest_distances(
    windows: Int16[np.ndarray, "window step"],
    corpus: Int16[np.ndarray, "other step"],
    num_drums: int,
    *,
    excluded_owner: Int64[np.ndarray, " window"] | None = None,
    owner: Int64[np.ndarray, " other"] | None = None,
) -> Int64[np.ndarray, " window"]:
    """Cells between each window and the one of the corpus that is nearest to it.

    Args:
        excluded_owner: of each window, the part of the corpus that it must not be compared with, such as its own
            performance; None compares with all.
        owner: the part that each window of the corpus belongs to.
    """
    others = _cells(corpus, num_drums)
    # |a - b| = |a| + |b| - 2 a.b on zeros and ones; sums of at most some thousand ones are exact in float32.
    hits_of_others = others.sum(axis=1)
    nearest = []
    for first in range(0, len(windows), BLOCK):
        cells = _cells(windows[first : first + BLOCK], num_drums)
        distance = cells.sum(axis=1)[:, None] + hits_of_others - 2 * (cells @ others.T)
        if excluded_owner is not None and owner is not None:
            distance[excluded_owner[first : first + BLOCK, None] == owner] = np.inf
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
        rows = slice(first, first + BLOCK)
        distance = left[rows] @ right[first:].T
        np.fill_diagonal(distance, np.inf)
        nearest[rows] = np.minimum(nearest[rows], distance.min(axis=1))
        nearest[first:] = np.minimum(nearest[first:], distance.min(axis=0))
    return nearest.astype(np.int64)


def _cells(tokens: Int16[np.ndarray, "window step"], num_drums: int) -> Float32[np.ndarray, "window cell"]:
    return hits_from_tokens(tokens, num_drums).reshape(len(tokens), -1).astype(np.float32)


def window_hashes(tokens: Int16[np.ndarray, "window step"]) -> UInt64[np.ndarray, " window"]:
    """8 bytes for the tokens of each window: equal windows have equal hashes.

    Among a million windows and a million others, a pair of different ones shares a hash once in 18 million tries.
    """
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in tokens]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def among(hashes: UInt64[np.ndarray, " window"], ordered: UInt64[np.ndarray, " other"]) -> Bool[np.ndarray, " window"]:
    """Which hashes are in an ascending array."""
    if not len(ordered):
        return np.zeros(len(hashes), dtype=bool)
    return ordered[np.searchsorted(ordered, hashes).clip(max=len(ordered) - 1)] == hashes
