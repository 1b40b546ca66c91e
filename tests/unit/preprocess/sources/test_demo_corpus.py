"""The composed corpus: reproducible, varied, played like drums."""

import numpy as np
import pytest

from musicvae.data.windows import OFFSET_UNITS, WindowBlock
from musicvae.groove.distance import window_hashes
from musicvae.groove.drum_map import DrumMap
from musicvae.midi.performance import read_performance
from preprocess.convert import convert
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings
from preprocess.sources.demo import Style, compose, read_styles, write_demo_corpus

GENERAL_MIDI = DrumMap.load("general_midi")
PERFORMANCES = 150


@pytest.fixture(scope="module")
def conversions():
    pieces = [compose(number, seed=0) for number in range(PERFORMANCES)]
    return [convert(data, BuildSettings(), GENERAL_MIDI, source=name, style=style) for name, style, data in pieces]


@pytest.fixture(scope="module")
def windows(conversions) -> list[WindowBlock]:
    return [conversion.result for conversion in conversions if not isinstance(conversion.result, Rejection)]


def test_the_seed_decides_and_more_performances_change_none(tmp_path):
    few = write_demo_corpus(tmp_path / "few", performances=5, seed=3)
    many = write_demo_corpus(tmp_path / "many", performances=8, seed=3)
    other = write_demo_corpus(tmp_path / "other", performances=5, seed=4)
    assert list(few) == list(many)[:5]
    for name in few:
        assert (tmp_path / "few" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    assert set(few) != set(other)


def test_many_styles_and_tempi(windows):
    metas = [block.meta[0] for block in windows]
    assert len({meta.style for meta in metas}) >= 12
    assert len({round(meta.tempo) for meta in metas}) >= 40
    assert len(read_styles()) >= 12


def test_only_three_four_is_rejected(conversions):
    rejections = [conversion.result for conversion in conversions if isinstance(conversion.result, Rejection)]
    assert 1 <= len(rejections) <= PERFORMANCES // 10
    assert {rejection.reason for rejection in rejections} == {Reason.METRE}


def test_every_pitch_is_known_and_hardly_a_hit_is_lost(conversions):
    readings = [conversion.counts.reading for conversion in conversions]
    assert not any(reading.unknown for reading in readings)
    assert sum(reading.merged for reading in readings) < 0.001 * sum(reading.hits for reading in readings)


def test_performances_differ_from_each_other(windows):
    hashes = [set(window_hashes(block.tokens).tolist()) for block in windows]
    every = [window for one in hashes for window in one]
    assert len(set(every)) > 0.98 * len(every)


def test_hands_are_uneven_but_not_drunk(windows):
    velocity = np.concatenate([block.velocity[block.velocity > 0] for block in windows]).astype(float)
    offset = np.concatenate([block.offset[block.velocity > 0] for block in windows]) / OFFSET_UNITS
    assert 15 < velocity.std() < 45
    assert 0.05 < offset.std() < 0.25
    assert abs(offset.mean()) < 0.1


def test_ghost_notes_and_accents(windows):
    velocity = np.concatenate([block.velocity.reshape(-1, 9) for block in windows])
    snare = velocity[:, 1][velocity[:, 1] > 0]
    assert np.mean(snare < 60) > 0.1
    assert np.mean(snare > 90) > 0.3


def test_all_drum_classes_sound(windows):
    hits = np.concatenate([block.velocity.reshape(-1, 9) for block in windows]) > 0
    assert (hits.sum(axis=0) > 50).all()


def test_a_performance_starts_in_its_first_bar_and_lasts_its_bars():
    for number in range(40):
        performance = read_performance(compose(number, seed=1)[2])
        beats = performance.metres[0][1]
        assert performance.tick[0] < beats * 480
        assert 7 * beats * 480 < performance.tick[-1] < 24.5 * beats * 480


def test_a_pattern_of_another_length_than_its_bar_is_refused():
    with pytest.raises(ValueError, match=r"'polka': no bar of 4 x 4 cells: X\.\.\."):
        Style("polka", 1, (90, 120), 4, 4, (0, 0), ("X...",), (), "snare", (), ())
