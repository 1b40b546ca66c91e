"""What the driver knows of every file, and which shard each kept window goes to.

A file takes a few bytes of memory and a window 8, however large the collection is. The shards are planned from counts
and hashes alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt64

from musicvae.data.manifest import SPLITS, Split
from musicvae.groove.distance import among
from preprocess.parts import NO_SPLIT, PartSummary
from preprocess.tasks import Piece, ShardAssignment

PRECEDENCE: tuple[Split, ...] = ("test", "validation", "train")
"""A window that stands in two splits stays in the first of these: what is measured is never thinned for training."""
FIRST = -1
"""In `duplicate_of`: no file before this one has its content."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Which windows go into the shards.

    Attributes:
        windows: for each part, which of its windows are kept.
        left_out: windows of a split that stand in another split.
        repeated: windows left out because an earlier one of the same split has their tokens.
    """

    windows: Sequence[Bool[np.ndarray, " window"]]
    left_out: dict[Split, int]
    repeated: dict[Split, int]


class FileIndex:
    """The summaries of all parts in order, with whole files struck out where an earlier one has their content.

    Attributes:
        contents: hash of everything in each part.
        hashes: those of the windows of each part.
        windows, split, digest: as in `PartSummary`, of the files of all parts.
        files_of_part: the places of the files of each part.
        duplicate_of: for each file the number of the first accepted one with its content, or `FIRST`.
    """

    def __init__(self, summaries: Sequence[PartSummary]) -> None:
        self.contents = [summary.content for summary in summaries]
        self.hashes = [summary.hashes for summary in summaries]
        self.windows = np.concatenate([summary.windows for summary in summaries])
        self.split = np.concatenate([summary.split for summary in summaries])
        self.digest = np.concatenate([summary.digest for summary in summaries])
        starts = np.cumsum([0, *(len(summary.windows) for summary in summaries)])
        self.files_of_part = [slice(*bounds) for bounds in pairwise(starts.tolist())]
        self.duplicate_of = _duplicates(self.digest, self.split != NO_SPLIT)

    def drop_duplicates(self) -> None:
        """Rejects every file whose content an earlier accepted one has."""
        self.split[self.duplicate_of != FIRST] = NO_SPLIT

    def is_dropped(self, file: int) -> bool:
        """Whether a file is rejected because an earlier one has its content."""
        return bool(self.duplicate_of[file] != FIRST and self.split[file] == NO_SPLIT)

    @property
    def seen(self) -> int:
        return len(self.split)

    @property
    def accepted(self) -> int:
        return int((self.split != NO_SPLIT).sum())

    @property
    def accepted_windows(self) -> int:
        """Windows of accepted files, before any is left out."""
        return int(self.windows[self.split != NO_SPLIT].sum())

    def split_of_windows(self, part: int) -> np.ndarray:
        """int8: for each window of a part a place in `SPLITS`, or `NO_SPLIT`."""
        files = self.files_of_part[part]
        return np.repeat(self.split[files], self.windows[files])

    def keep(self, splits: Sequence[Split], *, drop_repeated: bool) -> Kept:
        """Leaves out the windows that stand in two splits, and repeated ones if asked to.

        Train, the largest split, is gone through part by part, so that memory does not grow by a copy of all hashes.
        """
        kept = [self.split_of_windows(part) != NO_SPLIT for part in range(len(self.hashes))]
        left_out: dict[Split, int] = dict.fromkeys(splits, 0)
        repeated: dict[Split, int] = dict.fromkeys(splits, 0)
        taken = np.zeros(0, dtype=np.uint64)
        for split in sorted(splits, key=PRECEDENCE.index):
            for part, rows in self._rows(split):
                crossing = among(self.hashes[part][rows], taken)
                kept[part][rows[crossing]] = False
                left_out[split] += int(crossing.sum())
            if drop_repeated:
                repeated[split] = self._drop_repeated(split, kept)
            if split != PRECEDENCE[-1]:
                taken = self._with_hashes(taken, split)
        return Kept(kept, left_out, repeated)

    def _rows(self, split: Split) -> Iterator[tuple[int, Int64[np.ndarray, " row"]]]:
        """(part, places of the split's windows in it) for every part."""
        code = SPLITS.index(split)
        return ((part, np.flatnonzero(self.split_of_windows(part) == code)) for part in range(len(self.hashes)))

    def _with_hashes(self, taken: np.ndarray, split: Split) -> UInt64[np.ndarray, " window"]:
        """`taken` and the hashes of a split in ascending order, gathered in place: this is the driver's peak."""
        num_windows = int(self.windows[self.split == SPLITS.index(split)].sum())
        gathered = np.empty(len(taken) + num_windows, dtype=np.uint64)
        end = 0
        for part, rows in self._rows(split):
            gathered[end : end + len(rows)] = self.hashes[part][rows]
            end += len(rows)
        gathered[end:] = taken
        gathered.sort()
        return gathered

    def _drop_repeated(self, split: Split, kept: Sequence[np.ndarray]) -> int:
        remaining = [(part, rows[kept[part][rows]]) for part, rows in self._rows(split)]
        hashes = np.concatenate([self.hashes[part][rows] for part, rows in remaining])
        again = np.ones(len(hashes), dtype=bool)
        again[np.unique(hashes, return_index=True)[1]] = False
        ends = np.cumsum([len(rows) for _, rows in remaining])
        for (part, rows), marks in zip(remaining, np.split(again, ends[:-1]), strict=True):
            kept[part][rows[marks]] = False
        return int(again.sum())


def _duplicates(digest: UInt64[np.ndarray, " file"], accepted: Bool[np.ndarray, " file"]) -> Int32[np.ndarray, " file"]:
    """For each file the number of the first accepted one with its content; `FIRST` for that one and the rejected."""
    duplicate_of = np.full(len(digest), FIRST, dtype=np.int32)
    files = np.flatnonzero(accepted).astype(np.int32)
    # By hand, as np.unique needs twice the memory: this is the driver's peak.
    files = files[np.argsort(digest[files], kind="stable")]
    again = np.zeros(len(files), dtype=bool)
    again[1:] = digest[files[1:]] == digest[files[:-1]]
    first, later = np.flatnonzero(~again), np.flatnonzero(again)
    duplicate_of[files[later]] = files[first[np.searchsorted(first, later) - 1]]
    return duplicate_of


class SplitAssignment(Sequence[ShardAssignment]):
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
        self, split: Split, file_index: FileIndex, kept: Kept, parts: Sequence[Path], folder: Path, most_windows: int
    ) -> None:
        self.split = split
        self.left_out, self.repeated = kept.left_out[split], kept.repeated[split]
        self._file_index, self._kept, self._parts, self._folder = file_index, kept, parts, folder
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

    def __getitem__(self, number: int) -> ShardAssignment:  # type: ignore[override]
        if not 0 <= number < self._shards:
            raise IndexError(number)
        start, end = (self.windows * edge // self._shards for edge in (number, number + 1))
        name = f"{self.split}-{number:06d}"
        pieces = self._pieces(start, end)
        return ShardAssignment(pieces, self._folder / f"{name}.tar", self._parts[0].parent / f"{name}.json")

    def piece(self, window: int) -> Piece:
        """Where one kept window stands, by its place in the split."""
        return self._pieces(window, window + 1)[0]

    def _pieces(self, start: int, end: int) -> list[Piece]:
        first, last = np.searchsorted(self._starts, [start, end - 1], side="right") - 1
        pieces = []
        for part in range(first, last + 1):
            rows = self._rows(part)[max(0, start - self._starts[part]) : end - self._starts[part]]
            if len(rows):
                pieces.append(Piece(self._parts[part], self._file_index.contents[part], rows))
        return pieces

    def _rows(self, part: int) -> Int64[np.ndarray, " row"]:
        in_split = self._file_index.split_of_windows(part) == SPLITS.index(self.split)
        return np.flatnonzero(in_split & self._kept.windows[part])

    def _files(self, part: int, rows: np.ndarray) -> int:
        windows = self._file_index.windows[self._file_index.files_of_part[part]]
        return len(np.unique(np.searchsorted(np.cumsum(windows), rows, side="right")))
