"""Which split a file belongs to, and which windows may not stand in theirs."""

import hashlib

import numpy as np

from preprocess.splits import crossing_windows, split_of_content


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_about_a_fifth_of_the_files_is_validation():
    splits = [split_of_content(key(number), 0.2) for number in range(20_000)]
    assert abs(splits.count("validation") / len(splits) - 0.2) < 0.01
    assert set(splits) == {"train", "validation"}


def test_the_content_alone_decides():
    assert split_of_content(key(3), 0.2) == split_of_content(key(3), 0.2)
    assert {split_of_content(key(number), 0.0) for number in range(100)} == {"train"}


def test_a_larger_share_only_moves_files_into_validation():
    for number in range(500):
        if split_of_content(key(number), 0.2) == "validation":
            assert split_of_content(key(number), 0.4) == "validation"


def test_train_loses_to_validation_and_test_and_validation_to_test():
    crossing = crossing_windows(
        {
            "train": np.array([1, 2, 3, 1], dtype=np.uint64),
            "validation": np.array([2, 4, 5], dtype=np.uint64),
            "test": np.array([3, 4, 4], dtype=np.uint64),
        }
    )
    assert crossing["train"].tolist() == [False, True, True, False]
    assert crossing["validation"].tolist() == [False, True, False]
    assert crossing["test"].tolist() == [False, False, False]


def test_repeats_within_a_split_stay():
    crossing = crossing_windows({"train": np.array([7, 7], dtype=np.uint64), "validation": np.zeros(0, np.uint64)})
    assert not crossing["train"].any()
