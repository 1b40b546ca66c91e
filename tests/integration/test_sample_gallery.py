"""The page that a sampling makes, and the grooves that are picked on it."""

import json
from pathlib import Path

import numpy as np
import pytest
import symusic

from jobs.sampler import gallery
from jobs.sampler.settings import Execution
from jobs.sampler.work import SampleShare
from tests.support.commands import ok, run_job
from tests.support.pages.packed_page import PackedPage
from tests.support.runs.sample_fixtures import manifest_of, output_of, sample_by_mean, sampled

COUNT = 600
PICKED = (0, 7, 8, 255, 256, 431, 599)


@pytest.fixture(scope="module")
def whole(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a whole job."""
    out = tmp_path_factory.mktemp("whole") / "out"
    sampled(sample_run, out, count=COUNT)
    return out


@pytest.fixture
def favourites(tmp_path: Path) -> Path:
    """A list as a gallery saves it, in the order of somebody's liking."""
    path = tmp_path / "favourites.txt"
    path.write_text("".join(f"groove-{item:05d}\n" for item in reversed(PICKED)))
    return path


def written_notes(midi: Path) -> set[tuple[int, int, int]]:
    """(tick, pitch, velocity) of a MIDI file."""
    return {(note.time, note.pitch, note.velocity) for track in symusic.Score(str(midi)).tracks for note in track.notes}


def test_page_files_sound_and_report_have_what_was_played(sample_run, tmp_path):
    for feel in ("played", "mean"):
        sampled(sample_run, tmp_path / feel, count=3, feel=feel, audio="wav")
    played, mean = (output_of(tmp_path / feel) for feel in ("played", "mean"))
    names = sorted(name.removesuffix(".wav") for name in played if name.endswith(".wav"))
    written = [written_notes(tmp_path / "played" / f"{name}.mid") for name in names]
    assert PackedPage(tmp_path / "played" / "gallery.html").notes() == written
    assert all(played[f"{name}.wav"] != mean[f"{name}.wav"] for name in names)
    velocity = [velocity for notes in written for _, _, velocity in notes]
    figures = json.loads(played["report.json"])["playing"]
    assert figures["velocity_mean"] == pytest.approx(np.mean(velocity), abs=0.01)
    assert figures["velocity_deviation"] == pytest.approx(np.std(velocity), abs=0.01)
    assert "velocity, mean ± standard deviation" in played["report.html"].decode()
    assert "playing" not in json.loads(mean["report.json"])


def test_the_page_says_what_the_manifest_says(whole):
    page, records = PackedPage(whole / "gallery.html"), manifest_of(whole)
    assert page.about["ids"] == [record["id"] for record in records]
    assert page.about["sortedBy"] == "quality"
    assert page.tokens.tolist() == [record["tokens"] for record in records]
    known = ["tempo", "hits_per_bar", "syncopation", "quality", "log_likelihood", "nearest_groove", "empty"]
    assert list(page.figures) == [*known, "duplicate"], "nothing is known of this model's training windows"
    for name in known:
        assert page.figures[name].tolist() == [record[name] for record in records]
    assert page.figures["duplicate"].tolist() == [record["duplicate_of"] is not None for record in records]


@pytest.mark.parametrize(
    "options", [[], ["--dry"], ["--pitches", "general_midi", "--ticks", 960, "--tempo-range", "90:150"]]
)
def test_its_hits_are_those_of_the_files(sample_run, tmp_path, options):
    ok(run_job("sample", "--run", sample_run, "--count", 40, "--out", tmp_path, *options))
    page, records = PackedPage(tmp_path / "gallery.html"), manifest_of(tmp_path)
    assert page.notes() == [written_notes(tmp_path / record["file"]) for record in records]
    assert page.figures["tempo"].round(3).tolist() == [record["tempo"] for record in records]


def test_it_can_be_left_out_and_comes_with_packs_too(sample_run, tmp_path, whole):
    printed = sample_by_mean(sample_run, "--count", 5, "--out", tmp_path / "without", "--no-gallery")
    assert not (tmp_path / "without" / "gallery.html").exists()
    assert "gallery" not in printed.stdout
    sampled(sample_run, tmp_path / "packed", count=COUNT, pack="tar")
    assert (tmp_path / "packed" / "gallery.html").read_bytes() == (whole / "gallery.html").read_bytes()


def test_of_a_large_job_it_shows_the_first(sample_run, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_SHOWN", 30)
    sampled(sample_run, tmp_path, count=50)
    page = tmp_path / "gallery.html"
    assert PackedPage(page).about["ids"] == [record["id"] for record in manifest_of(tmp_path)][:30]
    assert "the first 30 grooves; the manifest lists all" in page.read_text()


@pytest.mark.slow
def test_what_is_picked_has_the_bytes_that_it_has_in_the_whole_job(sample_run, tmp_path, whole, favourites):
    command = ["--feel", "mean", "--run", sample_run, "--count", COUNT, "--pick", favourites]
    printed = ok(run_job("sample", *command, "--out", tmp_path / "picked")).stdout
    assert f"{len(PICKED)} grooves in" in printed
    everything, picked = output_of(whole), output_of(tmp_path / "picked")
    files = {name: data for name, data in picked.items() if name.endswith(".mid")}
    records, of_all = manifest_of(tmp_path / "picked"), manifest_of(whole)
    assert [record["index"] for record in records] == list(PICKED)
    assert files == {of_all[item]["file"]: everything[of_all[item]["file"]] for item in PICKED}
    same = ("id", "file", "tempo", "tokens", "log_likelihood", "hits_per_bar", "syncopation")
    for record in records:
        assert {name: record[name] for name in same} == {name: of_all[record["index"]][name] for name in same}
    codes = [np.load(out / "z.npy", allow_pickle=False) for out in (tmp_path / "picked", whole)]
    assert (codes[0] == codes[1][list(PICKED)]).all()
    assert PackedPage(tmp_path / "picked" / "gallery.html").about["ids"] == [record["id"] for record in records]

    again = ok(run_job("sample", *command, "--out", tmp_path / "picked"))
    assert "is complete. Nothing is left to do." in again.stdout
    ok(run_job("sample", *command, "--out", tmp_path / "two", "--workers", 2))
    assert output_of(tmp_path / "two") == picked


def test_what_is_picked_is_made_in_shards_and_packed_like_the_rest(sample_run, tmp_path):
    wishes = {"count": COUNT, "pick": PICKED}
    sampled(sample_run, tmp_path / "one", **wishes)
    for number in (2, 0):
        assert (
            sampled(
                sample_run, tmp_path / "three", share=SampleShare(number, 3), execution=Execution(chunk=64), **wishes
            )
            is None
        )
    refused = run_job("sample", "merge", "--out", tmp_path / "three")
    assert refused.returncode == 2
    assert "missing: 8 to 8, 255 to 255 (shares 1 of 3)" in refused.stderr
    assert (
        sampled(sample_run, tmp_path / "three", share=SampleShare(1, 3), execution=Execution(chunk=64), **wishes)
        is not None
    )
    assert output_of(tmp_path / "three") == output_of(tmp_path / "one")


def test_what_was_refilled_can_be_picked_with_the_same_settings(sample_run, tmp_path):
    wishes = {"count": 300, "temperature": 0.05, "drop_duplicates": True, "refill": True}
    sampled(sample_run, tmp_path / "full", **wishes)
    last = manifest_of(tmp_path / "full")[-3:]
    assert last[0]["index"] >= 300
    sampled(sample_run, tmp_path / "picked", pick=tuple(record["index"] for record in last), **wishes)
    assert [record["id"] for record in manifest_of(tmp_path / "picked")] == [record["id"] for record in last]
    for record in last:
        files = [tmp_path / name / record["file"] for name in ("full", "picked")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_without_a_count_any_item_of_the_seed_can_be_picked(sample_run, tmp_path, favourites):
    sample_by_mean(sample_run, "--pick", favourites, "--out", tmp_path / "out", "--no-files")
    assert [record["index"] for record in manifest_of(tmp_path / "out")] == list(PICKED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("groove-00003\ngroove-00010\n", "--pick groove-00010 cannot be used"),
        ("groove-00003\nbeat-00004\n", "'beat-00004' in line 2"),
        ("", "no ids"),
    ],
)
def test_a_list_of_something_else_is_refused(sample_run, tmp_path, text, words):
    (tmp_path / "list").write_text(text)
    command = [
        "--feel",
        "mean",
        "--run",
        sample_run,
        "--count",
        10,
        "--pick",
        tmp_path / "list",
        "--out",
        tmp_path / "out",
    ]
    refused = run_job("sample", *command)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert not (tmp_path / "out").exists()


def test_another_list_on_the_same_folder_is_refused(sample_run, tmp_path, favourites):
    command = ["--feel", "mean", "--run", sample_run, "--count", COUNT, "--pick", favourites, "--out", tmp_path / "out"]
    ok(run_job("sample", *command))
    favourites.write_text("groove-00001\n")
    refused = run_job("sample", *command)
    assert refused.returncode == 2
    assert "expected  pick 7 grooves" in refused.stderr
