"""What a collection of grooves looks like in figures, counted so that parts of it can be added up."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from musicvae.groove.grid import GridSpec


@dataclass(frozen=True, slots=True, eq=False)
class GrooveStatistics:
    """Counts over windows; every share and mean follows from them.

    Attributes:
        windows: windows counted.
        empty: windows without a single hit.
        bars: bars of all windows, empty ones included.
        hits: hits of each drum class.
    """

    windows: int
    empty: int
    bars: int
    hits: Int64[np.ndarray, " drum"]

    def __add__(self, other: "GrooveStatistics") -> "GrooveStatistics":
        return GrooveStatistics(
            self.windows + other.windows, self.empty + other.empty, self.bars + other.bars, self.hits + other.hits
        )

    @property
    def empty_share(self) -> float:
        """Share of windows without a hit, in 0..1."""
        return self.empty / max(1, self.windows)

    @property
    def hits_per_bar(self) -> float:
        """Mean number of hits in a bar, over all drum classes."""
        return int(self.hits.sum()) / max(1, self.bars)

    @property
    def class_shares(self) -> Float64[np.ndarray, " drum"]:
        """Share of each drum class among all hits; they sum to 1, or are all 0 without hits."""
        return self.hits / max(1, int(self.hits.sum()))


def count_grooves(hits: Bool[np.ndarray, "window step drum"], grid: GridSpec) -> GrooveStatistics:
    """The statistics of some windows."""
    of_drum = hits.sum(axis=1, dtype=np.int64)
    return GrooveStatistics(
        windows=len(hits),
        empty=int((of_drum.sum(axis=1) == 0).sum()),
        bars=len(hits) * grid.bars,
        hits=of_drum.sum(axis=0),
    )
