"""Files that are humanized: by whole commands, in Python; what stays as it is, and how the rest is played."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import symusic
import typer
from click.testing import Result
from typer.testing import CliRunner

from jobs.command.command_line import JobCommand
from jobs.sample import main
from jobs.sampler.settings import Execution
from jobs.sampler.work import SampleShare
from musicvae import DrumGroove
from musicvae.command_line import main as musicvae_main
from musicvae.errors import DataError
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens
from musicvae.groove.played import MANNER, PlayedHits, manner_of
from musicvae.midi.groove_file import WholeFile
from musicvae.pretrained.performer import shipped_performer
from musicvae.pretrained.shipped import WEIGHTS
from tests.support.commands import SOAK
from tests.support.midi.midi_bytes import hit, metre, midi_file, riff_file, tempo, track_name
from tests.support.pages.packed_page import PackedPage
from tests.support.runs.sample_fixtures import DRUMS, GRID, manifest_of, output_of, sampled

TAKES = 12 if SOAK else 6
STEP, BAR = 120, 1920
COWBELL = 56
"""A pitch that is a class of the drum map; 1 is none."""
PATTERN = [(step, 42, 80) for step in range(0, 16, 2)] + [
    (0, 36, 100),
    (6, 36, 90),
    (10, 36, 95),
    (4, 38, 110),
    (12, 38, 112),
]


def song(bars: int) -> bytes:
    """A file of some bars with a tempo map, a bass, a drum that the map does not know, a flam and a controller."""
    drums = [
        event for bar in range(bars) for step, pitch, v in PATTERN for event in hit(bar * BAR + step * STEP, pitch, v)
    ]
    drums += hit(4 * STEP - 30, 38, velocity=40, length=20) + hit(7 * STEP, 1) + [(50, bytes([0xB9, 4, 77]))]
    bass = [event for bar in range(bars) for event in hit(bar * BAR, 40, channel=1, length=900)]
    conductor = [metre(0, 4, 4), tempo(0, 96), tempo(BAR // 2, 104), track_name(b"song")]
    return midi_file(conductor, [track_name(b"drum kit"), *drums], bass)


def read(data: bytes) -> WholeFile:
    return WholeFile.read(Path("song.mid"), GRID, DRUMS, data=data)


def drum_notes(data: bytes) -> list[tuple[int, int, int, int]]:
    """(time, pitch, duration, velocity) of the drums, in order."""
    notes = [note for track in symusic.Score.from_midi(data).tracks if track.is_drum for note in track.notes]
    return sorted((note.time, note.pitch, note.duration, note.velocity) for note in notes)


def others(data: bytes) -> tuple[Any, ...]:
    score = symusic.Score.from_midi(data)
    notes = [
        (note.time, note.pitch, note.velocity) for track in score.tracks if not track.is_drum for note in track.notes
    ]
    controls = [(control.time, control.number, control.value) for track in score.tracks for control in track.controls]
    return notes, controls, [(one.time, one.qpm) for one in score.tempos], [one.name for one in score.tracks]


def run_here(*options: object) -> Result:
    """The command line of jobs.sample, in this process."""
    app = typer.Typer()
    app.command(cls=JobCommand)(main)
    return CliRunner().invoke(app, [*map(str, options)])


@pytest.mark.parametrize("bars", [1, 3, 7, pytest.param(32, marks=pytest.mark.slow)])
def test_hits_other_tracks_and_the_tempo_map_of_a_file_of_any_length_stay(bars):
    data = song(bars)
    made = shipped_performer().humanize_file(read(data), seed=bars, timing=1.0, velocity=1.0)
    given, played = read(data), read(made)
    assert (given.groove().hits == played.groove().hits).all()
    assert others(data) == others(made)
    before, after = drum_notes(data), drum_notes(made)
    assert sorted(pitch for _, pitch, *_ in before) == sorted(pitch for _, pitch, *_ in after)
    assert {note for note in before if note[1] == 1} == {note for note in after if note[1] == 1}, "an unknown hit stays"
    # The two strokes of the flam are one hit of the grid: they move as one.
    (grace,), (main_hit,) = ([n for n in before if n[3] == 40], [n for n in before if n[:2] == (4 * STEP, 38)])
    flam = [n for n in after if n[1] == 38 and abs(n[0] - 4 * STEP) < STEP]
    assert len(flam) == 2
    assert flam[1][0] - flam[0][0] == main_hit[0] - grace[0]
    hits = given.groove().hits
    offset = played.groove().offset[hits]
    assert offset.std() > 0.05
    assert len(np.unique(played.groove().velocity[hits])) > min(8, hits.sum() / 3)
    assert abs(played.groove().velocity[hits].mean() - given.groove().velocity[hits].mean()) < 1 / 127


def test_amounts_of_0_give_the_file_back_byte_by_byte():
    performer = shipped_performer()
    for data in (song(2), riff_file(song(1)), song(3) + b"more"):
        assert performer.humanize_file(read(data), timing=0.0, velocity=0.0) == data
    data = song(2)
    louder = performer.humanize_file(read(data), timing=0.0, velocity=1.0)
    assert [note[:3] for note in drum_notes(louder)] == [note[:3] for note in drum_notes(data)]
    later = performer.humanize_file(read(data), timing=1.0, velocity=0.0)
    assert sorted(n[3] for n in drum_notes(later)) == sorted(n[3] for n in drum_notes(data))


@pytest.mark.slow
def test_no_bar_line_stands_out_in_a_long_file():
    """From a hi-hat to the next one playing changes across bar lines about as much as elsewhere."""
    performer, given = shipped_performer(), read(song(32))
    takes = [performer.humanize(given.groove(), seed=s, timing=1.0, velocity=1.0) for s in range(TAKES)]
    hat = DRUMS.classes.index("closed_hihat")
    for name, scale in (("offset", 0.03), ("velocity", 0.05)):
        values = np.stack([getattr(take, name)[:, hat] for take in takes]).reshape(TAKES, 32, 16)
        step_to_next = np.abs(np.diff(values[:, :, ::2].reshape(TAKES, -1), axis=1)).reshape(TAKES, -1)
        at_bar_lines = step_to_next[:, 7::8].mean()
        elsewhere = np.delete(step_to_next, np.s_[7::8], axis=1).mean()
        assert at_bar_lines < elsewhere * 1.5 + scale, name


def test_a_file_that_is_not_in_4_4_ends_with_3_and_names_its_metre(tmp_path, capsys):
    waltz = tmp_path / "waltz.mid"
    waltz.write_bytes(midi_file([metre(0, 3, 4)], [event for beat in range(12) for event in hit(480 * beat, 36)]))
    refused = run_here("--humanize", waltz, "--count", 1, "--out", tmp_path / "out").exception
    assert isinstance(refused, DataError)
    assert (refused.exit_code, "3/4" in str(refused)) == (3, True)
    assert not (tmp_path / "out").exists()
    assert musicvae_main(["humanize", str(waltz), "--out", str(tmp_path / "played")]) == 3
    assert "3/4" in capsys.readouterr().err


def test_a_folder_is_humanized_in_takes_with_manifest_and_page(tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    for name, bars in (("a.mid", 2), ("b.mid", 6)):
        (folder / name).write_bytes(song(bars))
    (folder / "no.mid").write_text("no MIDI")
    line = ("--humanize", folder, "--count", 2, "--seed", 5, "--timing", 0.8, "--out", tmp_path / "out")
    result = run_here(*line)
    assert result.exit_code == 0, result.output
    assert "1 of 3 files are skipped" in result.output
    records, performer = manifest_of(tmp_path / "out"), shipped_performer()
    assert [record["like"]["file"] for record in records] == ["a.mid", "b.mid"] * 2
    assert {record["weights"] for record in records} == {performer.weights_hash}
    assert {record["log_likelihood"] for record in records} == {None}
    for number, record in enumerate(records):
        given = read((folder / record["like"]["file"]).read_bytes())
        written = (tmp_path / "out" / record["file"]).read_bytes()
        assert written == performer.humanize_file(given, seed=5 + number // 2, timing=0.8)
        expected = given.first_window().tokens[0].tolist()
        assert record["tokens"] == expected
        assert hits_from_tokens(np.array(expected, np.int16), 9).any()
        assert round(record["tempo"]) == 96
    page = PackedPage(tmp_path / "out" / "gallery.html")
    assert (page.about["writtenAs"], page.kept.sum()) == ("played", 0)
    assert (page.tokens == page.source_tokens[page.sources[:, 0]]).all()
    before = output_of(tmp_path / "out")
    assert "is complete. Nothing is left to do." in run_here(*line).output
    grown = run_here(*["3" if word == 2 else word for word in line])
    assert grown.exit_code == 0, grown.output
    after = output_of(tmp_path / "out")
    assert all(after[name] == data for name, data in before.items() if name.endswith(".mid"))
    assert len(manifest_of(tmp_path / "out")) == 6


@pytest.mark.slow
@pytest.mark.parametrize("around", [False, True])
def test_chunks_and_shares_change_no_byte_and_the_small_command_makes_the_same_takes(tmp_path, around):
    path = tmp_path / "song.mid"
    path.write_bytes(song(5))
    humanized: dict[str, Any] = {"humanize": str(path), "feel": None, "count": 4, "seed": 2, "gallery": False}
    humanized["around"] = around
    model = WEIGHTS / "generation"
    sampled(model, tmp_path / "whole", **humanized)
    for number in (1, 0):
        share, execution = SampleShare(number, 2), Execution(chunk=1)
        sampled(model, tmp_path / "shares", share=share, execution=execution, **humanized)
    assert output_of(tmp_path / "shares") == output_of(tmp_path / "whole")
    line = ["humanize", str(path), "--seed", "2", "--count", "4", "--out", str(tmp_path / "small")]
    assert musicvae_main([*line, *["--around"] * around]) == 0
    assert ("around" in json.loads((tmp_path / "whole" / "settings.json").read_text())) == around
    for take in range(4):
        written = (tmp_path / "small" / f"played-0{take}.mid").read_bytes()
        assert written == output_of(tmp_path / "whole")[f"000/groove-0000{take}.mid"]


def test_level_lean_and_spread_are_those_of_the_player_that_is_given(tmp_path, capsys):
    path = tmp_path / "song.mid"
    path.write_bytes(song(4))
    hits = np.tile(read(song(4)).groove().hits, (2, 1))
    rng = np.random.default_rng(0)
    for name, level, lean in (("soft", 40, 0.2), ("loud", 110, -0.15)):
        velocity = hits * rng.normal(level, 8, hits.shape).clip(1, 127).astype(np.float32) / np.float32(127)
        offset = hits * rng.normal(lean, 0.03, hits.shape).clip(-0.4, 0.4).astype(np.float32)
        DrumGroove(GridSpec(bars=8), hits, velocity, offset, 96.0).to_midi(tmp_path / f"{name}.mid")
        amounts = ["--timing", "1", "--velocity", "1", "--count", "2"]
        line = ["humanize", str(path), *amounts, "--like-player", str(tmp_path / f"{name}.mid")]
        assert musicvae_main([*line, "--out", str(tmp_path / name)]) == 0
        player = read((tmp_path / f"{name}.mid").read_bytes()).groove()
        for take in range(2):
            played = read((tmp_path / name / f"played-0{take}.mid").read_bytes()).groove()
            figures = dict(zip(MANNER, manner_of(PlayedHits.of(played), 64), strict=True))
            wanted = dict(zip(MANNER, manner_of(PlayedHits.of(player), 64), strict=True))
            assert figures["level"] == pytest.approx(wanted["level"], abs=0.02)
            assert figures["lean"] == pytest.approx(wanted["lean"], abs=0.02)
            assert figures["looseness"] < 0.12, "a steady player"
        out = tmp_path / f"job {name}"
        player_path = str(tmp_path / f"{name}.mid")
        sampled(
            WEIGHTS / "generation",
            out,
            humanize=str(path),
            timing=1.0,
            velocity=1.0,
            feel=None,
            count=2,
            like_player=player_path,
        )
        assert output_of(out)["000/groove-00001.mid"] == (tmp_path / name / "played-01.mid").read_bytes()
        assert len(json.loads((out / "settings.json").read_text())["player"]) == len(MANNER)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--timing", 0.5], "--humanize FILE with it"),
        (["--around"], "--humanize FILE with it"),
        (["--humanize", "FILE", "--velocity", 1.5], "0 (as in the file) to 1"),
        (["--humanize", "FILE", "--like", "FILE"], "no --humanize with it"),
        (["--humanize", "FILE", "--feel", "mean"], "no --humanize with it"),
        (["--humanize", "FILE", "--from", "FILE", "--keep", "kick"], "--from"),
        (["--feel", "mean", "--like-player", "FILE"], "--feel played with it"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, words):
    (tmp_path / "song.mid").write_bytes(song(1))
    line = [tmp_path / "song.mid" if word == "FILE" else word for word in options]
    refused = run_here(*line, "--count", 1, "--out", tmp_path / "out").exception
    assert words in str(refused)
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_refused_and_the_tempo_of_each_bar_is_used():
    with pytest.raises(DataError, match="damaged"):
        read(song(2)[:-3])
    performer, given = shipped_performer(), read(song(8)).groove()
    slow = performer.humanize(given, seed=1, timing=1.0, velocity=1.0)
    fast = performer.humanize(replace(given, tempo=190.0), seed=1, timing=1.0, velocity=1.0)
    mixed = performer.humanize(given, seed=1, timing=1.0, velocity=1.0, tempos=[96.0] * 4 + [190.0] * 4)
    first = slice(0, 3 * 16)
    assert (mixed.offset[first] == slow.offset[first]).all()
    assert (slow.offset != fast.offset).any()
    assert (mixed.offset != slow.offset).any()


def test_an_early_hit_at_the_end_of_a_loop_stays_one_of_its_first_beat(tmp_path):
    given = read(song(4)).groove()
    offset = given.offset.copy()
    offset[0][given.hits[0]] = -0.2
    replace(given, offset=offset).to_midi(tmp_path / "loop.mid")
    data = (tmp_path / "loop.mid").read_bytes()
    performer = shipped_performer()
    for seed in range(3):
        played = read(performer.humanize_file(read(data), seed=seed, timing=1.0, velocity=1.0)).groove()
        assert (played.hits == given.hits).all()
        first = played.offset[0][given.hits[0]]
        assert ((first < 0) & (first >= -0.5)).all()
    assert len({*first.tolist()}) > 1, "they are played like all others"
