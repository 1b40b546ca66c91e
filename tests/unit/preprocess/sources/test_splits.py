"""Which split a file belongs to."""

from collections import Counter

import pytest

from preprocess.settings import SplitSettings
from preprocess.sources.listing import FilePlace, SourceFile, content_digest, possible_splits, split_of

FILES = 20_000


def file(number: int, **known) -> SourceFile:
    return SourceFile(f"folder {number // 4}/{number}.mid", FilePlace("/x"), group=f"song {number // 3}", **known)


def splits(numbers=range(FILES), **settings) -> list[str]:
    parsed = SplitSettings(**settings)
    return [split_of(file(number), content_digest(b"%d" % number), parsed) for number in numbers]


@pytest.mark.parametrize("group", ["file", "folder", "column"])
@pytest.mark.parametrize("shares", [(0.2, 0.0), (0.2, 0.1), (0.05, 0.5), (0.0, 0.3)])
def test_shares_come_out_as_asked(group, shares):
    validation, test = shares
    found = Counter(splits(group=group, validation_share=validation, test_share=test))
    assert abs(found["validation"] / FILES - validation) < 0.02
    assert abs(found["test"] / FILES - test) < 0.02
    assert set(found) == set(possible_splits(SplitSettings(validation_share=validation, test_share=test)))


@pytest.mark.parametrize(("group", "together"), [("folder", 4), ("column", 3)])
def test_a_group_is_never_torn_apart(group, together):
    found = splits(range(1200), group=group, test_share=0.2)
    assert all(len(set(found[start : start + together])) == 1 for start in range(0, 1200, together))
    assert len(set(found)) == 3


def test_files_at_the_top_are_one_folder():
    settings = SplitSettings(group="folder")
    assert len({split_of(SourceFile(f"{n}.mid", FilePlace("/x")), n, settings) for n in range(50)}) == 1


def test_the_content_alone_decides_where_each_file_is_a_group():
    settings = SplitSettings()
    assert split_of(file(1), 7, settings) == split_of(file(900), 7, settings)


def test_the_split_that_a_collection_gives_stands():
    for split in ("train", "validation", "test"):
        assert split_of(file(1, split=split), 7, SplitSettings(validation_share=0.99)) == split


def test_the_seed_draws_anew():
    one, other = splits(range(2000), seed=0), splits(range(2000), seed=1)
    both = sum(a == b == "validation" for a, b in zip(one, other, strict=True))
    assert 0.02 < both / 2000 < 0.06


def test_a_larger_share_only_moves_files_into_its_split():
    before = splits(range(2000), validation_share=0.2, test_share=0.2)
    more_validation = splits(range(2000), validation_share=0.4, test_share=0.2)
    more_test = splits(range(2000), validation_share=0.2, test_share=0.4)
    for old, validation, test in zip(before, more_validation, more_test, strict=True):
        assert validation == old or (old, validation) == ("train", "validation")
        assert test == old or (old, test) == ("train", "test")
