"""What is kept of the grooves made."""

import numpy as np
import pytest

from jobs.sampler.selection import NO_ITEM, Selected, figure_of, select
from jobs.sampler.settings import SampleSettings
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.pretrained.training_record import record_of
from tests.unit.jobs.sampler.test_sample_part import rows_of

GRID, DRUMS = GridSpec(), DrumMap.load("roland")


def kept(kinds: str, *, training: str = "", **wishes) -> Selected:
    """Selects of items that are equal where their letters are; `training` has the letters of training windows."""
    rows = rows_of(0, len(kinds))
    for row, kind in enumerate(kinds):
        rows.tokens[row] = ord(kind)
    record = record_of(np.array([[ord(kind)] * 64 for kind in training], np.int16).reshape(-1, 64), GRID, DRUMS)
    options = SampleSettings(**{"count": len(kinds), **wishes})
    by = options.by and figure_of(options.by.removeprefix("-"), DRUMS, GRID)
    half = len(kinds) // 2
    return select(iter([rows.take(slice(0, half)), rows.take(slice(half, None))]), options, record, by or None)


def test_nothing_is_dropped_unless_asked_for():
    found = kept("abacba", training="a")
    assert found.items.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.duplicate_of.tolist() == [NO_ITEM, NO_ITEM, 0, NO_ITEM, 1, 0]
    assert (found.dropped, found.lacking, found.looked_at) == ({}, 0, 6)


def test_duplicates_and_training_windows_are_dropped_and_counted():
    found = kept("abacba", training="b", drop_duplicates=True, drop_memorised=True)
    assert found.items.tolist() == [0, 3]
    assert found.dropped == {"duplicate": 3, "memorised": 1}
    assert kept("abacba", drop_duplicates=True).dropped == {"duplicate": 3}


def test_refilled_is_what_comes_first_however_much_more_was_made():
    wishes = {"count": 3, "drop_duplicates": True, "refill": True}
    assert kept("aab", **wishes).lacking == 1
    enough, more = kept("aabac", **wishes), kept("aabacdef", **wishes)
    assert enough.items.tolist() == more.items.tolist() == [0, 2, 4]
    assert enough.dropped == more.dropped == {"duplicate": 2}
    assert (enough.looked_at, enough.lacking) == (more.looked_at, more.lacking) == (5, 0)


def test_what_is_picked_is_selected_from_like_the_rest_and_never_refilled():
    rows = rows_of(0, 40).take(np.array([3, 8, 20, 33]))
    rows.tokens[:] = np.array([[1], [2], [1], [3]])
    wishes = {"count": 40, "pick": (3, 8, 20, 33)}
    found = select(iter([rows]), SampleSettings(**wishes), None, None)
    assert (found.items.tolist(), found.looked_at) == ([3, 8, 20, 33], 4)
    assert found.duplicate_of.tolist() == [NO_ITEM, NO_ITEM, 3, NO_ITEM]
    found = select(iter([rows]), SampleSettings(**wishes, drop_duplicates=True, refill=True), None, None)
    assert (found.items.tolist(), found.dropped, found.lacking) == ([3, 8, 33], {"duplicate": 1}, 0)


@pytest.mark.parametrize(("by", "expected"), [("log_likelihood", [0, 1]), ("-log_likelihood", [4, 5])])
def test_the_best_by_a_figure(by, expected):
    found = kept("abcdef", best=2, by=by)
    assert found.items.tolist() == expected
    assert found.dropped == {"not among the best": 4}


def test_of_equal_figures_the_first_are_the_best():
    assert kept("aaaa", best=2, by="hits_per_bar").items.tolist() == [0, 1]
