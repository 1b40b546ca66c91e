"""Summaries of parts -> which files are duplicates, and which windows may not stand in their split."""

import tracemalloc

import numpy as np

from musicvae.data.manifest import SPLITS, Split
from preprocess.parts import NO_SPLIT, PartSummary
from preprocess.plan import FIRST, FileIndex

ALL: tuple[Split, ...] = SPLITS


def part(*files: tuple[str, list[int]], digests: list[int] | None = None) -> PartSummary:
    """A part of files as (split or empty if rejected, hashes of their windows)."""
    return PartSummary(
        content="",
        windows=np.array([len(hashes) for _, hashes in files], dtype=np.int32),
        split=np.array([SPLITS.index(split) if split else NO_SPLIT for split, _ in files], dtype=np.int8),  # type: ignore[arg-type]
        digest=np.array(digests or [id(file) for file in files], dtype=np.uint64),
        hashes=np.array([own for _, hashes in files for own in hashes], dtype=np.uint64),
    )


def kept_hashes(file_index: FileIndex, **options: bool) -> list[list[int]]:
    """The hashes of the kept windows of each part."""
    kept = file_index.keep(ALL, drop_repeated=options.get("drop_repeated", False))
    return [hashes[mask].tolist() for hashes, mask in zip(file_index.hashes, kept.windows, strict=True)]


def test_train_loses_to_validation_and_test_and_validation_to_test():
    file_index = FileIndex([part(("train", [1, 2, 3, 1])), part(("validation", [2, 4, 5]), ("test", [3, 4, 4]))])
    assert kept_hashes(file_index) == [[1, 1], [2, 5, 3, 4, 4]]
    kept = file_index.keep(ALL, drop_repeated=False)
    assert kept.left_out == {"train": 2, "validation": 1, "test": 0}
    assert kept.repeated == {"train": 0, "validation": 0, "test": 0}


def test_repeats_within_a_split_stay_unless_asked():
    parts = [part(("train", [7, 8, 7])), part(("train", [8, 9]), ("validation", [5, 5]))]
    assert kept_hashes(FileIndex(parts)) == [[7, 8, 7], [8, 9, 5, 5]]
    file_index = FileIndex(parts)
    assert kept_hashes(file_index, drop_repeated=True) == [[7, 8], [9, 5]]
    assert file_index.keep(ALL, drop_repeated=True).repeated == {"train": 2, "validation": 1, "test": 0}


def test_a_window_that_crosses_is_not_counted_as_repeated_too():
    kept = FileIndex([part(("train", [1, 1, 2]), ("validation", [1]))]).keep(ALL, drop_repeated=True)
    assert kept.left_out["train"] == 2
    assert kept.repeated["train"] == 0


def test_of_files_with_equal_content_the_first_accepted_one_stays():
    files = [("", []), ("train", [1]), ("train", [1]), ("validation", [2]), ("train", [1])]
    file_index = FileIndex([part(*files[:3], digests=[5, 5, 5]), part(*files[3:], digests=[6, 5])])
    assert file_index.duplicate_of.tolist() == [FIRST, FIRST, 1, FIRST, 1]
    assert file_index.accepted == 4
    file_index.drop_duplicates()
    assert file_index.accepted == 2
    assert file_index.accepted_windows == 2
    assert [file_index.is_dropped(file) for file in range(5)] == [False, False, True, False, True]
    assert kept_hashes(file_index) == [[1], [2]]


def test_parts_without_windows_or_splits_without_files_are_no_trouble():
    file_index = FileIndex([part(("", [])), part(("train", [1])), part(("", []), ("", []))])
    assert kept_hashes(file_index) == [[], [1], []]
    assert (file_index.seen, file_index.accepted) == (4, 1)


def test_a_file_takes_a_few_bytes_of_memory():
    parts, files = 200, 640
    digests = np.random.default_rng(0).integers(2**63, size=(parts, files)).tolist()
    summaries = [part(*[("train", [])] * files, digests=own) for own in digests]
    tracemalloc.start()
    try:
        file_index = FileIndex(summaries)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(file_index.windows) == parts * files
    assert kept < 20 * parts * files
    assert peak < 60 * parts * files
