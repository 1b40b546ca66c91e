"""Many grooves as MIDI at once: the hits come back from every reader, and a file is as long as its loop."""

import io

import numpy as np
import pretty_midi
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.midi.performance import Performance, played_otherwise, read_performance
from musicvae.midi.quantize import changes_of, quantize
from musicvae.midi.settings import LOOP_MARK, MAX_TICKS, MIN_TICKS
from musicvae.midi.writer import MidiLayout, grooves_to_midi, performance_to_midi

GRID = GridSpec()
ROLAND, GENERAL_MIDI = DrumMap.load("roland"), DrumMap.load("general_midi")
PITCHES = tuple(ROLAND.written_pitch.tolist())
TEMPO = 104.0


def some_grooves(count: int, *, density: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, velocity and offset of all kinds, the extremes among them."""
    rng = np.random.default_rng(seed)
    hits = rng.random((count, GRID.num_steps, ROLAND.num_drums)) < density
    velocity = rng.choice([0.001, 0.4, 1.0], hits.shape).astype(np.float32)
    offset = rng.choice([-0.5, -0.2, 0.0, 0.499], hits.shape).astype(np.float32)
    return hits, velocity, offset


def written(arrays: tuple[np.ndarray, ...], layout: MidiLayout) -> list[bytes]:
    names = [f"groove-{number:05d}" for number in range(len(arrays[0]))]
    return grooves_to_midi(*arrays, [TEMPO] * len(names), names, GRID, layout)


@settings(max_examples=25, deadline=None)
@given(
    file_format=st.sampled_from([0, 1]),
    ticks=st.sampled_from([MIN_TICKS, 96, 100, 480, 960, MAX_TICKS]),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    seed=st.integers(0, 100),
)
def test_hits_come_back_and_the_file_is_as_long_as_the_loop(file_format, ticks, density, seed):
    arrays = some_grooves(3, density=density, seed=seed)
    for number, data in enumerate(written(arrays, MidiLayout(PITCHES, file_format, ticks))):
        performance = read_performance(data)
        assert performance.end == 16 * ticks
        assert performance.ticks_per_quarter == ticks
        assert performance.tempo_at(np.array([0]))[0] == pytest.approx(TEMPO, rel=1e-6)
        assert performance.metres == ((0, 4, 4),)
        song = quantize(performance, GRID, ROLAND)
        last_bar = arrays[0][number][-GRID.steps_per_bar :]
        if last_bar.any():  # a file ends with the bar of its last hit, and a shorter one has no window
            np.testing.assert_array_equal(song.windows().groove(0, GRID).hits, arrays[0][number])
        assert len(performance.tick) == arrays[0][number].sum()


@pytest.mark.parametrize("file_format", [0, 1])
def test_pretty_midi_and_symusic_see_the_same_hits_names_and_tempo(file_format):
    arrays = some_grooves(4)
    for number, data in enumerate(written(arrays, MidiLayout(PITCHES, file_format))):
        (drums,) = pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments
        score = symusic.Score.from_midi(data)
        name = f"groove-{number:05d}" if file_format == 0 else "drums"
        (track,) = [track for track in score.tracks if len(track.notes)]
        assert drums.is_drum
        assert track.is_drum
        assert (drums.name, track.name) == (name, name)
        seconds = TEMPO / 60 * GRID.steps_per_beat
        for hits in (
            [(note.start * seconds, note.pitch) for note in drums.notes],
            [(note.time / 120, note.pitch) for note in track.notes],
        ):
            found = np.zeros_like(arrays[0][number])
            for step, pitch in hits:
                found[int(np.floor(step + 0.5 + 1e-4)) % GRID.num_steps, ROLAND.class_of_pitch[pitch]] = True
            np.testing.assert_array_equal(found, arrays[0][number])
        assert f"groove-{number:05d}".encode() in data
        assert score.tempos[0].qpm == pytest.approx(TEMPO, rel=1e-6)


def test_a_drum_is_never_struck_while_it_sounds():
    """Readers pair the notes of a pitch in different ways where they overlap."""
    arrays = some_grooves(8, density=1.0)
    for data in written(arrays, MidiLayout(PITCHES)):
        (track,) = [track for track in symusic.Score.from_midi(data).tracks if len(track.notes)]
        ends: dict[int, int] = {}
        for note in sorted(track.notes, key=lambda note: note.time):
            assert note.time >= ends.get(note.pitch, 0)
            assert note.duration >= 1
            ends[note.pitch] = note.time + note.duration
        assert max(ends.values()) <= 16 * 480


def early_and_late(offset: float, *, late: float = 0.499) -> tuple[np.ndarray, ...]:
    """A kick on the first step and one on the last, and another groove with the last alone."""
    hits = np.zeros((2, GRID.num_steps, ROLAND.num_drums), dtype=bool)
    hits[0, 0, 0] = hits[:, -1, 0] = True
    offset_of = np.zeros(hits.shape, dtype=np.float32)
    offset_of[0, 0, 0], offset_of[:, -1, 0] = offset, late
    return hits, np.where(hits, np.float32(0.5), np.float32(0)), offset_of


@pytest.mark.parametrize("file_format", [0, 1])
@pytest.mark.parametrize("ticks", [MIN_TICKS, 100, 480])
@pytest.mark.parametrize("offset", [-0.5, -0.26, -0.1])
def test_an_early_first_hit_is_at_the_end_of_the_loop_and_read_as_it_was(file_format, ticks, offset):
    arrays = early_and_late(offset)
    wrapped, other = written(arrays, MidiLayout(PITCHES, file_format, ticks))
    performance = read_performance(wrapped)
    assert performance.tick[-1] == 16 * ticks + np.rint(float(np.float32(offset)) * ticks / 4)
    assert performance.end == 16 * ticks
    assert LOOP_MARK in wrapped
    assert LOOP_MARK not in other
    (track,) = [track for track in symusic.Score.from_midi(wrapped).tracks if len(track.notes)]
    first, last = sorted(track.notes, key=lambda note: note.time)
    assert first.time + first.duration <= last.time < last.time + last.duration == 16 * ticks, "neither is swallowed"
    song = quantize(performance, GRID, ROLAND)
    assert song.step.tolist() == [0, 63]
    assert song.windows().groove(0, GRID).offset[0, 0] == pytest.approx(offset, abs=2.1 / ticks)
    assert read_performance(other).tick.tolist() == performance.tick[:-1].tolist()


def test_what_is_at_the_end_of_a_loop_is_played_otherwise_there():
    """As `jobs.sample --humanize` does with the file of an earlier groove."""
    data = written(early_and_late(-0.2, late=0.2), MidiLayout(PITCHES))[0]
    song = quantize(read_performance(data), GRID, ROLAND)
    changes = changes_of(song, ROLAND, np.array([100, 20]), np.array([-0.4, 0.0]))
    again = quantize(read_performance(played_otherwise(data, changes)), GRID, ROLAND)
    assert (again.step.tolist(), again.velocity.tolist()) == ([0, 63], [100, 20])
    np.testing.assert_allclose(again.offset / 65536, [-0.4, 0.0], atol=1 / 120)
    changes = changes_of(song, ROLAND, np.array([100, 20]), np.array([0.3, 0.0]))
    again = quantize(read_performance(played_otherwise(data, changes)), GRID, ROLAND)
    assert again.step.tolist() == [0, 63]
    assert again.offset[0] < 0, "it cannot leave the end of the file"


def test_with_a_lead_in_an_early_first_hit_is_in_the_bar_before(tmp_path):
    arrays = some_grooves(3)
    arrays[0][:, 0, 0], arrays[2][:, 0, 0] = True, -0.5
    for number, data in enumerate(written(arrays, MidiLayout(PITCHES, lead_in=True))):
        performance = read_performance(data)
        assert performance.end == 20 * 480
        assert performance.tick[0] == 4 * 480 - 60
        assert LOOP_MARK not in data
        (tmp_path / "led-in.mid").write_bytes(data)
        groove = DrumGroove.from_midi(tmp_path / "led-in.mid", short="silence")
        np.testing.assert_array_equal(groove.hits, arrays[0][number])
        difference = np.abs(groove.offset - arrays[2][number])[groove.hits]
        assert difference.max() <= 1 / 120


def test_a_groove_has_the_same_bytes_alone_and_among_others():
    arrays = some_grooves(5)
    together = written(arrays, MidiLayout(PITCHES))
    for number in range(5):
        one = tuple(array[number : number + 1] for array in arrays)
        alone = grooves_to_midi(*one, [TEMPO], [f"groove-{number:05d}"], GRID, MidiLayout(PITCHES))
        assert alone == [together[number]]


def test_pitches_are_those_asked_for():
    arrays = some_grooves(1, density=1.0)
    toms = {}
    for drum_map in (ROLAND, GENERAL_MIDI):
        (data,) = written(arrays, MidiLayout(tuple(drum_map.written_pitch.tolist())))
        toms[drum_map.name] = set(read_performance(data).pitch.tolist())
    assert toms["general_midi"] - toms["roland"] == {45, 48}


def test_what_midi_has_no_number_for_is_refused():
    with pytest.raises(ValueError, match="ticks"):
        MidiLayout(PITCHES, 1, 0x8000)
    with pytest.raises(ValueError, match="pitches"):
        MidiLayout((128,))


def by_symusic(performance: Performance) -> bytes:
    """The file that symusic writes of a performance, each hit a 32nd note long."""
    score = symusic.Score(performance.ticks_per_quarter)
    score.tempos.extend(symusic.Tempo(*tempo) for tempo in performance.tempos)
    score.time_signatures.extend(symusic.TimeSignature(*metre) for metre in performance.metres)
    track = symusic.Track("drums", 0, True)
    order = np.lexsort((performance.velocity, performance.pitch, performance.tick))
    track.notes = symusic.Note.from_numpy(
        performance.tick[order].astype(np.int32),
        np.full(len(order), performance.ticks_per_quarter // 8, dtype=np.int32),
        performance.pitch[order].astype(np.int8),
        performance.velocity[order].astype(np.int8),
    )
    score.tracks.append(track)
    return score.dumps_midi()


@pytest.mark.parametrize("seed", range(40))
def test_a_performance_is_written_as_symusic_writes_it_to_the_byte(seed):
    """The demo corpus was written by symusic once, and shards of it are known by its bytes."""
    rng = np.random.default_rng(seed)
    hits, end = int(rng.integers(0, 60)), 4000

    def later_marks() -> list[int]:
        return np.unique(rng.integers(1, end, 3)).tolist()

    performance = Performance(
        np.sort(rng.integers(0, end, hits)),
        rng.integers(0, 128, hits).astype(np.uint8),
        rng.integers(1, 128, hits).astype(np.uint8),
        int(rng.choice([96, 480, 960])),
        ((0, 120.0), *((tick, float(rng.uniform(30, 300))) for tick in later_marks())),
        ((0, 4, 4), *((tick, int(rng.integers(1, 13)), 2 ** int(rng.integers(1, 5))) for tick in later_marks())),
    )
    assert performance_to_midi(performance) == by_symusic(performance)
