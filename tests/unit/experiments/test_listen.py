"""The loops of docs/listen: all are there, each names its performance, and what people played is an excerpt of it."""

import csv

import numpy as np
import pytest
import soundfile

from musicvae.groove.groove import DrumGroove
from musicvae.groove.sound import SAMPLE_RATE
from musicvae.pretrained.performer import shipped_performer
from tests.experiments.listen import EXCERPTS, WAYS
from tests.support.commands import CHECKOUT

LISTEN = CHECKOUT / "docs" / "listen"
MOST_BYTES = 3_000_000


def test_every_loop_is_there_in_sound_and_as_midi_and_nothing_else():
    files = {f"{excerpt.name}-{way}{suffix}" for excerpt in EXCERPTS for way in WAYS for suffix in (".mid", ".ogg")}
    assert {path.name for path in LISTEN.iterdir()} == {*files, "README.md"}
    assert sum(path.stat().st_size for path in LISTEN.iterdir()) < MOST_BYTES
    assert len(EXCERPTS) == 8


@pytest.mark.parametrize("excerpt", EXCERPTS, ids=lambda excerpt: excerpt.name)
def test_the_three_loops_differ_in_their_playing_alone(excerpt):
    human, model, mean = (DrumGroove.from_midi(LISTEN / f"{excerpt.name}-{way}.mid") for way in WAYS)
    for other in (model, mean):
        np.testing.assert_array_equal(other.hits, human.hits)
        assert other.tempo == human.tempo
        assert np.abs(other.velocity - human.velocity)[human.hits].mean() > 0.02
    for way in WAYS:
        info = soundfile.info(LISTEN / f"{excerpt.name}-{way}.ogg")
        assert (info.samplerate, info.channels) == (SAMPLE_RATE, 2)
        assert info.duration == pytest.approx(64 * 60 / human.tempo / 4, abs=0.01)


def test_the_page_names_each_performance_and_the_licence():
    page = (LISTEN / "README.md").read_text(encoding="utf-8")
    assert "CC BY" in page
    assert shipped_performer().weights_hash in page, "made with other weights: make listen"
    for excerpt in EXCERPTS:
        assert f"`{excerpt.source}`, bars {excerpt.bar} to {excerpt.bar + 3}" in page


def test_the_human_loops_are_excerpts_of_training_files(groove_dir):
    with (groove_dir / "info.csv").open(encoding="utf-8", newline="") as table:
        splits = {row["midi_filename"]: row["split"] for row in csv.DictReader(table)}
    for excerpt in EXCERPTS:
        assert splits[excerpt.source] == "train"
        human = DrumGroove.from_midi(groove_dir / excerpt.source, bar=excerpt.bar - 1)
        written = DrumGroove.from_midi(LISTEN / f"{excerpt.name}-human.mid")
        np.testing.assert_array_equal(written.hits, human.hits)
        np.testing.assert_allclose(written.offset, human.offset, atol=1 / 120)
        np.testing.assert_allclose(written.velocity, human.velocity, atol=1e-6)
