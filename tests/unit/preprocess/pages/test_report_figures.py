"""The report's figures: bars that add up, axes that hold what is drawn on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicvae.data.statistics import WindowStatistics, count_windows
from preprocess.pages.charts import class_shares, histograms, percent, ranking, waterfall
from tests.support.shards.report_fixtures import DRUMS
from tests.support.shards.shard_fixtures import GRID, patterned_windows


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, ""),
        (0, 10, "0.0%"),
        (10, 10, "100.0%"),
        (1, 3, "33.3%"),
        (1, 10**6, "<0.1%"),
        (10**6 - 1, 10**6, ">99.9%"),
    ],
)
def test_a_share_is_never_a_zero_that_is_none(part, whole, text):
    assert percent(part, whole) == text


@given(st.lists(st.integers(0, 1000), max_size=5), st.lists(st.integers(0, 1000), min_size=1, max_size=3))
def test_a_waterfall_ends_where_its_losses_leave_it(losses, parts):
    kept = {f"part {number}": count for number, count in enumerate(parts)}
    total = sum(losses) + sum(parts)
    rows = waterfall("all", total, [(f"loss {n}", count, "") for n, count in enumerate(losses)], "kept", kept)
    assert rows[0].count == total
    assert rows[-1].count == sum(parts)
    ends = 100.0
    for row in rows[1:-1]:
        for bar in row.bars:
            assert bar.start + bar.width == pytest.approx(ends)
            ends = bar.start
    drawn = sum(bar.width for bar in rows[-1].bars)
    assert drawn == pytest.approx(ends if total else 0, abs=1e-6)


def test_the_largest_of_a_ranking_is_as_wide_as_there_is_space():
    rows = ranking({"a": 40, "b": 10}, 100, {"b": "why"})
    assert [row.bars[0].width for row in rows] == [100, 25]
    assert [(row.share, row.note) for row in rows] == [("40.0%", ""), ("10.0%", "why")]
    assert ranking({}, 0, {}) == []


def test_drums_stand_as_in_the_grids_with_the_kick_at_the_bottom():
    figure = class_shares({"train": count_windows(patterned_windows(20, seed=1), GRID)}, DRUMS)
    assert [name for name, _ in figure] == [drum.replace("_", " ") for drum in reversed(DRUMS)]
    assert max(bar.width for _, rows in figure for row in rows for bar in row.bars) == pytest.approx(100)


def test_histograms_hold_every_share_and_stay_on_their_axes():
    statistics = {
        split: count_windows(patterned_windows(30, seed), GRID) for seed, split in enumerate(("train", "test"))
    }
    tempo, hits, offset, velocity = histograms(statistics)
    for figure in (tempo, hits, offset, velocity):
        for split in statistics:
            assert len(figure.heights[split]) == len(figure.bins) == len(figure.shares[split])
            assert 0 < max(figure.heights[split]) <= 100 + 1e-9
            assert figure.outline(split).count("H") == len(figure.bins)
        assert all(0 <= tick.place <= 100 + 1e-9 for tick in (*figure.x_ticks, *figure.y_ticks))
        assert 1 <= len(figure.y_ticks) <= 5
        assert len(figure.x_ticks) <= 8
    assert tempo.bins[0] == "100 to 110"
    assert len(offset.bins) == 32
    assert [tick.label for tick in offset.x_ticks] == ["-0.50", "-0.25", "0", "+0.25", "+0.50"]
    counts = statistics["train"].hits_per_bar
    filled = np.flatnonzero(counts + statistics["test"].hits_per_bar)
    assert hits.bins[0] == f"{filled[0]} hits"
    assert hits.bins[-1] == f"{filled[-1]} hits"


def test_windows_without_a_hit_have_figures_too():
    silent = WindowStatistics.from_json(
        {**WindowStatistics.zero(9).to_json(), "windows": 1, "empty": 1, "bars": 4}
        | {"hits_per_bar": [4] + [0] * 64, "tempo": [0] * 8 + [1] + [0] * 15}
    )
    tempo, hits, offset, velocity = histograms({"train": silent})
    assert tempo.heights["train"] == hits.heights["train"] == (100.0,)
    assert set(offset.heights["train"]) == set(velocity.heights["train"]) == {0.0}
    assert all(not row.bars for _, rows in class_shares({"train": silent}, DRUMS) for row in rows)
