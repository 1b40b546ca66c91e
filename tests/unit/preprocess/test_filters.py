"""Which windows the filters leave out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import tokens_from_hits
from preprocess.convert import filter_windows
from preprocess.settings import FilterSettings

GRID = GridSpec(bars=2, steps_per_beat=1)  # 8 steps a window


def block(*windows: dict[int, list[int]], tempos: tuple[float, ...] = (), styles: tuple[str, ...] = ()) -> WindowBlock:
    """Windows as {step: drums}."""
    hits = np.zeros((len(windows), GRID.num_steps, 9), dtype=bool)
    for number, window in enumerate(windows):
        for step, drums in window.items():
            hits[number, step, drums] = True
    metas = [
        WindowMeta("a.mid", number, tempos[number] if tempos else 120.0, styles[number] if styles else "")
        for number in range(len(windows))
    ]
    velocity = hits.astype(np.uint8) * 90
    return WindowBlock(tokens_from_hits(hits), velocity, np.zeros(hits.shape, dtype=np.int16), metas)


EMPTY, ONE, ONE_BAR, BOTH = {}, {0: [0]}, {0: [0, 1], 3: [0]}, {0: [0, 2, 3], 5: [1]}


@pytest.mark.parametrize(
    ("filters", "kept", "counts"),
    [
        (FilterSettings(), [1, 1, 1, 1], {}),
        (FilterSettings(min_hits=1), [0, 1, 1, 1], {"min_hits": 1}),
        (FilterSettings(min_hits=4), [0, 0, 0, 1], {"min_hits": 3}),
        (FilterSettings(min_hits=5), [0, 0, 0, 0], {"min_hits": 4}),
        (FilterSettings(max_empty_bars=2), [1, 1, 1, 1], {"max_empty_bars": 0}),
        (FilterSettings(max_empty_bars=1), [0, 1, 1, 1], {"max_empty_bars": 1}),
        (FilterSettings(max_empty_bars=0), [0, 0, 0, 1], {"max_empty_bars": 3}),
        (FilterSettings(min_drums=2), [0, 0, 1, 1], {"min_drums": 2}),
        (FilterSettings(min_drums=4), [0, 0, 0, 1], {"min_drums": 3}),
        # The first filter that leaves a window out counts it.
        (FilterSettings(min_hits=1, max_empty_bars=0), [0, 0, 0, 1], {"min_hits": 1, "max_empty_bars": 2}),
        (FilterSettings(drop_repeated=True), [1, 1, 1, 1], {}),
    ],
)
def test_what_is_played(filters, kept, counts):
    found, by_name = filter_windows(block(EMPTY, ONE, ONE_BAR, BOTH), filters, GRID)
    assert found.tolist() == [bool(one) for one in kept]
    assert by_name == counts


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        (FilterSettings(min_tempo=90), [0, 1, 1, 1]),
        (FilterSettings(max_tempo=120), [1, 1, 1, 0]),
        (FilterSettings(min_tempo=90.5, max_tempo=120), [0, 0, 1, 0]),
    ],
)
def test_tempo(filters, kept):
    found, by_name = filter_windows(block(ONE, ONE, ONE, ONE, tempos=(60.0, 90.0, 120.0, 120.5)), filters, GRID)
    assert found.tolist() == [bool(one) for one in kept]
    assert by_name == {"tempo": 4 - sum(kept)}


def test_style_keeps_sub_styles_and_leaves_out_the_unknown():
    windows = block(ONE, ONE, ONE, ONE, ONE, styles=("rock", "rock/indie", "rockabilly", "", "jazz/swing"))
    found, by_name = filter_windows(windows, FilterSettings(styles=("rock",)), GRID)
    assert found.tolist() == [True, True, False, False, False]
    assert by_name == {"style": 3}
    found, _ = filter_windows(windows, FilterSettings(styles=("jazz/swing", "rock/indie")), GRID)
    assert found.tolist() == [False, True, False, False, True]


@given(
    st.lists(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 8), min_size=1, max_size=3)), max_size=6),
    st.integers(0, 4),
    st.one_of(st.none(), st.integers(0, 2)),
    st.integers(0, 3),
)
def test_equals_a_plain_loop_and_adds_up(windows, min_hits, max_empty_bars, min_drums):
    filters = FilterSettings(min_hits=min_hits, max_empty_bars=max_empty_bars, min_drums=min_drums)
    kept, counts = filter_windows(block(*windows), filters, GRID)
    for window, is_kept in zip(windows, kept.tolist(), strict=True):
        cells = {(step, drum) for step, drums in window.items() for drum in drums}
        empty = 2 - len({step // 4 for step, _ in cells})
        assert is_kept == (
            len(cells) >= min_hits
            and (max_empty_bars is None or empty <= max_empty_bars)
            and len({drum for _, drum in cells}) >= min_drums
        )
    assert kept.sum() + sum(counts.values()) == len(windows)
