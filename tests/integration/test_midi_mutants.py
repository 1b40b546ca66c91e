"""MIDI files that are broken, absurd or hostile, read by us and by a reader that shares no code with ours.

FUZZ_SEED=N runs the test with other mutants; a soak (SOAK=1) reads 100,000 of them.
"""

import os
from random import Random

import pytest

from musicvae.midi.parser import read_events
from musicvae.midi.settings import ReadingSettings
from musicvae.midi.tracks import MidiError
from preprocess.sources.demo import write_demo_corpus
from tests.support.commands import SOAK
from tests.support.midi.midi_bytes import hit, midi_file, riff_file, track_name
from tests.support.midi.midi_mutator import mutants
from tests.support.midi.plain_reader import Hit, UnreadableError, drum_hits

AT_ONCE = 100
COUNT, PARTS = (100_000, 20) if SOAK else (800, 8)
GS_MELODIC, GS_DRUMS = (b"\xf0\x0a\x41\x10\x42\x12\x40\x10\x15" + use + b"\x1b\xf7" for use in (b"\0", b"\1"))
READINGS = (
    ReadingSettings(drum_tracks=True),
    ReadingSettings(channels="auto", salvage="all"),
    ReadingSettings(channels=(1, 2, 10), salvage="others", transpose=-96),
    ReadingSettings(drum_tracks=True, salvage="all", transpose=12),
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("originals")
    write_demo_corpus(folder, performances=20, seed=0)
    sound = midi_file([track_name(b"Drum kit"), *hit(0, 36), *hit(240, 38)], [*hit(0, 42), *hit(480, 60, channel=0)])
    parts = [[(0, GS_MELODIC), *hit(0, 36)], [*hit(0, 38), (480, GS_DRUMS), *hit(500, 42)]]
    pieces = midi_file(*parts, kind=2)
    return [
        *(path.read_bytes() for path in sorted(folder.glob("*.mid"))),
        *(sound, pieces, riff_file(sound), midi_file(parts[0]), midi_file(*reversed(parts), kind=1)),
    ]


def as_we_read(data: bytes) -> list[list[Hit]] | None:
    try:
        pieces = read_events(data, ReadingSettings(salvage="off"))
    except MidiError:
        return None
    return [
        list(zip(piece.tick.tolist(), piece.pitch.tolist(), piece.velocity.tolist(), strict=True)) for piece in pieces
    ]


def as_the_standard_has_it(data: bytes) -> list[list[Hit]] | None:
    try:
        return drum_hits(data)
    except UnreadableError:
        return None


def test_what_is_whole_is_read_alike(originals):
    for data in originals:
        assert as_we_read(data) == as_the_standard_has_it(data) is not None


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_mutants(originals, part):
    first = int(os.environ.get("FUZZ_SEED", "0")) * COUNT
    for seed in range(first + part, first + COUNT // AT_ONCE, PARTS):
        for number, mutant in enumerate(mutants(originals, AT_ONCE, seed)):
            about = f"mutant {number} of seed {seed}, made by {mutant.made_by}"
            expected = as_the_standard_has_it(mutant.data)
            assert as_we_read(mutant.data) == expected, about
            try:
                read_events(mutant.data, Random(f"{seed} {number}").choice(READINGS))
            except MidiError:
                pass
            except Exception as error:
                raise AssertionError(about) from error
