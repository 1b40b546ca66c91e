"""The whole command jobs.sample on a tiny untrained run."""

import json
import os
from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.midi.performance import Performance
from musicvae.midi.writer import performance_to_midi, write_groove
from tests.support.commands import ok, run_job
from tests.support.runs.sample_fixtures import DRUMS, GRID, TEMPO, hits_in, manifest_of, output_of, sample_by_mean


@pytest.fixture(scope="module")
def hundred(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """100 grooves, and what the command printed."""
    out = tmp_path_factory.mktemp("hundred") / "grooves"
    return out, ok(run_job("sample", "--run", sample_run, "--count", 100, "--seed", 3, "--out", out)).stdout


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A MIDI file of eight bars: a plain beat, then a busier one."""
    hits = np.zeros((2 * GRID.num_steps, DRUMS.num_drums), dtype=bool)
    hits[::8, 0] = hits[4::8, 1] = hits[::2, 2] = True
    hits[GRID.num_steps :: 2, 8] = True
    groove = DrumGroove(GridSpec(bars=8), hits, hits * np.float32(0.8), hits * np.float32(0), tempo=88.0)
    write_groove(groove, tmp_path / "song.mid", DRUMS)
    return tmp_path / "song.mid"


@pytest.mark.slow
def test_every_file_opens_in_pretty_midi_with_the_hits_of_its_tokens(hundred: tuple[Path, str]):
    out, _ = hundred
    records = manifest_of(out)
    assert [record["index"] for record in records] == list(range(100))
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.mid")} == {record["file"] for record in records}
    for record in records:
        expected = hits_from_tokens(np.array(record["tokens"], dtype=np.int16), DRUMS.num_drums)
        np.testing.assert_array_equal(hits_in(out / record["file"], record["tempo"]), expected)
        assert (record["id"], record["seed"], record["tempo"]) == (f"groove-{record['index']:05d}", 3, TEMPO)


def test_the_output_is_shown_and_compared_with_the_training_data(hundred: tuple[Path, str]):
    out, printed = hundred
    assert (out / "grooves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "settings.json").read_text())["seed"] == 3
    for words in (
        "groove-00000, 104 bpm",
        "│1  ",
        "100 grooves",
        "50 training windows",
        "empty",
        "hits per bar",
        "kick",
    ):
        assert words in printed


def test_a_small_count_is_the_beginning_of_a_large_one(sample_run: Path, hundred: tuple[Path, str], tmp_path: Path):
    out = tmp_path / "ten"
    ok(run_job("sample", "--run", sample_run, "--count", 10, "--seed", 3, "--out", out))
    large = manifest_of(hundred[0])
    for record, of_large in zip(manifest_of(out), large[:10], strict=True):
        del record["nearest_groove"], of_large["nearest_groove"]  # among more of them, another one may be nearer
        assert record == of_large
        assert (out / record["file"]).read_bytes() == (hundred[0] / record["file"]).read_bytes()


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes_in_folders_of_a_thousand(sample_run: Path, tmp_path: Path):
    for workers in (1, 2):
        out = tmp_path / f"by-{workers}"
        sample_by_mean(sample_run, "--count", 1001, "--workers", workers, "--out", out)
    alone = output_of(tmp_path / "by-1")
    assert alone == output_of(tmp_path / "by-2")
    assert "000/groove-00999.mid" in alone
    assert "001/groove-01000.mid" in alone


def test_help_has_groups_and_what_most_people_need_comes_first():
    shown = ok(run_job("sample", "--help")).stdout
    headings = ["Options:", "Model:", "From your grooves:", "How the grooves are played:", "How the work is done:"]
    places = [shown.index(f"\n{words}\n") for words in headings]
    assert places == sorted(places)
    assert places[0] < shown.index("  --count") < places[1] < shown.index("--preset") < places[2]
    assert "--dry " not in shown


def test_dry_grooves_have_one_velocity_and_stay_on_the_grid(sample_run: Path, tmp_path: Path):
    out = tmp_path / "dry"
    ok(run_job("sample", "--run", sample_run, "--count", 5, "--dry", "--tempo", 90, "--out", out))
    for record in manifest_of(out):
        assert record["tempo"] == 90
        midi = pretty_midi.PrettyMIDI(str(out / record["file"]))
        notes = midi.instruments[0].notes
        assert {note.velocity for note in notes} == {100}
        assert all(midi.time_to_tick(note.start) % (midi.resolution // GRID.steps_per_beat) == 0 for note in notes)


def test_like_varies_each_window_in_turn_from_its_reconstruction_on(sample_run: Path, song: Path, tmp_path: Path):
    def sampled(distance: float) -> list[dict]:
        out = tmp_path / f"like-{distance}"
        sample_by_mean(sample_run, "--count", 6, "--like", song, "--distance", distance, "--out", out)
        return manifest_of(out)

    same, varied = sampled(0), sampled(1)
    assert [record["like"] for record in same] == [{"file": "song.mid", "bar": bar} for bar in (0, 4)] * 3
    assert all(record["tempo"] == pytest.approx(88, abs=0.01) for record in same)
    assert same[0]["tokens"] == same[2]["tokens"] == same[4]["tokens"]
    assert len({str(record["tokens"]) for record in varied}) > 2


def test_an_existing_output_is_replaced_only_when_asked(sample_run: Path, tmp_path: Path):
    out = tmp_path / "grooves"
    sample_by_mean(sample_run, "--count", 3, "--out", out)
    before = output_of(out)
    refused = run_job("sample", "--feel", "mean", "--run", sample_run, "--count", 2, "--out", out)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert output_of(out) == before
    sample_by_mean(sample_run, "--count", 2, "--out", out, "--overwrite")
    assert len(manifest_of(out)) == 2
    assert not (out / "000" / "groove-00002.mid").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["grooves"]


@pytest.mark.slow
def test_overwrite_names_what_somebody_saved_or_edited_and_removes_nothing(sample_run: Path, tmp_path: Path):
    out = tmp_path / "grooves"
    command = ("sample", "--run", sample_run, "--out", out, "--overwrite", "--count")
    ok(run_job(*command, 2))
    edited = out / "000" / "groove-00001.mid"
    edited.write_bytes(edited.read_bytes() + b"edited")
    later = edited.stat().st_mtime + 3600  # more than the slack of ten seconds
    os.utime(edited, (later, later))
    for name in ("favourites.txt", "000/groove-00000.als"):
        (out / name).write_text("mine")
    before = output_of(out)
    refused = run_job(*command, 1)
    assert refused.returncode == 2
    assert all(name in refused.stderr for name in ("favourites.txt", "000/groove-00000.als", "000/groove-00001.mid"))
    assert output_of(out) == before


def test_a_folder_that_is_not_ours_is_never_replaced(sample_run: Path, tmp_path: Path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    refused = run_job(
        "sample", "--feel", "mean", "--run", sample_run, "--count", 2, "--out", tmp_path / "letters", "--overwrite"
    )
    assert refused.returncode == 2
    assert "files that jobs.sample did not write" in refused.stderr
    assert output_of(tmp_path / "letters") == {"dear.txt": b"dear"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", 0], "--count 0 cannot be used"),
        (["--count", 2, "--temperature", 0], "--temperature 0.0 cannot be used"),
        (["--count", 2, "--temperature", "nan"], "--temperature nan is out of range"),
        (["--count", 2, "--seed", -1], "--seed -1 cannot be used"),
        (["--count", 2, "--distance", 0.5], "--like, --continue or --from with it"),
        (["--count", 2, "--like", "nowhere.mid"], "/nowhere.mid\n  expected  a MIDI file"),
        (["--count", 2, "--run", "nowhere"], "no run in /"),
        (["--count", "many"], "Invalid value for '--count'"),
    ],
)
def test_a_command_line_that_cannot_be_used_ends_with_2_and_leaves_nothing(
    sample_run: Path, tmp_path: Path, options: list, message: str
):
    refused = run_job("sample", "--feel", "mean", "--run", sample_run, *options, "--out", tmp_path / "deep" / "grooves")
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())


def beat(*, bars: int = 4, metre: tuple[int, int] = (4, 4), pitch: int = 36) -> bytes:
    tick = np.arange(bars * 4, dtype=np.int64) * 480
    pitches = np.full(len(tick), pitch, dtype=np.uint8)
    return performance_to_midi(Performance(tick, pitches, pitches, 480, ((0, 120.0),), ((0, *metre),)))


def melody() -> bytes:
    """A MIDI file whose notes are on channel 1."""
    return beat().replace(b"\x99", b"\x90")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"RIFF, a sound and no notes", "not-midi"),
        (b"", "not-midi"),
        (melody(), "no-drums"),
        (beat(pitch=100), "no-drums"),
        (beat(metre=(3, 4)), "metre: 3/4"),
    ],
    ids=["sound", "empty", "melody", "unknown-pitch", "waltz"],
)
def test_a_file_that_cannot_be_varied_ends_with_3_and_leaves_nothing(
    sample_run: Path, tmp_path: Path, data: bytes, found: str
):
    (tmp_path / "source.mid").write_bytes(data)
    refused = run_job(
        "sample",
        "--feel",
        "mean",
        "--run",
        sample_run,
        "--count",
        2,
        "--like",
        tmp_path / "source.mid",
        "--out",
        tmp_path / "grooves",
    )
    assert refused.returncode == 3, refused.stderr
    for words in ("source.mid has no usable groove", "expected", found, "likely", "do  "):
        assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source.mid"]
