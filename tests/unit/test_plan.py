"""Counts and hashes -> which windows are kept, in which shard."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.manifest import ShardEntry, Split
from preprocess.convert import HitCounts
from preprocess.parts import BatchOutcome, FileOutcome
from preprocess.plan import plan_splits, reject_duplicates
from preprocess.rejection import Reason, Rejection

PARTS, FOLDER = Path("parts"), Path("out")


def accepted(name: str, split: Split, windows: int, sha256: str = "") -> FileOutcome:
    return FileOutcome(name, sha256 or name, split, windows, HitCounts())


def batch(number: int, files: list[FileOutcome], first_hash: int) -> BatchOutcome:
    windows = sum(file.windows for file in files)
    part = ShardEntry(f"{number}.tar", windows, 1, "") if windows else None
    return BatchOutcome(tuple(files), part, np.arange(first_hash, first_hash + windows, dtype=np.uint64))


def test_of_files_with_equal_content_the_first_by_name_stays():
    outcomes = [accepted("a", "train", 3, "x"), accepted("b", "train", 3, "y"), accepted("c", "train", 3, "x")]
    unique = reject_duplicates(outcomes)
    assert [outcome.windows for outcome in unique] == [3, 3, 0]
    assert unique[2].rejection == Rejection("c", Reason.DUPLICATE_FILE, "same content as a")


def test_windows_of_a_duplicate_file_are_skipped_in_its_part():
    files = [accepted("a", "train", 2, "x"), accepted("b", "train", 2, "x"), accepted("c", "train", 1, "z")]
    batches = [batch(0, files, 0)]
    plan = plan_splits(batches, reject_duplicates(files), ("train",), parts=PARTS, folder=FOLDER, most_windows=10)[
        "train"
    ]
    assert plan.files == 2
    assert [piece.windows.tolist() for piece in plan.shards[0].pieces] == [[0, 1, 4]]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["train", "validation"]), st.integers(0, 9)), max_size=6), min_size=1),
    st.integers(1, 12),
    st.integers(1, 60),
)
@settings(max_examples=100, deadline=None)
def test_every_window_goes_to_one_place_in_order_and_shards_differ_by_one(layout, most_windows, distinct):
    batches, outcomes, start = [], [], 0
    for number, row in enumerate(layout):
        files = [accepted(f"{number}-{i}", split, windows) for i, (split, windows) in enumerate(row) if windows]
        outcomes += files
        made = batch(number, files, start)
        batches.append(BatchOutcome(made.files, made.part, made.hashes % distinct))
        start += len(made.hashes)
    plans = plan_splits(
        batches, outcomes, ("train", "validation"), parts=PARTS, folder=FOLDER, most_windows=most_windows
    )

    seen = []
    for plan in plans.values():
        places = [
            [(int(piece.part.name.split(".")[0]), int(row)) for piece in shard.pieces for row in piece.windows]
            for shard in plan.shards
        ]
        sizes = [len(place) for place in places]
        assert max(sizes, default=0) <= most_windows
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
        in_order = [place for shard in places for place in shard]
        assert in_order == sorted(in_order)
        seen += in_order
    assert len(set(seen)) == len(seen)
    assert len(seen) + sum(plan.left_out for plan in plans.values()) == start
    assert plans["validation"].left_out == 0
