"""Decides, from counts and hashes alone, which windows are kept and which shard each one goes to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from musicvae.manifest import Split
from preprocess.parts import BatchOutcome, FileOutcome, Piece, ShardPlan
from preprocess.rejection import Reason, Rejection
from preprocess.splits import crossing_windows


@dataclass(frozen=True, slots=True, eq=False)
class SplitPlan:
    """What becomes of one split.

    Attributes:
        files: files with at least one window in it.
        left_out: windows that stand in another split and are therefore left out of this one.
        shards: how its windows are cut; none if it has no windows.
    """

    files: int
    left_out: int
    shards: tuple[ShardPlan, ...]


def reject_duplicates(outcomes: Sequence[FileOutcome]) -> list[FileOutcome]:
    """Of accepted files with the same content only the first stays accepted."""
    first: dict[str, str] = {}
    result = []
    for outcome in outcomes:
        if outcome.rejection is None and first.setdefault(outcome.sha256, outcome.name) != outcome.name:
            rejection = Rejection(outcome.name, Reason.DUPLICATE_FILE, f"same content as {first[outcome.sha256]}")
            outcome = replace(outcome, split=None, windows=0, rejection=rejection)
        result.append(outcome)
    return result


def plan_splits(
    batches: Sequence[BatchOutcome],
    outcomes: Sequence[FileOutcome],
    splits: Sequence[Split],
    *,
    parts: Path,
    folder: Path,
    most_windows: int,
) -> dict[Split, SplitPlan]:
    """Leaves out what stands in two splits and cuts the rest in shards whose sizes differ by at most one.

    Args:
        batches: all batches in order.
        outcomes: all files in order, after `reject_duplicates`.
        splits: the splits to plan.
        parts: folder of the parts.
        folder: folder of the shards.
        most_windows: most windows of a shard.
    """
    split_of_file = np.array([outcome.split or "" for outcome in outcomes])
    windows_of_part = [len(batch.hashes) for batch in batches]
    file = np.repeat(np.arange(len(outcomes)), [outcome.windows for batch in batches for outcome in batch.files])
    part = np.repeat(np.arange(len(batches)), windows_of_part)
    row = np.concatenate([np.arange(windows) for windows in windows_of_part])
    hashes = np.concatenate([batch.hashes for batch in batches])
    split_of_window = split_of_file[file]

    crossing = crossing_windows({split: hashes[split_of_window == split] for split in splits})
    plans: dict[Split, SplitPlan] = {}
    for split in splits:
        kept = np.flatnonzero(split_of_window == split)[~crossing[split]]
        shards = -(-len(kept) // most_windows)
        cuts = [kept[len(kept) * i // shards : len(kept) * (i + 1) // shards] for i in range(shards)]
        plans[split] = SplitPlan(
            files=len(np.unique(file[kept])),
            left_out=int(crossing[split].sum()),
            shards=tuple(
                ShardPlan(parts, _pieces(batches, part[cut], row[cut]), folder / f"{split}-{number:06d}.tar")
                for number, cut in enumerate(cuts)
            ),
        )
    return plans


def _pieces(batches: Sequence[BatchOutcome], part: np.ndarray, row: np.ndarray) -> list[Piece]:
    numbers, starts = np.unique(part, return_index=True)
    pieces = []
    for number, rows in zip(numbers, np.split(row, starts[1:]), strict=True):
        entry = batches[number].part
        assert entry is not None, "a batch with windows has a part"
        pieces.append(Piece(entry, rows))
    return pieces
