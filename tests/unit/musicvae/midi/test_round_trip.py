"""Performance -> MIDI -> windows -> tokens -> groove -> MIDI -> windows: what must come back as it was."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.data.windows import OFFSET_UNITS, WindowBlock
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove, hits_from_tokens
from musicvae.midi.performance import Performance, read_performance
from musicvae.midi.quantize import QuantizedSong, quantize
from musicvae.midi.settings import TICKS_PER_QUARTER
from musicvae.midi.writer import groove_to_midi, performance_to_midi
from tests.support.midi.midi_bytes import Event, hit, metre, midi_file, tempo

GRID = GridSpec()
GENERAL_MIDI = DrumMap.load("general_midi")
PITCHES = [int(pitch) for pitch in np.flatnonzero(GENERAL_MIDI.class_of_pitch >= 0)]
DIVISIONS = st.sampled_from([24, 96, 100, 192, 220, 480, 960, 1024, 32767])
BARS = 9


@st.composite
def pieces(draw):
    """(ticks of a quarter note, hits, tempos, metres); hits of (tick, pitch, velocity), no two in a tick and pitch."""
    division = draw(DIVISIONS)
    tick = st.one_of(
        st.integers(0, BARS * 4 * division),
        st.integers(0, BARS * 16).map(lambda step: step * division // 4),
        st.integers(0, BARS).map(lambda bar: bar * 4 * division),
    )
    hits = draw(st.dictionaries(st.tuples(tick, st.sampled_from(PITCHES)), st.integers(1, 127), max_size=60))
    tempos = draw(st.lists(st.tuples(tick, st.integers(20, 300)), max_size=3))
    signatures = st.sampled_from([(4, 4), (3, 4), (6, 8), (5, 4)])
    metres = draw(st.lists(st.tuples(tick, signatures), max_size=2))
    return division, [(*place, velocity) for place, velocity in hits.items()], tempos, metres


def song(data: bytes) -> QuantizedSong:
    return quantize(read_performance(data), GRID, GENERAL_MIDI)


def file_of(division: int, hits, tempos, metres) -> bytes:
    events: list[Event] = [event for tick, *note in hits for event in hit(tick, *note, length=1)]
    signatures = [metre(tick, *signature) for tick, signature in metres]
    return midi_file([tempo(*change) for change in tempos] + signatures, events, division=division)


def assert_same_windows(first: WindowBlock, second: WindowBlock) -> None:
    assert np.array_equal(first.tokens, second.tokens)
    assert np.array_equal(first.velocity, second.velocity)
    assert np.array_equal(first.offset, second.offset)
    assert [meta.bar for meta in first.meta] == [meta.bar for meta in second.meta]


@given(pieces())
@settings(max_examples=100, deadline=None)
def test_a_performance_survives_midi_with_its_maps(piece):
    first = read_performance(file_of(*piece))
    second = read_performance(performance_to_midi(first))
    for name in ("tick", "pitch", "velocity"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert second.metres == first.metres
    assert [tick for tick, _ in second.tempos] == [tick for tick, _ in first.tempos]
    assert np.allclose([bpm for _, bpm in second.tempos], [bpm for _, bpm in first.tempos], rtol=1e-5)
    windows = [quantize(performance, GRID, GENERAL_MIDI).windows() for performance in (first, second)]
    assert_same_windows(*windows)


@given(pieces())
@settings(max_examples=100, deadline=None)
def test_windows_survive_tokens_grooves_and_midi(piece):
    windows = song(file_of(*piece)).windows()
    for number in range(len(windows)):
        groove = windows.groove(number, GRID)
        assert np.array_equal(groove.hits, hits_from_tokens(windows.tokens[number], 9))
        back = song(groove_to_midi(groove, GENERAL_MIDI))
        assert back.doubled_hits == back.outside_hits == 0
        assert back.unknown_pitches == {}
        step, drum = np.nonzero(groove.hits)
        assert back.step.tolist() == step.tolist()
        assert back.drum.tolist() == drum.tolist()
        assert np.abs(back.velocity / MAX_VELOCITY - groove.velocity[step, drum]).max(initial=0) <= 1 / MAX_VELOCITY
        ticks = np.abs(back.offset / OFFSET_UNITS - groove.offset[step, drum]) * TICKS_PER_QUARTER / GRID.steps_per_beat
        assert ticks.max(initial=0) <= 1
        if groove.hits[3 * GRID.steps_per_bar :].any():
            assert np.array_equal(back.windows().tokens, windows.tokens[number : number + 1])


@given(pieces(), st.lists(st.tuples(st.integers(0, 20_000), st.integers(20, 300)), max_size=4))
@settings(max_examples=100, deadline=None)
def test_tempo_changes_move_no_hit_on_the_grid(piece, changes):
    division, hits, tempos, metres = piece
    steady = song(file_of(division, hits, [], metres)).windows()
    changing = song(file_of(division, hits, tempos + changes, metres)).windows()
    assert_same_windows(steady, changing)


@given(pieces())
@settings(max_examples=100, deadline=None)
def test_no_window_holds_a_change_of_metre(piece):
    data = file_of(*piece)
    performance = read_performance(data)
    division = performance.ticks_per_quarter
    for section in song(data).sections:
        length = section.bars * 4 * division
        inside = [start for start, *_ in performance.metres if section.start < start < section.start + length]
        in_force = [signature for start, *signature in performance.metres if start <= section.start]
        assert (in_force or [[4, 4]])[-1] == [4, 4]
        # Within a section nothing but 4/4 can be said, and only on its bar lines.
        for start, *signature in performance.metres:
            if start in inside:
                assert signature == [4, 4]
                assert (start - section.start) % (4 * division) == 0


@given(st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_any_groove_survives_midi(seed, density):
    rng = np.random.default_rng(seed)
    hits = rng.random((64, 9)) < density
    velocity = np.where(hits, rng.integers(1, 128, hits.shape) / MAX_VELOCITY, 0).astype(np.float32)
    offset = np.where(hits, rng.integers(-32768, 32768, hits.shape) / OFFSET_UNITS, 0).astype(np.float32)
    back = song(groove_to_midi(DrumGroove(GRID, hits, velocity, offset), GENERAL_MIDI))
    step, drum = np.nonzero(hits)
    assert (back.step.tolist(), back.drum.tolist()) == (step.tolist(), drum.tolist())
    assert np.array_equal(back.velocity, np.rint(velocity[step, drum] * MAX_VELOCITY))


def test_a_performance_of_many_equal_ticks_survives():
    tick = np.zeros(20, dtype=np.int64)
    pitch = np.arange(30, 50, dtype=np.uint8)
    performance = Performance(tick, pitch, pitch, 96)
    assert read_performance(performance_to_midi(performance)).pitch.tolist() == pitch.tolist()
