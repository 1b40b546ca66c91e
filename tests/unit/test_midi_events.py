"""The events of a Standard MIDI File, and what is no such file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicvae.midi import read_performance
from musicvae.midi_events import MidiError, read_events
from tests.midi_bytes import hit, metre, midi_file, tempo

ON, OFF = 0x99, 0x89


def test_a_drum_struck_again_before_its_note_off_is_two_hits():
    events = read_events(midi_file([(0, bytes([ON, 36, 90])), (50, bytes([ON, 36, 80])), (99, bytes([OFF, 36, 0]))]))
    assert events.hits == [(0, 36, 90), (50, 36, 80)]


def test_a_hit_without_length_or_without_end_counts():
    assert read_events(midi_file(hit(10, 38, length=0), [(20, bytes([ON, 42, 5]))])).hits == [
        (10, 38, 100),
        (20, 42, 5),
    ]


def test_running_status_and_velocity_zero():
    events = read_events(midi_file([(0, bytes([ON, 36, 90])), (5, bytes([36, 0])), (9, bytes([38, 70]))]))
    assert events.hits == [(0, 36, 90), (9, 38, 70)]


def test_all_tracks_and_only_channel_ten():
    tracks = [hit(480, 36), hit(0, 38), hit(7, 60, channel=0), [(1, b"\xc9\x05"), (2, b"\xd9\x40"), *hit(3, 42)]]
    performance = read_performance(midi_file(*tracks))
    assert performance.tick.tolist() == [0, 3, 480]
    assert performance.pitch.tolist() == [38, 42, 36]


def test_system_exclusive_and_unknown_meta_events_are_stepped_over():
    events = read_events(midi_file([(0, b"\xf0\x03\x99\x24\xf7"), (1, b"\xff\x01\x02\x99\x24"), *hit(2, 36)]))
    assert events.hits == [(2, 36, 100)]


def test_tempo_and_metre():
    performance = read_performance(midi_file([tempo(0, 60), tempo(0, 90), tempo(960, 150), metre(0, 6, 8)], hit(0, 36)))
    assert performance.tempo == pytest.approx(90, abs=1e-3), "of two tempi in one tick the last holds"
    assert performance.metres == ((0, 6, 8),)
    plain = read_performance(midi_file(hit(0, 36)))
    assert (plain.tempo, plain.metres) == (120.0, ((0, 4, 4),))


@given(st.integers(0, 2**28 - 1))
def test_deltas_of_one_to_four_bytes(tick):
    assert read_events(midi_file(hit(tick, 36, length=0))).hits == [(tick, 36, 100)]


GOOD = midi_file([tempo(0, 120)], hit(0, 36))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "the file is empty"),
        (b"RIFF1234", "no MIDI header"),
        (GOOD[:9], "header is cut off"),
        (GOOD[:-3], "a chunk ends at byte"),
        (GOOD[:33], "1 tracks fewer"),
        (GOOD[:9] + b"\x02" + GOOD[10:], "format 2"),
        (GOOD[:12] + b"\xe7\x28" + GOOD[14:], "SMPTE"),
        (GOOD[:12] + b"\x00\x00" + GOOD[14:], "0 ticks"),
        (midi_file([(0, b"\x24\x40")]), "before any status byte"),
        (midi_file([(0, bytes([ON, 200, 1]))]), "pitch 200"),
        (midi_file([(0, b"\xf2\x00\x00")]), "0xf2"),
        (midi_file([(0, b"\xff\x01\xff\xff\xff\xff\x00")]), "more than four bytes"),
        (midi_file([(0, b"\xff\x01\x7f")]), "ends within an event"),
    ],
)
def test_what_is_damaged_is_named(data, found):
    with pytest.raises(MidiError, match=found):
        read_events(data)


@given(st.binary(max_size=200))
def test_any_track_is_read_or_refused(body):
    data = (
        b"MThd" + (6).to_bytes(4, "big") + b"\x00\x00\x00\x01\x01\xe0" + b"MTrk" + len(body).to_bytes(4, "big") + body
    )
    try:
        events = read_events(data)
    except MidiError:
        return
    assert all(0 <= pitch < 128 and 0 < velocity < 128 and tick >= 0 for tick, pitch, velocity in events.hits)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(place, byte):
    try:
        events = read_events(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    except MidiError:
        return
    assert events.division > 0
    assert all(0 <= pitch < 128 and 0 < velocity < 128 for _, pitch, velocity in events.hits)
