"""Decides, from counts and hashes alone, which shard each kept window goes to."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from musicvae.data.manifest import SPLITS, Split
from preprocess.ledger import Kept, Ledger
from preprocess.shard_task import Piece, ShardPlan


class SplitPlan(Sequence[ShardPlan]):
    """The shards of one split. Each one's rows are worked out when it is asked for: all of them would be as large as
    the collection.

    Attributes:
        split: its name.
        windows: kept windows.
        files: files with at least one of them.
        left_out: windows left out because they stand in another split.
        repeated: windows left out because an earlier one of this split has their tokens.
    """

    def __init__(
        self, split: Split, ledger: Ledger, kept: Kept, parts: Sequence[Path], folder: Path, most_windows: int
    ) -> None:
        self.split = split
        self.left_out, self.repeated = kept.left_out[split], kept.repeated[split]
        self._ledger, self._kept, self._parts, self._folder = ledger, kept, parts, folder
        windows_of_part, self.files = [], 0
        for part in range(len(parts)):
            rows = self._rows(part)
            windows_of_part.append(len(rows))
            self.files += self._files(part, rows)
        self._starts: Int64[np.ndarray, " part"] = np.cumsum([0, *windows_of_part])
        self.windows = int(self._starts[-1])
        self._shards = -(-self.windows // most_windows)

    def __len__(self) -> int:
        return self._shards

    def __getitem__(self, number: int) -> ShardPlan:  # type: ignore[override]
        if not 0 <= number < self._shards:
            raise IndexError(number)
        start, end = (self.windows * edge // self._shards for edge in (number, number + 1))
        name = f"{self.split}-{number:06d}"
        pieces = self._pieces(start, end)
        return ShardPlan(pieces, self._folder / f"{name}.tar", self._parts[0].parent / f"{name}.json")

    def piece(self, window: int) -> Piece:
        """Where one kept window stands, by its place in the split."""
        return self._pieces(window, window + 1)[0]

    def _pieces(self, start: int, end: int) -> list[Piece]:
        first, last = np.searchsorted(self._starts, [start, end - 1], side="right") - 1
        pieces = []
        for part in range(first, last + 1):
            own = self._rows(part)[max(0, start - self._starts[part]) : end - self._starts[part]]
            if len(own):
                pieces.append(Piece(self._parts[part], self._ledger.summaries[part].content, own))
        return pieces

    def _rows(self, part: int) -> Int64[np.ndarray, " row"]:
        own = self._ledger.split_of_windows(part) == SPLITS.index(self.split)
        return np.flatnonzero(own & self._kept.windows[part])

    def _files(self, part: int, rows: np.ndarray) -> int:
        windows = self._ledger.windows[self._ledger.files_of_part[part]]
        return len(np.unique(np.searchsorted(np.cumsum(windows), rows, side="right")))
