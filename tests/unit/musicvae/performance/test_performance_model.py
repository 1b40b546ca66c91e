"""The performance model: nothing is seen before it is played, and playing follows what was learnt."""

import copy

import numpy as np
import pytest
import torch

from musicvae.groove.played import MANNER, PlayedHits
from musicvae.model.settings import PerformanceSettings
from musicvae.performance.hits import EARLIER, HitSequence
from musicvae.performance.model import PerformanceModel
from musicvae.performance.play import Score, play
from tests.support.shards.shard_fixtures import DRUM_MAP, GRID, patterned_windows

SMALL = PerformanceSettings(hidden=16, layers=2, heads=2)
COUNT = 6


@pytest.fixture(scope="module")
def model() -> PerformanceModel:
    """Nobody has trained it; its scores are far from even all the same."""
    torch.manual_seed(0)
    model = PerformanceModel(SMALL, GRID, DRUM_MAP.num_drums)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model.double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def single(model) -> PerformanceModel:
    """The same in the precision that is played in."""
    return copy.deepcopy(model).float()


def inputs(count: int = COUNT, seed: int = 3) -> tuple[torch.Tensor, ...]:
    """Velocity, ticks, tempo and manner of windows; of every other window the manner is hidden."""
    played = patterned_windows(count, seed).played()
    manner = played.manner()
    manner[::2] = np.nan
    arrays = played.midi_velocity(), played.ticks(), np.linspace(70, 180, count, dtype=np.float32), manner
    velocity, ticks, tempo, manner = map(torch.from_numpy, arrays)
    return velocity, ticks, tempo, manner


def score(count: int, *, seed: int = 3, kept: PlayedHits | None = None) -> Score:
    played = patterned_windows(count, seed).played()
    tempo, manner = np.full(count, 120, np.float32), np.full((count, len(MANNER)), np.nan, np.float32)
    return Score(range(count), played.hits, tempo, manner, kept)


def test_no_prediction_sees_how_its_own_hit_or_a_later_one_is_played(model):
    velocity, ticks, tempo, manner = inputs()
    before = model(velocity, ticks, tempo, manner)
    sequence = HitSequence.of(velocity > 0, GRID)
    hit = len(sequence.window) // 2 + 5
    cell = tuple(int(part[hit]) for part in sequence.cells)
    earlier = torch.arange(len(sequence.window)) < hit
    other_window = sequence.window != sequence.window[hit]
    for changed, name in ((ticks, "ticks"), (velocity, "velocity")):
        changed[cell] = changed[cell] % 50 + 7
        after = model(velocity, ticks, tempo, manner)
        unmoved = earlier | other_window
        assert torch.equal(before.velocity[unmoved], after.velocity[unmoved]), name
        assert torch.equal(before.offset[unmoved], after.offset[unmoved]), name
        later = ~unmoved & (torch.arange(len(earlier)) > hit)
        assert (before.velocity[later] != after.velocity[later]).all(), "what follows sees it"
        before = after


def test_earlier_hits_are_those_that_their_names_say():
    velocity, *_ = inputs()
    sequence = HitSequence.of(velocity > 0, GRID)
    steps, drums = sequence.by_window(sequence.step), sequence.by_window(sequence.drum)
    for hit in range(0, len(sequence.window), 7):
        window, step, drum, place = (
            int(part[hit]) for part in (sequence.window, sequence.step, sequence.drum, sequence.place)
        )
        mine = [(int(s), int(d)) for s, d in zip(steps[window], drums[window], strict=True)][:place]
        of_drum = [number for number, (_, other) in enumerate(mine) if other == drum]
        expected = [mine.index(cell) if (cell := (step - 16 * bars, drum)) in mine else -1 for bars in (1, 2, 3)]
        expected += [of_drum[-ago] if len(of_drum) >= ago else -1 for ago in (1, 2, 3)]
        expected += [place - ago if place >= ago else -1 for ago in (1, 2, 3)]
        assert sequence.earlier[hit].tolist() == expected, EARLIER
        assert int(sequence.since[hit]) == (step - mine[of_drum[-1]][0] if of_drum else 0)


def test_windows_do_not_depend_on_each_other(model):
    together = model(*inputs())
    for window in range(COUNT):
        alone = model(*(values[window : window + 1] for values in inputs()))
        mine = together.window == window
        torch.testing.assert_close(together.velocity[mine], alone.velocity)
        torch.testing.assert_close(together.offset[mine], alone.offset)


def test_a_window_without_hits_has_no_nats(model):
    nothing = model(
        *(values[:1] * 0 for values in inputs()[:2]), torch.full((1,), 100.0), torch.full((1, 5), torch.nan)
    )
    assert nothing.total() == (0.0, 0.0)


def test_playing_hit_by_hit_is_what_one_pass_over_all_hits_predicts(model, single):
    """At a temperature near 0 each choice is the likeliest, given the choices before it."""
    asked = score(COUNT)
    played = play(single, asked, seed=1, temperature=1e-6)
    velocity, ticks = torch.from_numpy(played.midi_velocity()), torch.from_numpy(played.ticks())
    sequence = HitSequence.of(velocity > 0, GRID)
    loudness, timing = velocity[sequence.cells], ticks[sequence.cells]
    hidden = model.hidden(sequence, loudness, timing, torch.from_numpy(asked.tempo), torch.from_numpy(asked.manner))
    assert (model.velocity(hidden).argmax(dim=1) + 1 == loudness).float().mean() > 0.995, "but for rounding"
    assert (model.offset_scores(hidden, loudness).argmax(dim=1) - 60 == timing).float().mean() > 0.995


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_groove_is_played_alike_beside_whatever_others_and_other_seeds_play_otherwise(single, precision):
    asked, places = score(40), np.array([39, 2, 17])
    few, batches, many, other = (
        play(single, score, seed=seed, precision=precision, together=together)
        for score, seed, together in ((asked.take(places), 5, 256), (asked, 5, 18), (asked, 5, 256), (asked, 6, 256))
    )
    assert (many.hits == asked.hits).all()
    for name in ("velocity", "offset"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[places])
        np.testing.assert_array_equal(getattr(batches, name), getattr(many, name))
        assert not getattr(many, name)[~many.hits].any()
    assert ((many.midi_velocity() > 0) == many.hits).all()
    assert (many.midi_velocity() != other.midi_velocity())[many.hits].mean() > 0.5


def test_kept_hits_are_untouched_and_those_after_them_follow_them(single):
    given = patterned_windows(COUNT, 3).played()
    kept = PlayedHits(given.hits & (np.arange(64) < 40)[:, None], given.velocity, given.offset)
    played, free = (play(single, score(COUNT, kept=keeps), seed=5) for keeps in (kept, None))
    for name in ("velocity", "offset"):
        np.testing.assert_array_equal(getattr(played, name)[kept.hits], getattr(given, name)[kept.hits])
    new = given.hits & ~kept.hits
    assert (played.midi_velocity() != free.midi_velocity())[new].mean() > 0.2


def test_a_temperature_that_is_not_positive_is_refused(single):
    with pytest.raises(ValueError, match="must be positive"):
        play(single, score(1), seed=0, temperature=0.0)
