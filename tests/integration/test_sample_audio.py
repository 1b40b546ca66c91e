"""Loops of sound beside MIDI files, and in packs."""

import base64
import json
import re
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
from jobs.sampler.work import SampleShare, SampleWork
from musicvae.data.windows import OFFSET_UNITS
from musicvae.errors import ConfigError
from musicvae.groove.groove import DrumGroove, onset_ticks
from musicvae.groove.sound import SAMPLE_RATE, render_loop
from musicvae.midi.performance import read_performance
from tests.support.runs.sample_fixtures import DRUMS, GRID, manifest_of, output_of, sample_by_mean, sampled

COUNT = 24


@pytest.fixture(scope="module", params=[pytest.param(Audio.WAV, marks=pytest.mark.slow), Audio.FLAC])
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
    sample_by_mean(sample_run, "--out", tmp_path, *sampled_with)
    for record in manifest_of(tmp_path):
        path = (tmp_path / record["file"]).with_suffix(f".{audio}")
        assert soundfile.info(path).format == audio.upper()
        sound, rate = soundfile.read(path)
        assert (rate, sound.shape) == (48_000, (8 * rate, 2)), "four bars at 120 quarter notes a minute, stereo"
        assert np.abs(sound).max() > 0.1


@pytest.mark.slow
def test_a_zip_holds_the_very_files(sample_run, tmp_path, audio, files):
    sample_by_mean(sample_run, "--count", COUNT, "--out", tmp_path, "--pack", "zip", "--audio", audio)
    with zipfile.ZipFile(tmp_path / "grooves.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert not (tmp_path / "000").exists()


def test_a_sample_of_a_tar_is_all_files_of_a_groove(sample_run, tmp_path, audio, files):
    sample_by_mean(sample_run, "--count", COUNT, "--out", tmp_path, "--pack", "tar", "--audio", audio)
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


@pytest.mark.slow
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


def groove_of(path: Path) -> DrumGroove:
    return DrumGroove.from_midi(path, short="silence")


def test_midi_sound_and_gallery_have_one_list_of_hits(sample_run, tmp_path):
    """A division so coarse that onsets are moved by it, and hits before the first beat among them."""
    sampled(sample_run, tmp_path, count=COUNT, audio=Audio.WAV, tempo=120.0, ticks=96)
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    arrays = {
        name: np.frombuffer(base64.b64decode(re.search(rf'id="{name}"[^>]*>([^<]*)<', page)[1]), kind)
        for name, kind in (("tokens", "<i2"), ("velocity", np.uint8), ("offset", "<i2"))
    }
    early, place = 0, 0
    for record in manifest_of(tmp_path):
        file = tmp_path / record["file"]
        performance, groove = read_performance(file.read_bytes()), groove_of(file)
        step, _ = np.nonzero(groove.hits)
        shown = slice(place, place := place + len(step))
        ticks = onset_ticks(step, arrays["offset"][shown] / OFFSET_UNITS, GRID, 96)
        early += int((ticks < 0).sum())
        assert sorted(ticks % (16 * 96)) == performance.tick.tolist()
        sound, rate = soundfile.read(file.with_suffix(".wav"))
        expected = render_loop(groove, DRUMS, stereo=True, ticks=96)
        assert (rate, sound.shape) == (SAMPLE_RATE, expected.shape)
        np.testing.assert_allclose(sound, expected, atol=2e-4)
    assert early > 0


def test_files_with_a_lead_in_begin_with_a_silent_bar(sample_run, tmp_path):
    for out, lead_in in (("loops", False), ("led-in", True)):
        sampled(sample_run, tmp_path / out, count=4, audio=Audio.WAV, tempo=120.0, lead_in=lead_in)
    assert '"leadIn": true' in (tmp_path / "led-in" / "gallery.html").read_text()
    for record in manifest_of(tmp_path / "loops"):
        loop, led_in = (tmp_path / out / record["file"] for out in ("loops", "led-in"))
        first, second = read_performance(loop.read_bytes()), read_performance(led_in.read_bytes())
        in_loop = np.where(first.tick >= 16 * 480 - 60, first.tick - 16 * 480, first.tick)
        assert sorted(in_loop + 4 * 480) == second.tick.tolist()
        assert (first.end, second.end) == (16 * 480, 20 * 480)
        np.testing.assert_array_equal(groove_of(led_in).hits, groove_of(loop).hits)
        sound, rate = soundfile.read(led_in.with_suffix(".wav"))
        assert not sound[: round(1.9 * rate)].any(), "two seconds are a bar"
    with pytest.raises(ConfigError, match="grooves made with other settings") as refused:
        sampled(sample_run, tmp_path / "loops", count=4, audio=Audio.WAV, tempo=120.0, lead_in=True)
    assert "early_hits" in str(refused.value)


def test_a_sampling_that_was_begun_with_early_hits_on_the_beat_is_finished_so(sample_run, tmp_path):
    options = SampleSettings(run=str(sample_run), count=8, feel="mean")
    recorded = job_of(options, tmp_path / "new").settings
    before = {name: value for name, value in recorded.items() if name != "early_hits"}
    SampleWork(tmp_path / "old").claim(before, options)
    for out in ("old", "new"):
        sampled(sample_run, tmp_path / out, count=8)
    settings = json.loads((tmp_path / "old" / "settings.json").read_text())
    assert "early_hits" not in settings
    moved = 0
    for record in manifest_of(tmp_path / "new"):
        old, new = (read_performance((tmp_path / out / record["file"]).read_bytes()) for out in ("old", "new"))
        early = new.tick >= 16 * 480 - 60
        assert sorted(np.where(early, 0, new.tick)) == old.tick.tolist()
        moved += int(early.sum())
    assert moved > 8
    assert "moved onto it, as it began" in job_of(options, tmp_path / "old").notice
    with pytest.raises(ConfigError, match="grooves made with other settings"):  # sound is another now
        sampled(sample_run, tmp_path / "old", count=8, audio=Audio.WAV)


def test_new_hits_can_be_played_around_the_grid(sample_run, tmp_path):
    """The mean as it is by default; the performance model does it by itself (tests of the performer)."""
    lean = {}
    for out, centred in (("default", None), ("as-learnt", False), ("centred", True)):
        sampled(sample_run, tmp_path / out, count=COUNT, centred=centred)
        grooves = [groove_of(tmp_path / out / record["file"]) for record in manifest_of(tmp_path / out)]
        offsets = np.concatenate([groove.offset[groove.hits] for groove in grooves])
        lean[out] = offsets.mean()
    assert lean["default"] == lean["as-learnt"]
    trained = job_of(SampleSettings(run=str(sample_run), count=1), tmp_path / "none").trained()
    weights = np.broadcast_to(trained.feel.statistics.class_shares, trained.feel.offset.shape)
    measured = np.average(trained.feel.offset, weights=weights)
    assert lean["centred"] == pytest.approx(lean["default"] - measured, abs=0.005)
