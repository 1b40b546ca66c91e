"""Kept windows -> shards of nearly equal size, in order."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.data.manifest import Split
from preprocess.plan import FileIndex, Kept, SplitAssignment
from tests.unit.preprocess.test_file_index import part

FOLDER = Path("out")
SPLITS: tuple[Split, Split] = ("train", "validation")


def plan(split: Split, file_index: FileIndex, kept: Kept, most_windows: int) -> SplitAssignment:
    parts = [Path("parts") / str(number) for number in range(len(file_index.contents))]
    return SplitAssignment(split, file_index, kept, parts, FOLDER, most_windows)


def rows(shards: SplitAssignment) -> list[list[tuple[int, int]]]:
    """(part, row) of every window of every shard."""
    return [[(int(piece.part.name), row) for piece in shard.pieces for row in piece.rows.tolist()] for shard in shards]


def test_windows_of_a_duplicate_file_are_skipped_in_its_part():
    file_index = FileIndex([part(("train", [1, 2]), ("train", [1, 2]), ("train", [3]), digests=[8, 8, 9])])
    file_index.drop_duplicates()
    shards = plan("train", file_index, file_index.keep(SPLITS, drop_repeated=False), 10)
    assert shards.files == 2
    assert rows(shards) == [[(0, 0), (0, 1), (0, 4)]]
    assert shards[0].shard == FOLDER / "train-000000.tar"


def test_a_file_counts_if_one_of_its_windows_is_kept():
    file_index = FileIndex([part(("validation", [1, 2])), part(("train", [1, 2]), ("train", [2, 3]), ("train", []))])
    assert plan("train", file_index, file_index.keep(SPLITS, drop_repeated=False), 10).files == 1


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["train", "validation", ""]), st.integers(0, 9)), min_size=1, max_size=6),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 12),
    st.integers(1, 60),
)
@settings(max_examples=100, deadline=None)
def test_every_window_goes_to_one_place_in_order_and_shards_differ_by_one(layout, most_windows, distinct):
    hashes = iter(range(10_000))
    parts = [
        part(*((split, [next(hashes) % distinct for _ in range(windows if split else 0)]) for split, windows in files))
        for files in layout
    ]
    file_index = FileIndex(parts)
    kept = file_index.keep(SPLITS, drop_repeated=False)
    seen = []
    for split in SPLITS:
        shards = plan(split, file_index, kept, most_windows)
        places = rows(shards)
        sizes = [len(place) for place in places]
        assert sum(sizes) == shards.windows
        assert max(sizes, default=0) <= most_windows
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
        in_order = [place for shard in places for place in shard]
        assert in_order == sorted(in_order)
        assert [(int(piece.part.name), *piece.rows.tolist()) for piece in map(shards.piece, range(len(in_order)))] == (
            in_order
        )
        seen += in_order
    assert len(set(seen)) == len(seen)
    assert len(seen) + sum(kept.left_out.values()) == file_index.accepted_windows
    assert kept.left_out["validation"] == 0
    assert len(seen) == sum(int(np.sum(mask)) for mask in kept.windows)
