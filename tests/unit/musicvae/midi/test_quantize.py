"""From hits in ticks to windows on the grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.data.windows import OFFSET_UNITS
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove, hits_from_tokens
from musicvae.midi.performance import Performance, read_performance
from musicvae.midi.quantize import quantize
from musicvae.midi.settings import TICKS_PER_QUARTER
from musicvae.midi.writer import groove_to_midi, performance_to_midi

GRID = GridSpec()
GENERAL_MIDI = DrumMap.load("general_midi")
KICK, SNARE, UNKNOWN = 36, 38, 20
STEP = TICKS_PER_QUARTER // 4


def performance(
    *hits: tuple[int, int, int], division: int = TICKS_PER_QUARTER, metre: tuple[int, int] = (4, 4), end: int = 0
) -> Performance:
    """Hits of (tick, pitch, velocity) in any order."""
    tick, pitch, velocity = np.array(sorted(hits), dtype=np.int64).reshape(-1, 3).T
    pitch, velocity = pitch.astype(np.uint8), velocity.astype(np.uint8)
    return Performance(tick, pitch, velocity, division, metres=((0, *metre),), end=end)


@pytest.mark.parametrize(
    ("tick", "step", "offset"),
    [(0, 0, 0), (1, 0, 1), (59, 0, 59), (60, 1, -60), (119, 1, -1), (120, 1, 0), (179, 1, 59), (180, 2, -60)],
)
def test_a_hit_belongs_to_the_nearest_step_and_halfway_to_the_later_one(tick, step, offset):
    song = quantize(performance((tick, KICK, 90)), GRID, GENERAL_MIDI)
    assert song.step.tolist() == [step]
    assert song.offset.tolist() == [round(offset / STEP * OFFSET_UNITS)]
    assert -0.5 <= song.offset[0] / OFFSET_UNITS < 0.5


@given(st.integers(0, 2**28), st.integers(1, 32767), st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_any_division_and_tick_stay_in_range(tick, division, steps_per_beat):
    song = quantize(performance((tick, KICK, 1), division=division), GridSpec(4, 4, steps_per_beat), GENERAL_MIDI)
    position = (int(song.step[0]) + song.offset[0] / OFFSET_UNITS) * division / steps_per_beat
    assert abs(position - tick) <= 0.5


def test_the_louder_of_two_hits_stays_and_the_other_is_counted():
    song = quantize(performance((0, KICK, 50), (10, KICK, 90), (20, KICK, 70)), GRID, GENERAL_MIDI)
    assert song.velocity.tolist() == [90]
    assert song.offset.tolist() == [round(10 / STEP * OFFSET_UNITS)]
    assert song.doubled_hits == 2


def test_of_equally_loud_hits_the_earlier_stays():
    song = quantize(performance((30, SNARE, 80), (-1 + 30, 40, 80), (40, SNARE, 80)), GRID, GENERAL_MIDI)
    assert song.offset.tolist() == [round(29 / STEP * OFFSET_UNITS)]


def test_unknown_pitches_are_dropped_and_counted_by_pitch():
    song = quantize(performance((0, UNKNOWN, 9), (5, 127, 9), (7, UNKNOWN, 9), (9, KICK, 9)), GRID, GENERAL_MIDI)
    assert song.unknown_pitches == {UNKNOWN: 2, 127: 1}
    assert song.drum.tolist() == [0]


def test_the_nearest_known_pitch_stands_in_if_asked_and_is_still_named():
    hits = performance((0, UNKNOWN, 9), (480, 127, 9), (960, KICK, 9))
    song = quantize(hits, GRID, GENERAL_MIDI, nearest_pitch=True)
    assert song.unknown_pitches == {UNKNOWN: 1, 127: 1}
    # 20 lies between 22 (closed hi-hat) and nothing below, 127 is nearest to 87 (mid tom).
    assert song.drum.tolist() == [2, 5, 0]


def test_a_last_bar_that_the_file_does_not_finish_counts_only_if_padded():
    hits, bar = [(beat * 480, KICK, 9) for beat in range(14)], 4 * 480
    for end, bars in [(0, 3), (4 * bar - 1, 3), (4 * bar, 4), (9 * bar, 4)]:
        assert quantize(performance(*hits, end=end), GRID, GENERAL_MIDI).bars == 4
        song = quantize(performance(*hits, end=end), GRID, GENERAL_MIDI, pad_last_bar=False)
        assert (song.bars, song.bar_counts.unfinished, song.outside_hits) == (bars, 4 - bars, 2 * (4 - bars))


def test_hits_out_of_order_are_no_performance():
    pitch = np.full(2, KICK, dtype=np.uint8)
    with pytest.raises(ValueError, match="in order of time"):
        Performance(np.array([5, 0]), pitch, pitch, 480)
    with pytest.raises(ValueError, match="metres must be there and in order"):
        Performance(np.array([0, 5]), pitch, pitch, 480, metres=((7, 4, 4), (7, 3, 4)))


def test_bars_reach_to_the_last_known_hit():
    bar = 4 * TICKS_PER_QUARTER
    assert quantize(performance((0, KICK, 9)), GRID, GENERAL_MIDI).bars == 1
    assert quantize(performance((bar - 61, KICK, 9)), GRID, GENERAL_MIDI).bars == 1
    assert quantize(performance((bar - 60, KICK, 9)), GRID, GENERAL_MIDI).bars == 2
    assert quantize(performance((0, KICK, 9), (9 * bar, UNKNOWN, 9)), GRID, GENERAL_MIDI).bars == 1
    assert quantize(performance(), GRID, GENERAL_MIDI).bars == 0


@pytest.mark.parametrize(("hop", "first_bars"), [(1, [0, 1, 2]), (2, [0, 2]), (4, [0])])
def test_windows_start_every_hop(hop, first_bars):
    song = quantize(performance(*[(bar * 4 * 480, KICK, 9) for bar in range(6)]), GRID, GENERAL_MIDI)
    windows = song.windows(hop, source="a.mid", style="rock")
    assert [meta.bar for meta in windows.meta] == first_bars
    assert {(meta.source, meta.style, meta.tempo) for meta in windows.meta} == {("a.mid", "rock", 120.0)}
    assert windows.tokens.shape == (len(first_bars), 64)
    assert windows.velocity.shape == windows.offset.shape == (len(first_bars), 64, 9)


def test_a_song_shorter_than_a_window_gives_none():
    song = quantize(performance((3 * 4 * 480 - 100, KICK, 9)), GRID, GENERAL_MIDI)
    assert song.bars == 3
    assert len(song.windows()) == 0


def test_a_grid_of_other_lengths():
    grid = GridSpec(bars=2, beats_per_bar=3, steps_per_beat=3)
    song = quantize(performance((0, KICK, 9), (6 * 480 - 160, SNARE, 9), metre=(3, 4)), grid, GENERAL_MIDI)
    windows = song.windows()
    assert windows.tokens.shape == (1, 18)
    assert windows.tokens[0, 0] == 1
    assert windows.tokens[0, 17] == 2


@st.composite
def grooves(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    hits = rng.random((64, 9)) < draw(st.floats(0, 1))
    hits[48, 0] = True  # the last bar is not empty, so that the file has as many bars as the window
    velocity = np.where(hits, rng.integers(1, 128, hits.shape) / MAX_VELOCITY, 0).astype(np.float32)
    offset = np.where(hits, rng.integers(-32768, 32768, hits.shape) / OFFSET_UNITS, 0).astype(np.float32)
    return DrumGroove(GRID, hits, velocity, offset, tempo=float(draw(st.integers(30, 250))))


@given(grooves())
@settings(max_examples=60, deadline=None)
def test_groove_to_midi_and_back(groove):
    song = quantize(read_performance(groove_to_midi(groove, GENERAL_MIDI)), GRID, GENERAL_MIDI)
    windows = song.windows()
    assert song.doubled_hits == 0
    assert np.array_equal(windows.tokens[0], groove.tokens)
    back = windows.groove(0, GRID)
    assert np.array_equal(back.velocity, groove.velocity)
    assert np.abs(back.offset - groove.offset).max(initial=0) <= 1 / STEP + 1e-6
    assert back.tempo == pytest.approx(groove.tempo, rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from([36, 38, 42, 49]), st.integers(1, 127)), max_size=80))
@settings(max_examples=100, deadline=None)
def test_equals_a_plain_loop(hits):
    unique = {(tick, pitch): velocity for tick, pitch, velocity in hits}
    hits = [(tick, pitch, velocity) for (tick, pitch), velocity in unique.items()]
    song = quantize(performance(*hits), GRID, GENERAL_MIDI)

    cells: dict[tuple[int, int], tuple[int, int]] = {}
    for tick, pitch, velocity in hits:
        cell = ((tick + STEP // 2) // STEP, {36: 0, 38: 1, 42: 2, 49: 7}[pitch])
        cells[cell] = min(cells.get(cell, (0, 0)), (-velocity, tick))
    assert list(zip(song.step.tolist(), song.drum.tolist(), strict=True)) == sorted(cells)
    assert song.velocity.tolist() == [-cells[cell][0] for cell in sorted(cells)]
    assert song.doubled_hits == len(hits) - len(cells)


def test_performance_survives_midi():
    played = performance((0, 36, 1), (0, 38, 127), (7, 36, 64), (7 * 480, 22, 100))
    back = read_performance(performance_to_midi(played))
    assert back.tick.tolist() == played.tick.tolist()
    assert back.pitch.tolist() == played.pitch.tolist()
    assert back.velocity.tolist() == played.velocity.tolist()


def test_windows_decode_to_their_own_hits():
    song = quantize(performance((0, KICK, 9), (3 * 4 * 480, SNARE, 9)), GRID, GENERAL_MIDI)
    windows = song.windows()
    assert np.array_equal(hits_from_tokens(windows.tokens, 9), windows.velocity > 0)
