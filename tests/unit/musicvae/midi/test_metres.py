"""Changes of metre and tempo: what stands in windows, compared with a slow reading that walks from bar to bar."""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.midi.performance import Performance, read_performance
from musicvae.midi.quantize import MetreSection, QuantizedSong, metre_sections, quantize
from tests.support.midi.midi_bytes import hit, marker, metre, midi_file, tempo

GENERAL_MIDI = DrumMap.load("general_midi")
CLASS = {36: 0, 38: 1, 42: 2}
QUARTER, BAR = 480, 4 * 480


@pytest.mark.parametrize(
    ("metres", "expected"),
    [
        ([], [(0, 4, 4, 0, None)]),
        ([(0, 4, 4)], [(0, 4, 4, 0, None)]),
        ([(0, 3, 4)], [(0, 3, 4, 0, None)]),
        # Said again on a bar line, 4/4 changes nothing; off it, it begins anew and the cut bar counts.
        ([(0, 4, 4), (3 * BAR, 4, 4)], [(0, 4, 4, 0, None)]),
        ([(2 * BAR + 1, 4, 4)], [(0, 4, 4, 0, 2), (2 * BAR + 1, 4, 4, 3, None)]),
        # The bar lines of a section are its own: two bars of 3/4, then 4/4 from tick 2880 on.
        ([(0, 3, 4), (2880, 4, 4), (2880 + BAR, 4, 4)], [(0, 3, 4, 0, 2), (2880, 4, 4, 2, None)]),
        ([(BAR, 7, 8), (BAR + 1680, 2, 2)], [(0, 4, 4, 0, 1), (BAR, 7, 8, 1, 1), (BAR + 1680, 2, 2, 2, None)]),
        # A first metre that comes late leaves the standard's 4/4 before it.
        ([(5, 3, 4)], [(0, 4, 4, 0, 0), (5, 3, 4, 1, None)]),
    ],
)
def test_stretches_of_a_metre_map(metres, expected):
    assert metre_sections(metres, QUARTER) == [MetreSection(*values) for values in expected]


def song(*tracks, pad_last_bar: bool = True) -> QuantizedSong:
    performance = read_performance(midi_file(*tracks))
    return quantize(performance, GridSpec(), GENERAL_MIDI, pad_last_bar=pad_last_bar)


def kicks(first_tick: int, bars: int, beats: int = 4):
    return [event for beat in range(beats * bars) for event in hit(first_tick + QUARTER * beat, 36)]


def test_windows_come_from_each_stretch_in_four_four_and_none_crosses_a_change():
    # 5 bars of 4/4, 2 of 3/4, 6 of 4/4 from tick 5 * 1920 + 2 * 1440 on.
    third = 5 * BAR + 2 * 1440
    found = song(
        [metre(0, 4, 4), metre(5 * BAR, 3, 4), metre(third, 4, 4), tempo(0, 100), tempo(third + BAR, 140)],
        kicks(0, 5) + kicks(5 * BAR, 2, beats=3) + kicks(third, 6),
    )
    windows = found.windows()
    assert [meta.bar for meta in windows.meta] == [0, 1, 7, 8, 9]
    assert [round(meta.tempo) for meta in windows.meta] == [100, 100, 100, 140, 140]
    assert (windows.tokens == np.tile([1, 0, 0, 0], 16)).all(), "each section has its own bar lines"
    assert (found.bar_counts.other_metre, found.bar_counts.cut, found.outside_hits) == (2, 0, 6)


def test_an_early_first_beat_stays_with_its_bar():
    early = 4 * BAR - 30  # nearest to the first step of bar 4, where 3/4 begins
    found = song([metre(4 * BAR, 3, 4)], kicks(0, 4), hit(early, 38))
    assert found.outside_hits == 1
    assert found.bars == 4
    found = song([metre(0, 3, 4), metre(3 * 1440, 4, 4)], hit(3 * 1440 - 30, 38), kicks(3 * 1440 + QUARTER, 4))
    assert (found.step[0], found.offset[0]) == (0, -65536 // 4)
    assert found.outside_hits == 0


def test_a_bar_that_a_change_cuts_short_is_dropped():
    found = song([metre(4 * BAR + 2 * QUARTER, 4, 4)], kicks(0, 4), kicks(4 * BAR, 6))
    assert [section.bars for section in found.sections] == [4, 6]
    assert (found.bar_counts.cut, found.outside_hits) == (1, 2)
    assert [meta.bar for meta in found.windows().meta] == [0, 5, 6, 7]


def test_only_the_last_bar_of_the_file_needs_padding():
    tracks = [metre(0, 4, 4), metre(4 * BAR, 3, 4), marker(4 * BAR + 1)], kicks(0, 4)
    assert song(*tracks, pad_last_bar=False).bars == 4
    assert song(tracks[1], pad_last_bar=False).bars == 3


@dataclass
class Reference:
    """Windows as {bar: (tokens, tempo)} and counts, by walking bars one at a time with exact fractions."""

    windows: dict[int, tuple[list[int], float]] = field(default_factory=dict)
    outside: int = 0
    other_metre: int = 0
    cut: int = 0
    unfinished: int = 0


def walk(performance: Performance, pad_last_bar: bool) -> Reference:
    result = Reference()
    division = performance.ticks_per_quarter
    step = Fraction(division, 4)
    hits = list(zip(performance.tick.tolist(), performance.pitch.tolist(), strict=True))

    # Sections of one metre, as (start, end, numerator, denominator).
    sections = [[0, None, 4, 4]]
    for tick, *signature in performance.metres:
        start, _, numerator, denominator = sections[-1]
        line = Fraction(start)
        while line < tick:
            line += Fraction(4 * division * numerator, denominator)
        if [numerator, denominator] != signature or line != tick:
            sections[-1][1] = tick
            sections.append([tick, None, *signature])
    sections = [section for section in sections if section[0] != section[1]]

    number = 0
    for start, end, numerator, denominator in sections:
        bar = Fraction(4 * division * numerator, denominator)
        later = [other for other, *_ in sections if other > start]
        mine = [
            (tick, pitch)
            for tick, pitch in hits
            if tick >= start - step / 2 and not any(tick >= other - step / 2 for other in later)
        ]
        is_grid = (numerator, denominator) == (4, 4)
        tokens: dict[int, int] = {}  # of steps since the section's start
        last_bar = -1
        for tick, pitch in mine:
            nearest = (tick - start) / step + Fraction(1, 2)
            place = nearest.numerator // nearest.denominator
            tokens[place] = tokens.get(place, 0) | 1 << CLASS[pitch]
            last_bar = max(last_bar, place // 16 if is_grid else int(max(tick - start, 0) / bar))
        kept = []
        for index in range(last_bar + 1):
            bar_end = start + (index + 1) * bar
            if not is_grid:
                result.other_metre += 1
            elif end is not None and bar_end > end:
                result.cut += 1
            elif end is None and not pad_last_bar and index == last_bar and bar_end > performance.end:
                result.unfinished += 1
            else:
                kept.append(index)
        for tick, _ in mine:
            nearest = (tick - start) / step + Fraction(1, 2)
            result.outside += nearest.numerator // nearest.denominator // 16 not in kept or not is_grid
        for first in kept:
            if first + 3 in kept:
                in_force = [bpm for tick, bpm in performance.tempos if tick <= start + first * bar]
                row = [tokens.get(16 * first + place, 0) for place in range(64)]
                result.windows[number + first] = row, (in_force or [120.0])[-1]
        if end is not None:
            while start < end:
                start += bar
                number += 1
    return result


@st.composite
def pieces(draw):
    """(ticks of a quarter note, metres, tempos, hits as tick and pitch, end)."""
    division = draw(st.sampled_from([1, 2, 3, 5, 24, 96, 480, 997]))
    signatures = st.sampled_from([(4, 4), (4, 4), (3, 4), (7, 8), (2, 2), (5, 16), (1, 64)])
    places = st.one_of(
        st.integers(0, 30).map(lambda bar: 4 * bar * division),
        st.integers(0, 120).map(lambda beat: beat * division),
        st.integers(0, 120 * division),
    )
    metres = sorted(draw(st.dictionaries(places, signatures, max_size=4)).items())
    tempos = sorted(draw(st.dictionaries(places, st.floats(20, 300), max_size=3)).items())
    hits = draw(st.lists(st.tuples(places, st.sampled_from([36, 38, 42])), max_size=60))
    end = max((tick for tick, _ in hits), default=0) + draw(st.integers(0, 4 * division))
    return division, [(start, *signature) for start, signature in metres], tempos, sorted(hits), end


@given(pieces(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_equals_a_walk_from_bar_to_bar(piece, pad_last_bar):
    division, metres, tempos, hits, end = piece
    tick, pitch = np.array(hits, dtype=np.int64).reshape(-1, 2).T
    loud = np.full(len(tick), 100, dtype=np.uint8)
    maps = tuple(tempos) or ((0, 120.0),), tuple(metres) or ((0, 4, 4),)
    performance = Performance(tick, pitch.astype(np.uint8), loud, division, *maps, end)
    expected = walk(performance, pad_last_bar)
    found = quantize(performance, GridSpec(), GENERAL_MIDI, pad_last_bar=pad_last_bar)
    windows = found.windows()
    assert {
        meta.bar: (tokens, meta.tempo) for meta, tokens in zip(windows.meta, windows.tokens.tolist(), strict=True)
    } == expected.windows
    assert len({meta.bar for meta in windows.meta}) == len(windows)
    counts = found.bar_counts
    assert (counts.other_metre, counts.cut, counts.unfinished) == (
        expected.other_metre,
        expected.cut,
        expected.unfinished,
    )
    assert found.outside_hits == expected.outside
    assert len(found.step) + found.doubled_hits + found.outside_hits == len(performance.tick)
