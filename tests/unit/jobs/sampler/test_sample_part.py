"""Parts of a sampling: gaps between them, and rows out of them, whatever their sizes."""

from pathlib import Path

import numpy as np
import pytest

from jobs.sampler.parts import Rows, SampleChunks, Span
from musicvae.errors import DataError


def rows_of(first: int, last: int, *, near: bool = False) -> Rows:
    """Rows that say in every field which item they are of."""
    items = np.arange(first, last)
    return Rows(
        items=items,
        tokens=np.repeat(items[:, None], 64, axis=1).astype(np.int16),
        codes=np.repeat(items[:, None], 4, axis=1).astype(np.float32),
        log_likelihood=-items.astype(np.float64),
        nearest_training=items if near else np.zeros(0, dtype=np.int64),
    )


def check(found: Rows, items: list[int], *, near: bool = False) -> None:
    assert found.items.tolist() == items
    assert found.tokens[:, 5].tolist() == found.codes[:, 1].tolist() == (-found.log_likelihood).tolist() == items
    assert found.nearest_training.tolist() == (items if near else [])


@pytest.fixture
def finished(tmp_path: Path) -> SampleChunks:
    return SampleChunks(tmp_path)


def test_gaps_are_what_no_part_holds(finished):
    assert finished.missing([Span(0, 10)]) == [Span(0, 10)]
    for first, last in ((3, 5), (5, 6), (8, 20)):
        finished.write(rows_of(first, last))
    assert finished.missing([Span(0, 10)]) == [Span(0, 3), Span(6, 8)]
    assert finished.missing([Span(4, 7)]) == [Span(6, 7)]
    assert finished.missing([Span(9, 15)]) == []
    assert finished.missing([Span(15, 25)]) == [Span(20, 25)]


@pytest.mark.parametrize("near", [False, True])
def test_rows_are_read_in_order_and_once_where_parts_overlap(finished, near):
    for first, last in ((0, 4), (2, 7), (3, 5), (7, 9)):
        finished.write(rows_of(first, last, near=near))
    check(Rows.joined(list(finished.read(Span(1, 8)))), list(range(1, 8)), near=near)


def test_chosen_rows_come_in_blocks_across_parts(finished):
    for first in range(0, 100, 7):
        finished.write(rows_of(first, first + 7))
    items = np.array([*range(0, 20, 3), 50, 51, 52, 99])
    blocks = list(finished.read_chosen(items, 4))
    assert [len(block) for block in blocks] == [4, 4, 3]
    check(Rows.joined(blocks), items.tolist())
    assert list(finished.read_chosen(np.zeros(0, dtype=np.int64), 4)) == []


def test_what_lies_between_parts_is_passed_over(finished):
    for first, last in ((3, 5), (8, 20), (30, 31)):
        finished.write(rows_of(first, last))
    assert finished.missing([Span(3, 5), Span(6, 9), Span(30, 32)]) == [Span(6, 8), Span(31, 32)]
    check(Rows.joined(list(finished.read(Span(0, 10)))), [3, 4, 8, 9])
    items = np.array([4, 8, 19, 30])
    check(Rows.joined(list(finished.read_chosen(items, 3))), items.tolist())


def test_a_damaged_part_is_named(finished, tmp_path):
    finished.write(rows_of(0, 4))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="00000000-00000004") as refused:
        list(finished.read(Span(0, 4)))
    assert "delete the file and run the same command again" in str(refused.value)


def test_what_a_kill_left_is_no_part(finished, tmp_path):
    (tmp_path / ".00000000-00000004.safetensors.abc.tmp").write_bytes(b"half")
    assert finished.missing([Span(0, 4)]) == [Span(0, 4)]
