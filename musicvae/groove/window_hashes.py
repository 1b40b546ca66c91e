"""Windows by 8 bytes each: whether one was seen before, at a fraction of the memory that its tokens would take."""

import hashlib

import numpy as np
from jaxtyping import Bool, Int16, UInt64


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
