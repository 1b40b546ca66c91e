"""Which split a file belongs to, and which windows may not stand in theirs."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, UInt64

from musicvae.manifest import Split

PRECEDENCE: tuple[Split, ...] = ("test", "validation", "train")
"""A window that stands in two splits stays in the first of these: what is measured is never thinned for training."""


def split_of_content(sha256: str, validation_share: float) -> Split:
    """The split of a file by a hash of its content, so that adding files to a collection moves none.

    Args:
        sha256: hex digest of the content.
        validation_share: expected share of files in validation; the others are train.
    """
    return "validation" if int(sha256[:16], 16) < validation_share * 2**64 else "train"


def crossing_windows(
    hashes: Mapping[Split, UInt64[np.ndarray, " window"]],
) -> dict[Split, Bool[np.ndarray, " window"]]:
    """Marks the windows of each split that also stand in a split of higher precedence."""
    crossing: dict[Split, np.ndarray] = {}
    taken = np.zeros(0, dtype=np.uint64)
    for split in PRECEDENCE:
        if split in hashes:
            crossing[split] = np.isin(hashes[split], taken)
            taken = np.union1d(taken, hashes[split])
    return crossing
