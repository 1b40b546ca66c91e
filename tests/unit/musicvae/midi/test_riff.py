"""MIDI files within RIFF files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicvae.midi.parser import MidiError
from musicvae.midi.performance import read_performance
from tests.support.midi.midi_bytes import hit, midi_file, riff_file

MIDI = midi_file(hit(0, 36), hit(7, 38))


@pytest.mark.parametrize("before", [[], [(b"DISP", b"even")], [(b"DISP", b"odd"), (b"LIST", b"INFO")]])
def test_the_file_within_is_read(before):
    assert read_performance(riff_file(MIDI, *before)).pitch.tolist() == [36, 38]


def test_a_wrong_total_length_changes_nothing():
    data = riff_file(MIDI)
    assert read_performance(data[:4] + b"\0\0\0\0" + data[8:]).pitch.tolist() == [36, 38]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"RIFF1234", "RIFF file of kind b''"),
        (b"RIFF\x08\0\0\0WAVEfmt ", "kind b'WAVE'"),
        (riff_file(MIDI)[:-5], "a RIFF chunk ends at byte"),
        (riff_file(MIDI)[:12], "without a data chunk"),
        (riff_file(b"hello"), "no MIDI header"),
        (riff_file(riff_file(MIDI)), "no MIDI header"),
    ],
)
def test_what_is_damaged_is_named(data, found):
    with pytest.raises(MidiError, match=found):
        read_performance(data)


@given(st.integers(0, len(riff_file(MIDI)) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(place, byte):
    data = bytearray(riff_file(MIDI))
    data[place] = byte
    try:
        performance = read_performance(bytes(data))
    except MidiError:
        return
    assert performance.ticks_per_quarter > 0
    assert all(0 < velocity < 128 for velocity in performance.velocity.tolist())
