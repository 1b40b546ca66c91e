"""Sampling as a job: in chunks, in shards, by several workers, stopped and continued, grown and refilled."""

import json
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import symusic

from jobs.sampler.job import job_of, loaded
from jobs.sampler.settings import Execution, OutputFormat, SampleSettings
from jobs.sampler.terminal import sizes
from jobs.sampler.work import SampleShare, SampleWork
from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.shards import write_shard
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError, DataError, FolderInUseError
from musicvae.groove.groove import hits_from_tokens
from musicvae.training.best_weights import read_best, save_best
from musicvae.training.run_folder import RunFolder
from tests.support.commands import ok, run_job
from tests.support.runs.sample_fixtures import (
    DRUMS,
    GRID,
    manifest_of,
    output_of,
    sample_by_mean,
    sampled,
    write_sample_run,
)
from tests.support.shards.shard_fixtures import patterned_windows

COUNT = 600
REPEATING = {"temperature": 0.05}
"""At which the run of these tests makes half of its grooves twice."""


@pytest.fixture(scope="module")
def whole(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The output of an undisturbed sampling in one chunk."""
    out = tmp_path_factory.mktemp("whole") / "out"
    sampled(sample_run, out, count=COUNT)
    return output_of(out)


@pytest.fixture(scope="module")
def training_shards(whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Shards with items 0, 7 and 500 of `whole` among their windows, and a run that says to be trained on them."""
    folder = tmp_path_factory.mktemp("shards")
    windows = patterned_windows(100, seed=9)
    records = [json.loads(line) for line in whole["manifest.jsonl"].splitlines()]
    for place, item in ((3, 0), (50, 7), (99, 500)):
        windows.tokens[place] = records[item]["tokens"]
    hits = hits_from_tokens(windows.tokens, DRUMS.num_drums)
    velocity, offset = (hits * np.uint8(99)), np.zeros(hits.shape, dtype=np.int16)
    entry = write_shard(folder / "train-000000.tar", WindowBlock(windows.tokens, velocity, offset, windows.meta))
    manifest = ShardManifest(GRID, DRUMS, {"train": SplitEntry(100, 1, (entry,))})
    manifest.write(folder)
    return folder, write_sample_run(tmp_path_factory.mktemp("trained") / "run", manifest.fingerprint)


@pytest.mark.parametrize("chunk", [pytest.param(64, marks=pytest.mark.slow), 1000])
def test_chunks_of_any_size_give_the_same_bytes(sample_run, tmp_path, whole, chunk):
    sampled(sample_run, tmp_path, count=COUNT, execution=Execution(chunk=chunk))
    assert output_of(tmp_path) == whole


def test_shards_in_any_order_give_the_same_bytes_and_the_last_puts_all_together(sample_run, tmp_path, whole):
    for number in (6, 0, 3, 1, 5, 2):
        assert sampled(sample_run, tmp_path, count=COUNT, share=SampleShare(number, 7)) is None
    assert not (tmp_path / "manifest.jsonl").exists()
    assert sampled(sample_run, tmp_path, count=COUNT, share=SampleShare(4, 7)) is not None
    assert output_of(tmp_path) == whole


@pytest.mark.slow
def test_two_workers_and_a_merge_by_hand_give_the_same_bytes(sample_run, tmp_path, whole):
    common = ["--feel", "mean", "--run", sample_run, "--count", COUNT, "--out", tmp_path, "--chunk", 100]
    printed = ok(run_job("sample", *common, "--shard", "0/2")).stdout
    assert "share 0/2: 300 grooves" in printed
    assert "still missing: 300 to 599 (shares 1 of 2)" in printed
    refused = run_job("sample", "merge", "--out", tmp_path)
    assert refused.returncode == 2
    assert "missing: 300 to 599" in refused.stderr
    ok(run_job("sample", *common, "--workers", 2, "--shard", "slurm/2", SLURM_ARRAY_TASK_ID="1"))
    assert output_of(tmp_path) == whole
    (tmp_path / "settings.json").unlink()
    ok(run_job("sample", "merge", "--out", tmp_path))
    assert output_of(tmp_path) == whole


def test_the_same_command_goes_on_with_what_is_missing(sample_run, tmp_path, whole):
    sampled(sample_run, tmp_path, count=COUNT, execution=Execution(chunk=50))
    parts = tmp_path / "sampling-work" / "parts"
    kept = sorted(parts.iterdir())[3]
    before = kept.stat().st_mtime_ns
    for part in set(parts.iterdir()) - {kept}:
        part.unlink()
    (tmp_path / "settings.json").unlink()
    sampled(sample_run, tmp_path, count=COUNT, execution=Execution(chunk=64))
    assert output_of(tmp_path) == whole
    assert kept.stat().st_mtime_ns == before, "what was done is not done again"


def test_a_count_may_grow_and_what_is_there_is_kept(sample_run, tmp_path, whole):
    sampled(sample_run, tmp_path, count=250)
    early = tmp_path / "000" / "groove-00007.mid"
    before = early.stat().st_mtime_ns
    sampled(sample_run, tmp_path, count=COUNT)
    assert output_of(tmp_path) == whole
    assert early.stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="contains more grooves"):
        sampled(sample_run, tmp_path, count=COUNT - 1)


def test_other_settings_on_the_same_folder_are_refused_by_name(sample_run, tmp_path):
    sampled(sample_run, tmp_path, count=3)
    for wishes, key in (
        ({"seed": 1}, "seed 0"),
        ({"temperature": 0.5}, "temperature 1.0"),
        ({"ticks": 960}, "ticks 480"),
        ({"drop_duplicates": True}, "drop_duplicates False"),
    ):
        with pytest.raises(ConfigError, match="grooves made with other settings") as refused:
            sampled(sample_run, tmp_path, count=3, **wishes)
        assert f"expected  {key}" in str(refused.value)


@pytest.mark.slow
def test_a_second_writer_is_refused_and_resume_needs_something_to_resume(sample_run, tmp_path):
    out = tmp_path / "out"
    command = ["--feel", "mean", "--run", sample_run, "--count", 5, "--out", out]
    refused = run_job("sample", *command, "--resume")
    assert refused.returncode == 2
    assert "nothing to resume" in refused.stderr
    assert not out.exists()
    ok(run_job("sample", *command))
    with SampleWork(out).writer(SampleShare()), pytest.raises(FolderInUseError):
        sampled(sample_run, out, count=9)
    again = ok(run_job("sample", *command, "--resume"))
    assert "is complete. Nothing is left to do." in again.stdout


def test_files_that_a_power_cut_took_are_made_again(sample_run, tmp_path, whole):
    sampled(sample_run, tmp_path, count=COUNT)
    (tmp_path / "000" / "groove-00003.mid").unlink()
    (tmp_path / "000" / "groove-00004.mid").write_bytes(b"")
    (tmp_path / "000" / "groove-09999.mid").write_bytes(b"nobody's")
    (tmp_path / "settings.json").unlink()
    sampled(sample_run, tmp_path, count=COUNT)
    assert output_of(tmp_path) == whole


def test_parquet_and_codes_say_what_the_manifest_says(sample_run, tmp_path, whole):
    sampled(sample_run, tmp_path, count=COUNT)
    records = manifest_of(tmp_path)
    assert pq.read_table(tmp_path / "manifest.parquet").to_pylist() == records
    codes = np.load(tmp_path / "z.npy", allow_pickle=False)
    assert codes.shape == (COUNT, 8)
    assert codes.dtype == np.float32
    assert [record["z"] for record in records] == list(range(COUNT))
    assert len(np.unique(codes, axis=0)) == COUNT
    assert abs(codes.mean()) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["tar", "zip"])
def test_packs_hold_the_very_files(sample_run, tmp_path, whole, output_format):
    sample_by_mean(sample_run, "--count", COUNT, "--out", tmp_path, "--pack", output_format)
    records = manifest_of(tmp_path)
    files = {record["file"]: whole[record["file"]] for record in records}
    if output_format == "zip":
        with zipfile.ZipFile(tmp_path / "grooves.zip") as archive:
            assert {name: archive.read(name) for name in archive.namelist()} == files
    else:
        with tarfile.open(tmp_path / "grooves-00000.tar") as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert [json.loads(members[f"{record['id']}.json"]) for record in records] == records
        assert [members[f"{record['id']}.mid"] for record in records] == list(files.values())
    assert not (tmp_path / "000").exists()


def test_without_files_there_is_the_manifest_alone(sample_run, tmp_path, whole):
    sample_by_mean(sample_run, "--count", COUNT, "--out", tmp_path, "--no-files")
    assert set(output_of(tmp_path)) == {name for name in whole if not name.endswith(".mid")}
    assert {record["file"] for record in manifest_of(tmp_path)} == {None}
    made = [json.loads(line)["tokens"] for line in whole["manifest.jsonl"].splitlines()]
    assert [record["tokens"] for record in manifest_of(tmp_path)] == made


def test_pitches_format_and_ticks_are_as_asked_for(sample_run, tmp_path):
    options = ["--pitches", "general_midi", "--midi-format", 0, "--ticks", 960]
    sample_by_mean(sample_run, "--count", 40, "--out", tmp_path, *options)
    pitches = set()
    for record in manifest_of(tmp_path):
        data = (tmp_path / record["file"]).read_bytes()
        assert data[8:14] == bytes([0, 0, 0, 1, *(960).to_bytes(2, "big")])
        (track,) = symusic.Score.from_midi(data).tracks
        assert track.name == record["id"]
        pitches |= {note.pitch for note in track.notes}
    assert {45, 48} <= pitches
    assert 43 not in pitches


@pytest.mark.slow
def test_what_is_dropped_is_counted_and_refilled_the_same_every_time(sample_run, tmp_path):
    wishes = {"count": 300, **REPEATING}
    sampled(sample_run, tmp_path / "all", **wishes)
    everything = manifest_of(tmp_path / "all")
    repeated = [record for record in everything if record["duplicate_of"]]
    assert 30 < len(repeated) < 270
    first = {record["id"]: record["tokens"] for record in everything}
    assert all(first[record["duplicate_of"]] == record["tokens"] for record in repeated)

    sampled(sample_run, tmp_path / "different", drop_duplicates=True, **wishes)
    different = manifest_of(tmp_path / "different")
    assert [r["id"] for r in different] == [r["id"] for r in everything if not r["duplicate_of"]]
    report = json.loads((tmp_path / "different" / "report.json").read_text())
    assert report["dropped"] == {"duplicate": len(repeated)}
    assert len(list((tmp_path / "different").rglob("*.mid"))) == len(different)

    refilled = {"drop_duplicates": True, "refill": True, **wishes}
    sampled(sample_run, tmp_path / "full", **refilled)
    for number in (1, 0):
        sampled(
            sample_run, tmp_path / "sharded", share=SampleShare(number, 2), execution=Execution(chunk=64), **refilled
        )
    full = manifest_of(tmp_path / "full")
    assert len({str(record["tokens"]) for record in full}) == len(full) == 300
    assert [r["id"] for r in full[: len(different)]] == [r["id"] for r in different]
    assert output_of(tmp_path / "full") == output_of(tmp_path / "sharded")


@pytest.mark.slow
def test_refilling_gives_up_where_there_is_nothing_new(sample_run, tmp_path):
    with pytest.raises(DataError, match="--refill found fewer than 300 grooves"):
        sampled(sample_run, tmp_path, count=300, temperature=1e-4, drop_duplicates=True, refill=True)


def test_the_best_by_a_figure_are_kept(sample_run, tmp_path, whole):
    sampled(sample_run, tmp_path, count=COUNT, best=10, by="-log_likelihood")
    records = [json.loads(line) for line in whole["manifest.jsonl"].splitlines()]
    expected = sorted(sorted(records, key=lambda r: r["log_likelihood"])[:10], key=lambda r: r["index"])
    assert [r["id"] for r in manifest_of(tmp_path)] == [r["id"] for r in expected]
    assert len(list(tmp_path.rglob("*.mid"))) == 10


@pytest.mark.slow
def test_grooves_are_told_from_training_windows_where_these_are_known(sample_run, tmp_path, whole, training_shards):
    assert {json.loads(line)["memorised"] for line in whole["manifest.jsonl"].splitlines()} == {None}
    shards, run = training_shards
    sampled(run, tmp_path / "out", count=COUNT, shards=str(shards))
    records = manifest_of(tmp_path / "out")
    memorised = [record["index"] for record in records if record["memorised"]]
    assert memorised == [0, 7, 500], "those that the shards of this test were made of"
    for record in records:
        assert (record["nearest_training"] == 0) == record["memorised"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["memorised"] == 3
    assert 0 < report["features"]["hits per bar"]["overlap"] <= 1

    ok(run_job("export", run, tmp_path / "model", "--shards", shards))
    exported = ["--weights", tmp_path / "model", "--count", COUNT, "--out", tmp_path / "dropped"]
    printed = ok(run_job("sample", *exported, "--drop-memorised")).stdout
    assert "left out of 600: 3 memorised" in printed
    assert "distributions of features" in printed
    assert len(manifest_of(tmp_path / "dropped")) == COUNT - 3


def test_a_model_that_does_not_know_its_windows_cannot_drop_them(sample_run, tmp_path, training_shards):
    with pytest.raises(ConfigError, match="--drop-memorised needs the training windows"):
        sampled(sample_run, tmp_path, count=3, drop_memorised=True)
    shards, _ = training_shards
    with pytest.raises(ConfigError, match="the model was not trained on"):
        sampled(sample_run, tmp_path, count=3, shards=str(shards))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output_format", list(OutputFormat))
def test_what_was_said_to_be_taken_is_taken(sample_run, tmp_path, output_format):
    merged = sampled(sample_run, tmp_path, count=COUNT, pack=output_format)
    assert merged is not None
    job = job_of(SampleSettings(count=COUNT, run=str(sample_run), pack=output_format), tmp_path)
    trained = job.trained()
    # The estimate is made from the training data's hits, of which this model, which nobody trained, knows nothing.
    feel = replace(trained.feel, statistics=merged.tally.grooves)
    said = sizes(job, replace(trained, feel=feel), COUNT, 1024, block=4096)[output_format]
    files = [
        path for path in tmp_path.rglob("*") if path.name not in ("lock", "grooves.png", "report.json", "report.html")
    ]
    assert said.content == pytest.approx(sum(path.stat().st_size for path in files if path.is_file()), rel=0.2)
    assert said.inodes == pytest.approx(len(list(tmp_path.rglob("*"))), abs=5)


def test_the_plan_for_a_million_is_shown_and_nothing_is_made(sample_run, tmp_path):
    printed = sample_by_mean(sample_run, "--count", 10**6, "--out", tmp_path / "out", "--dry-run")
    for words in ("1,000,000 grooves will need about", "MIDI files (chosen)", "--pack tar", "--pack zip", "--no-files"):
        assert words in printed.stdout
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_ends_with_2(sample_run, tmp_path):
    (tmp_path / "file").touch()
    refused = run_job(
        "sample", "--feel", "mean", "--run", sample_run, "--count", 3, "--out", tmp_path / "file" / "grooves"
    )
    assert refused.returncode == 2
    assert "cannot write" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_weights_that_change_meanwhile_end_the_job(sample_run, tmp_path):
    run = Path(shutil.copytree(sample_run, tmp_path / "run"))
    sampled(run, tmp_path / "out", count=10)
    job = job_of(SampleSettings(count=20, run=str(run)), tmp_path / "out")
    best = read_best(RunFolder(run).best)
    weights = safetensors.torch.load(best.data)
    save_best(RunFolder(run).best, weights, best.step + 1, {})
    loaded.cache_clear()
    with pytest.raises(ConfigError, match="weights of the model have changed"):
        job.trained()
    with pytest.raises(ConfigError, match="grooves made with other settings") as refused:
        sampled(run, tmp_path / "out", count=20)
    assert f"expected  weights {best.weights_hash}" in str(refused.value)
