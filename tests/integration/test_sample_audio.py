"""Loops of sound beside MIDI files, and in packs."""

import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from webdataset.tariterators import group_by_keys, tar_file_expander

from jobs.sampler.job import job_of
from jobs.sampler.settings import Audio, Execution, OutputFormat, SampleSettings
from jobs.sampler.terminal import sizes
from jobs.sampler.work import SampleShare
from tests.support.commands import ok, run_job
from tests.support.runs.sample_fixtures import manifest_of, output_of, sampled

COUNT = 24


@pytest.fixture(scope="module", params=[Audio.WAV, Audio.FLAC])
def audio(request: pytest.FixtureRequest) -> Audio:
    return request.param


@pytest.fixture(scope="module")
def files(audio: Audio, sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """MIDI files and loops as they lie in a folder."""
    out = tmp_path_factory.mktemp("files") / "out"
    sampled(sample_run, out, count=COUNT, audio=audio)
    found = {name: data for name, data in output_of(out).items() if name.startswith("000/")}
    assert len(found) == 2 * COUNT
    return found


@pytest.mark.parametrize("audio", ["wav", "flac"])
def test_loops_of_sound_are_as_long_as_their_bars(sample_run, tmp_path, audio):
    sampled_with = ["--count", 3, "--tempo", 120, "--audio", audio]
    ok(run_job("sample", "--feel", "mean", "--run", sample_run, "--out", tmp_path, *sampled_with))
    for record in manifest_of(tmp_path):
        path = (tmp_path / record["file"]).with_suffix(f".{audio}")
        assert soundfile.info(path).format == audio.upper()
        sound, rate = soundfile.read(path)
        assert (rate, sound.shape) == (48_000, (8 * rate, 2)), "four bars at 120 quarter notes a minute, stereo"
        assert np.abs(sound).max() > 0.1


def test_a_zip_holds_the_very_files(sample_run, tmp_path, audio, files):
    ok(
        run_job(
            "sample",
            "--feel",
            "mean",
            "--run",
            sample_run,
            "--count",
            COUNT,
            "--out",
            tmp_path,
            "--pack",
            "zip",
            "--audio",
            audio,
        )
    )
    with zipfile.ZipFile(tmp_path / "grooves.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert not (tmp_path / "000").exists()


def test_a_sample_of_a_tar_is_all_files_of_a_groove(sample_run, tmp_path, audio, files):
    ok(
        run_job(
            "sample",
            "--feel",
            "mean",
            "--run",
            sample_run,
            "--count",
            COUNT,
            "--out",
            tmp_path,
            "--pack",
            "tar",
            "--audio",
            audio,
        )
    )
    records = manifest_of(tmp_path)
    with (tmp_path / "grooves-00000.tar").open("rb") as stream:
        samples = list(group_by_keys(tar_file_expander([{"url": "grooves", "stream": stream}])))
    assert [sample["__key__"] for sample in samples] == [record["id"] for record in records]
    for sample, record in zip(samples, records, strict=True):
        assert {name for name in sample if not name.startswith("__")} == {"mid", "json", str(audio)}
        assert json.loads(sample["json"]) == record
        path = Path(record["file"])
        assert sample["mid"] == files[str(path)]
        assert sample[str(audio)] == files[str(path.with_suffix(f".{audio}"))]


def test_shards_and_workers_make_the_same_pack(sample_run, tmp_path):
    wishes = {"count": COUNT, "pack": OutputFormat.TAR, "audio": Audio.WAV}
    sampled(sample_run, tmp_path / "one", **wishes)
    for number in (1, 0):
        sampled(sample_run, tmp_path / "two", share=SampleShare(number, 2), execution=Execution(chunk=5), **wishes)
    assert output_of(tmp_path / "one") == output_of(tmp_path / "two")
    with tarfile.open(tmp_path / "one" / "grooves-00000.tar") as tar:
        assert len(tar.getnames()) == 3 * COUNT


@pytest.mark.parametrize("output_format", [OutputFormat.FILES, OutputFormat.TAR, OutputFormat.ZIP])
def test_what_was_said_to_be_taken_is_taken(sample_run, tmp_path, output_format):
    wishes = {"count": COUNT, "pack": output_format, "audio": Audio.WAV, "gallery": False}
    merged = sampled(sample_run, tmp_path, **wishes)
    assert merged is not None
    job = job_of(SampleSettings(run=str(sample_run), **wishes), tmp_path)
    trained = job.trained()
    feel = replace(trained.feel, statistics=merged.tally.grooves)
    said = sizes(job, replace(trained, feel=feel), COUNT, 1024, block=4096)[output_format]
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert said.content == pytest.approx(taken, rel=0.05)


def test_a_manifest_alone_has_no_sound(sample_run, tmp_path):
    with pytest.raises(ValueError, match="no --no-files with it"):
        sampled(sample_run, tmp_path, count=3, pack=OutputFormat.NONE, audio=Audio.WAV)
