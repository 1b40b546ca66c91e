"""Grooves, and their exact translation to tokens."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicvae.errors import ConfigError, DataError
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, hits_from_tokens, tokens_from_hits

GRID = GridSpec()


def arrays() -> dict[str, np.ndarray]:
    hits = np.zeros((64, 9), dtype=bool)
    hits[0, 0] = hits[4, 1] = True
    return {
        "hits": hits,
        "velocity": np.where(hits, 0.5, 0).astype(np.float32),
        "offset": np.where(hits, -0.25, 0).astype(np.float32),
    }


def test_every_token_and_every_subset_are_exact_inverses():
    tokens = np.arange(512, dtype=np.int16)
    hits = hits_from_tokens(tokens, 9)
    assert hits.shape == (512, 9)
    assert len(np.unique(hits, axis=0)) == 512
    assert np.array_equal(tokens_from_hits(hits), tokens)


@given(st.integers(1, 15), st.integers(0, 2**32))
def test_any_number_of_drums(num_drums, seed):
    hits = np.random.default_rng(seed).random((2, 5, num_drums)) < 0.5
    assert np.array_equal(hits_from_tokens(tokens_from_hits(hits), num_drums), hits)


def test_bit_i_is_drum_i():
    assert tokens_from_hits(np.eye(9, dtype=bool)).tolist() == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_tokens_of_a_groove():
    tokens = DrumGroove(GRID, **arrays()).tokens
    assert (tokens.shape, tokens[0], tokens[4], tokens.sum()) == ((64,), 1, 2, 3)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("velocity", (0, 0), 1.5, "velocity must lie in 0..1"),
        ("velocity", (1, 1), 0.5, "zero where there is no hit"),
        ("offset", (0, 0), 0.5, "offset must lie in"),
        ("offset", (0, 0), -0.51, "offset must lie in"),
        ("offset", (9, 3), 0.1, "zero where there is no hit"),
    ],
)
def test_what_a_groove_may_not_hold(name, place, value, message):
    values = arrays()
    values[name][place] = value
    with pytest.raises(ValueError, match=message):
        DrumGroove(GRID, **values)


def test_other_shapes_and_tempi_are_refused():
    with pytest.raises(ValueError, match="shape"):
        DrumGroove(GridSpec(bars=2), **arrays())
    with pytest.raises(ValueError, match="tempo"):
        DrumGroove(GRID, **arrays(), tempo=0.0)


def test_grid_lengths_follow():
    assert (GRID.steps_per_bar, GRID.num_steps) == (16, 64)
    assert GridSpec(2, 3, 2).num_steps == 12
    with pytest.raises(ValueError, match=r"grid\.bars"):
        GridSpec(bars=0)


def test_a_pretty_midi_object_is_read_and_made_by_the_rules_of_files(tmp_path):
    rng = np.random.default_rng(0)
    hits = rng.random((GRID.num_steps, 9)) < 0.2
    hits[0, 0] = hits[-1, 2] = True
    velocity = np.where(hits, rng.integers(1, 128, hits.shape) / 127, 0).astype(np.float32)
    offset = np.where(hits, rng.uniform(-0.4, 0.4, hits.shape), 0).astype(np.float32)
    offset[0, 0] = -0.3
    groove = DrumGroove(GRID, hits, velocity, offset, tempo=93.0)
    groove.to_midi(tmp_path / "groove.mid")
    midi = groove.to_pretty_midi()
    (drums,) = midi.instruments
    assert drums.is_drum
    assert len(drums.notes) == hits.sum()
    read = DrumGroove.from_midi(tmp_path / "groove.mid")
    again = DrumGroove.from_pretty_midi(midi)
    for one in (read, again):
        assert np.array_equal(one.hits, hits)
        np.testing.assert_allclose(one.velocity, velocity, atol=1e-6)
        np.testing.assert_allclose(one.offset, offset, atol=0.01)
        assert one.tempo == pytest.approx(93.0, rel=1e-5)
    midi.instruments.clear()
    with pytest.raises(DataError, match="a PrettyMIDI object has no usable groove"):
        DrumGroove.from_pretty_midi(midi)


def test_without_pretty_midi_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pretty_midi", None)
    with pytest.raises(ConfigError, match="pip install pretty_midi"):
        DrumGroove(GRID, **arrays()).to_pretty_midi()
