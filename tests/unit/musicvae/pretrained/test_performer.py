"""A performance model in use: what is played of a groove, and what stays of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from musicvae.errors import ConfigError, DataError
from musicvae.groove.groove import DrumGroove
from musicvae.groove.played import MANNER
from musicvae.model.settings import PerformanceSettings
from musicvae.performance.model import PerformanceModel
from musicvae.pretrained.performer import CONFIG, Performer, load_performance, write_performance
from musicvae.training.best_weights import read_best, save_best
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID, patterned_windows

pytestmark = pytest.mark.usefixtures("without_shape_checks")

SMALL = PerformanceSettings(hidden=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def performer() -> Performer:
    torch.manual_seed(0)
    model = PerformanceModel(SMALL, GRID, DRUM_MAP.num_drums).eval().requires_grad_(False)
    manners = np.array([[0.5, 0.2, -0.05, 0.1, 0.1], [0.7, 0.1, -0.07, 0.2, 0.0]], dtype=np.float32)
    return Performer(model, SMALL, GRID, DRUM_MAP, manners, 5, "0" * 12)


def groove(bars: int) -> DrumGroove:
    """A groove of some bars, all loud and on the grid but for a few hits."""
    windows = [patterned_windows(1, seed).groove(0, GRID) for seed in range(-(-bars // GRID.bars))]
    hits, velocity, offset = (
        np.concatenate([getattr(window, name) for window in windows])[: bars * GRID.steps_per_bar]
        for name in ("hits", "velocity", "offset")
    )
    return DrumGroove(replace(GRID, bars=bars), hits, velocity, offset, 101.0, "mine")


@pytest.mark.parametrize("bars", [1, 3, 4, 7])
def test_hits_tempo_and_mean_loudness_stay_at_any_length(performer, bars):
    given = groove(bars)
    for amount in (0.3, 1.0):
        made = performer.humanize(given, seed=3, timing=amount, velocity=amount)
        np.testing.assert_array_equal(made.hits, given.hits)
        assert (made.grid, made.tempo, made.source) == (given.grid, given.tempo, given.source)
        assert abs((made.velocity - given.velocity)[given.hits].mean()) < 0.6 / 127
        assert (made.velocity != given.velocity)[given.hits].mean() > 0.5
        assert (made.offset != given.offset)[given.hits].mean() > 0.5
    again = performer.humanize(given, seed=3, timing=1.0, velocity=1.0)
    other = performer.humanize(given, seed=4, timing=1.0, velocity=1.0)
    np.testing.assert_array_equal(again.offset, made.offset)
    assert (other.offset != made.offset).any()


def test_an_amount_of_0_leaves_what_was_given_and_the_other_amount_does_not_matter(performer):
    given = groove(2)
    still = performer.humanize(given, timing=0.0, velocity=0.0)
    np.testing.assert_array_equal(still.velocity, given.velocity)
    np.testing.assert_array_equal(still.offset, given.offset)
    louder, later = performer.humanize(given, timing=0.0), performer.humanize(given, velocity=0.0)
    np.testing.assert_array_equal(louder.offset, given.offset)
    np.testing.assert_array_equal(later.velocity, given.velocity)
    both = performer.humanize(given)
    np.testing.assert_array_equal(both.velocity, louder.velocity)
    np.testing.assert_array_equal(both.offset, later.offset)
    silent = replace(given, hits=given.hits & False, velocity=given.velocity * 0, offset=given.offset * 0)
    assert not performer.humanize(silent).velocity.any()


@pytest.mark.parametrize("amount", [0.5, 1.0])
def test_around_what_was_played_accents_keep_their_order_and_a_laid_back_groove_stays_so(performer, amount):
    given = groove(2)
    cells = given.hits
    laid_back = replace(given, offset=np.where(cells, np.float32(0.25), 0).astype(np.float32))
    made, free = (
        performer.humanize(laid_back, seed=3, timing=amount, velocity=amount, around=around) for around in (True, False)
    )
    np.testing.assert_array_equal(made.hits, cells)
    order = np.argsort(given.velocity[cells], kind="stable")
    louder = np.diff(given.velocity[cells][order]) > 0
    assert (np.diff(made.velocity[cells][order])[louder] >= 0).all()
    assert (np.diff(free.velocity[cells][order])[louder] < 0).any()
    assert abs(made.velocity[cells].mean() - given.velocity[cells].mean()) < 1 / 127
    assert abs(made.offset[cells].mean() - 0.25) < 0.03 < abs(free.offset[cells].mean() - 0.25)
    assert made.offset[cells].std() > 0.02
    still = performer.humanize(laid_back, timing=0.0, velocity=0.0, around=True)
    np.testing.assert_array_equal(still.velocity, laid_back.velocity)
    np.testing.assert_array_equal(still.offset, laid_back.offset)


def test_what_cannot_be_played_is_refused(performer):
    waltz = groove(1)
    grid = replace(GRID, bars=1, beats_per_bar=3)
    waltz = DrumGroove(grid, waltz.hits[:12], waltz.velocity[:12], waltz.offset[:12])
    with pytest.raises(ConfigError, match="does not fit this model"):
        performer.humanize(waltz)
    with pytest.raises(ValueError, match=r"timing is an amount from 0 to 1, found 1\.5"):
        performer.humanize(groove(1), timing=1.5)


def test_an_export_is_read_back_and_a_damaged_one_is_told(performer, tmp_path):
    save_best(tmp_path / "best", performer.model.state_dict(), 5, {"validation.nats_per_hit": 7.5})
    best = read_best(tmp_path / "best")
    folder = tmp_path / "export"
    folder.mkdir()
    write_performance(folder, replace(performer, weights_hash=best.weights_hash), best, {"run_id": "abc"})
    again = load_performance(folder)
    assert (again.weights_hash, again.step, again.settings, again.grid) == (best.weights_hash, 5, SMALL, GRID)
    assert again.drum_map.pitches == DRUM_MAP.pitches
    np.testing.assert_allclose(again.manners, performer.manners, atol=1e-4)
    assert again.manners.shape[1] == len(MANNER)
    np.testing.assert_array_equal(
        again.humanize(groove(1)).offset, replace(performer, manners=again.manners).humanize(groove(1)).offset
    )
    (folder / CONFIG).write_text((folder / CONFIG).read_text().replace(best.weights_hash, "f" * 12))
    with pytest.raises(DataError, match="says ffffffffffff"):
        load_performance(folder)
