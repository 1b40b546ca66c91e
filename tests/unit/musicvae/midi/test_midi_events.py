"""The events of a Standard MIDI File, and what is no such file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicvae.midi.parser import MAX_TICKS, MidiEvents, TooManyHitsError, read_events
from musicvae.midi.performance import Performance, read_performance, read_performances
from musicvae.midi.settings import ReadingSettings
from musicvae.midi.tracks import MAX_CHANGES, MidiError, SmpteError
from tests.support.midi.midi_bytes import Event, hit, marker, metre, midi_file, raw_file, tempo, track_name

pytestmark = pytest.mark.usefixtures("without_shape_checks")

ON, OFF = 0x99, 0x89


def hits(events: MidiEvents | Performance) -> list[tuple[int, int, int]]:
    return list(zip(events.tick.tolist(), events.pitch.tolist(), events.velocity.tolist(), strict=True))


def hits_of(*tracks: list[Event]) -> list[tuple[int, int, int]]:
    [events] = read_events(midi_file(*tracks))
    return hits(events)


def test_a_drum_struck_again_before_its_note_off_is_two_hits():
    found = hits_of([(0, bytes([ON, 36, 90])), (50, bytes([ON, 36, 80])), (99, bytes([OFF, 36, 0]))])
    assert found == [(0, 36, 90), (50, 36, 80)]


def test_a_hit_without_length_or_without_end_counts():
    assert hits_of(hit(10, 38, length=0), [(20, bytes([ON, 42, 5]))]) == [(10, 38, 100), (20, 42, 5)]


def test_running_status_and_velocity_zero():
    found = hits_of([(0, bytes([ON, 36, 90])), (5, bytes([36, 0])), (9, bytes([38, 70]))])
    assert found == [(0, 36, 90), (9, 38, 70)]


def test_running_status_holds_over_meta_events_and_over_events_of_one_data_byte():
    note, program = bytes([ON, 36, 90]), b"\xc9\x05"
    assert hits_of([(0, note), marker(3), (4, bytes([38, 70]))]) == [(0, 36, 90), (4, 38, 70)]
    # After a program change a lone data byte is another program until a status byte says otherwise.
    events = [(0, note), (1, program), (2, b"\x24"), marker(3), (4, b"\x26"), (5, note), (6, bytes([38, 1]))]
    assert hits_of(events) == [(0, 36, 90), (5, 36, 90), (6, 38, 1)]


def test_all_tracks_and_only_channel_ten():
    tracks = [hit(480, 36), hit(0, 38), hit(7, 60, channel=0), [(1, b"\xc9\x05"), (2, b"\xd9\x40"), *hit(3, 42)]]
    performance = read_performance(midi_file(*tracks))
    assert performance.tick.tolist() == [0, 3, 480]
    assert performance.pitch.tolist() == [38, 42, 36]


def test_other_channels_when_they_are_named():
    tracks = [hit(0, 36), hit(1, 38, channel=0), hit(2, 42, channel=15)]
    [events] = read_events(midi_file(*tracks), ReadingSettings(channels=(1, 16)))
    assert [pitch for _, pitch, _ in hits(events)] == [38, 42]


@pytest.mark.parametrize("name", [b"Drums", b"my DRUMKIT", b"Percussion 2", b"kit", b"the beat"])
def test_tracks_that_are_named_like_drums_count_on_every_channel_if_asked(name):
    data = midi_file([track_name(name), *hit(0, 36, channel=2)], [track_name(b"Bass"), *hit(1, 38, channel=3)])
    assert hits(read_events(data)[0]) == []
    assert hits(read_events(data, ReadingSettings(drum_tracks=True))[0]) == [(0, 36, 100)]


def test_each_track_of_format_two_is_a_piece_of_its_own():
    tracks = [
        [tempo(0, 90), metre(0, 4, 4), *hit(0, 36), marker(960)],
        [tempo(5, 150), metre(0, 3, 4), *hit(7, 38)],
        [marker(3)],
    ]
    first, second, third = read_performances(midi_file(*tracks, kind=2))
    assert (hits(first), first.metres, first.end) == ([(0, 36, 100)], ((0, 4, 4),), 960)
    assert (hits(second), second.metres, second.end) == ([(7, 38, 100)], ((0, 3, 4),), 67)
    assert [round(piece.tempos[-1][1]) for piece in (first, second, third)] == [90, 150, 120]
    assert (hits(third), third.metres, third.end) == ([], ((0, 4, 4),), 3)
    with pytest.raises(MidiError, match="format 2 with 3 pieces"):
        read_performance(midi_file(*tracks, kind=2))


def test_the_end_is_the_latest_of_all_tracks():
    [events] = read_events(midi_file(hit(0, 36), [marker(5000)], [marker(700)]))
    assert events.end == 5000


def test_system_exclusive_and_unknown_meta_events_are_stepped_over():
    assert hits_of([(0, b"\xf0\x03\x99\x24\xf7"), (1, b"\xff\x01\x02\x99\x24"), *hit(2, 36)]) == [(2, 36, 100)]


def test_tempo_and_metre_maps():
    tracks = [
        [tempo(0, 60), tempo(0, 90), metre(0, 6, 8), metre(960, 4, 4)],
        [tempo(960, 150), metre(0, 7, 8), *hit(0, 36)],
    ]
    performance = read_performance(midi_file(*tracks))
    assert [tick for tick, _ in performance.tempos] == [0, 960]
    assert performance.metres == ((0, 7, 8), (960, 4, 4)), "of two in one tick the last holds"
    at = performance.tempo_at(np.array([0, 959, 960, 10**6]))
    assert at.tolist() == pytest.approx([90, 90, 150, 150], abs=1e-3)
    plain = read_performance(midi_file(hit(0, 36)))
    assert (plain.tempos, plain.metres) == (((0, 120.0),), ((0, 4, 4),))


def test_before_a_late_first_tempo_it_is_120():
    performance = read_performance(midi_file([tempo(700, 90)], hit(0, 36)))
    assert performance.tempo_at(np.array([0, 699, 700])).tolist() == pytest.approx([120, 120, 90], abs=1e-3)
    assert performance.first_tempo == 700


def test_tempos_and_metres_of_nothing_are_passed_over():
    body = b"\x00\xff\x51\x03\0\0\0" + b"\x00\xff\x58\x04\0\x02\x18\x08"
    performance = read_performance(raw_file(body))
    assert (performance.tempos, performance.metres) == (((0, 120.0),), ((0, 4, 4),))


@given(st.integers(0, 2**28 - 1))
def test_deltas_of_one_to_four_bytes(tick):
    assert hits_of(hit(tick, 36, length=0)) == [(tick, 36, 100)]


GOOD = midi_file([tempo(0, 120)], hit(0, 36))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "the file is empty"),
        (b"ID3\x04abc", "no MIDI header"),
        (GOOD[:9], "header is cut off"),
        (GOOD[:-3], "a chunk ends at byte"),
        (GOOD[:33], "1 tracks fewer"),
        (midi_file(kind=3), "format 3"),
        (GOOD[:12] + b"\xe7\x28" + GOOD[14:], "SMPTE"),
        (GOOD[:12] + b"\x00\x00" + GOOD[14:], "0 ticks"),
        (midi_file([(0, b"\x24\x40")]), "before any status byte"),
        (midi_file(hit(0, 36), [(0, b"\x24\x40")]), "before any status byte"),
        (midi_file([(0, bytes([ON, 200, 1]))]), "99 c8 01 are not an event"),
        (midi_file([(0, b"\xf2\x00\x00")]), "0xf2"),
        (midi_file([(0, b"\xff\x01\xff\xff\xff\xff\x00")]), "more than four bytes"),
        (midi_file([(0, b"\xff\x01\x7f")]), "ends within an event"),
        (raw_file(b"\x00"), "ends within an event"),
        (raw_file(b"\x00\x99\x24"), "ends within an event"),
        (raw_file(b"\x00\xc9"), "ends within an event"),
        (raw_file(b"\x00\xff"), "ends within an event"),
        (raw_file(b"\xff\xff\xff\xff\x7f\x99\x24\x40"), "more than four bytes"),
        (raw_file() + b"MTrk\0\0\0\0" * 65536, "65536 tracks"),
    ],
)
def test_what_is_damaged_is_named(data, found):
    with pytest.raises(MidiError, match=found):
        read_events(data, ReadingSettings(salvage="off"))


def test_a_track_of_more_ticks_than_can_be_ordered_is_refused():
    longest_delta, note = 2**28 - 1, b"\xff\xff\xff\x7f\x24\x40"
    most = (MAX_TICKS - 1) // longest_delta
    track = b"\x00\x99\x24\x01" + note * most
    performance = read_performance(raw_file(track + b"\x00\x24\x01"))
    assert performance.end == most * longest_delta
    assert (performance.velocity[-2:] == [1, 64]).all()
    with pytest.raises(MidiError, match="ticks"):
        read_events(raw_file(track + note))


def test_smpte_time_is_told_from_damage():
    with pytest.raises(SmpteError):
        read_events(GOOD[:12] + b"\xe7\x28" + GOOD[14:])


def test_more_hits_than_are_taken_are_counted_over_all_pieces():
    data = midi_file(hit(0, 36), hit(0, 38), kind=2)
    assert len(read_events(data, max_hits=2)) == 2
    with pytest.raises(TooManyHitsError) as error:
        read_events(data, max_hits=1)
    assert error.value.hits == 2


# Events of every kind: their bytes without the delta, and how many data bytes come after an optional status byte.
ONE_DATA = st.tuples(st.integers(0xC0, 0xDF), st.integers(0, 127))
TWO_DATA = st.tuples(
    st.sampled_from([0x80, 0x89, 0x90, 0x99, 0xA9, 0xB0, 0xB9, 0xE9]), st.integers(0, 127), st.integers(0, 127)
)
SYSTEM = st.sampled_from([b"\xff\x06\x00", b"\xff\x01\x03abc", b"\xf0\x02\x24\xf7", b"\xf7\x01\x99"])


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.one_of(st.integers(0, 130), st.integers(0, 2**28 - 1)),
                st.one_of(TWO_DATA, ONE_DATA, SYSTEM),
                st.booleans(),
            ),
            max_size=30,
        ),
        max_size=3,
    )
)
def test_equals_a_plain_loop_over_the_events(tracks):
    bodies, expected = [], []
    for track in tracks:
        body, tick, running = b"", 0, None
        for delta, event, may_run in track:
            tick += delta
            groups = [delta & 0x7F]
            while delta := delta >> 7:
                groups.append(0x80 | delta & 0x7F)
            body += bytes(reversed(groups))
            if isinstance(event, bytes):
                body += event
                continue
            body += bytes(event[1:] if may_run and event[0] == running else event)
            running = event[0]
            if event[0] == ON and event[2]:
                expected.append((tick, event[1], event[2]))
        bodies.append(body)
    [events] = read_events(raw_file(*bodies))
    assert hits(events) == expected


@given(st.binary(max_size=200), st.integers(0, 2))
def test_any_track_is_read_or_refused(body, kind):
    try:
        pieces = read_events(raw_file(body, kind=kind))
    except MidiError:
        return
    for tick, pitch, velocity in hits(pieces[0]):
        assert tick >= 0
        assert 0 <= pitch < 128
        assert 0 < velocity < 128


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(place, byte):
    try:
        pieces = read_events(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    except MidiError:
        return
    for events in pieces:
        assert events.division > 0
        assert all(0 <= pitch < 128 and 0 < velocity < 128 for _, pitch, velocity in hits(events))


@pytest.mark.parametrize("change", [b"\x00\xff\x51\x03\x07\xa1\x20", b"\x00\xff\x58\x04\x04\x02\x18\x08"])
def test_more_changes_than_any_music_has_are_refused_before_they_pile_up(change):
    assert read_events(raw_file(change * MAX_CHANGES))
    with pytest.raises(MidiError, match="more than 100000 changes of tempo and metre"):
        read_events(raw_file(change * (MAX_CHANGES + 1)))


@pytest.mark.parametrize("drum_tracks", [False, True])
def test_a_header_without_tracks_is_told_alike_whatever_is_asked_for(drum_tracks):
    pieces = read_events(raw_file(), ReadingSettings(drum_tracks=drum_tracks))
    assert [len(piece.pitch) for piece in pieces] in ([], [0])
