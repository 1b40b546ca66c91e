"""Which drum class each pitch belongs to."""

import numpy as np
import pytest

from musicvae.errors import ConfigError
from musicvae.groove.drum_map import NO_CLASS, DrumMap

SHIPPED = ("general_midi", "roland")


@pytest.mark.parametrize("name", SHIPPED)
def test_nine_classes_in_the_papers_order(name):
    drum_map = DrumMap.load(name)
    assert drum_map.classes == (
        "kick", "snare", "closed_hihat", "open_hihat", "low_tom", "mid_tom", "high_tom", "crash", "ride"
    )  # fmt: skip
    assert (drum_map.num_drums, drum_map.vocab) == (9, 512)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_general_midi_drum_pitch_and_the_edges_map(name):
    known = np.flatnonzero(DrumMap.load(name).class_of_pitch != NO_CLASS)
    assert set(range(27, 88)) | {22, 26} == set(known.tolist())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_written_class_is_read_back_as_itself(name):
    drum_map = DrumMap.load(name)
    assert drum_map.class_of_pitch[drum_map.written_pitch].tolist() == list(range(9))


def test_the_roland_toms():
    roland, general = DrumMap.load("roland"), DrumMap.load("general_midi")
    low, mid, high, crash = 4, 5, 6, 7
    assert roland.class_of_pitch[[43, 58, 45, 47, 48, 50]].tolist() == [low, low, mid, mid, high, high]
    assert general.class_of_pitch[[43, 58, 45, 47, 48, 50]].tolist() == [low, crash, low, mid, mid, high]


def test_a_map_of_your_own(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text("low: [36, 35]\nhigh: [38]\n")
    drum_map = DrumMap.load(str(path))
    assert (drum_map.name, drum_map.classes, drum_map.vocab) == ("two", ("low", "high"), 4)


@pytest.mark.parametrize(
    "text", ["", "- 36\n", "kick: 36\n", "kick: [36]\nsnare: [36]\n", "kick: [200]\n", "kick: []\n"]
)
def test_a_map_that_cannot_be_used(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="drum map"):
        DrumMap.load(str(path))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="general_midi, roland"):
        DrumMap.load("rolland")


def test_more_classes_than_a_token_has_bits():
    with pytest.raises(ValueError, match="15"):
        DrumMap("wide", {f"drum{i}": (i,) for i in range(16)})
