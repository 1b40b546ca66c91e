"""Grooves in the style of a part of the training data: velocity, timing and tempo, with and without its shards."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import symusic
import torch

from jobs.export import renew
from jobs.sampler.settings import Execution
from jobs.sampler.work import SampleShare
from musicvae import command_line
from musicvae.data.feel import PLAIN_VELOCITY, StyleFeel, measure_styles
from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.shards import write_shard
from musicvae.errors import ConfigError
from musicvae.groove.groove import DrumGroove
from musicvae.pretrained.load import load
from musicvae.pretrained.shipped import WEIGHTS
from tests.support.commands import ok, run_job
from tests.support.runs.sample_fixtures import DRUMS, GRID, manifest_of, output_of, sampled, write_sample_run
from tests.support.runs.shipped import need_shipped_models
from tests.support.shards.shard_fixtures import styled_windows

COUNT = 40


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of two styles and of none."""
    folder = tmp_path_factory.mktemp("shards")
    entry = write_shard(folder / "train-000000.tar", styled_windows(400))
    ShardManifest(GRID, DRUMS, {"train": SplitEntry(400, 1, (entry,))}).write(folder)
    return folder


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that says to be trained on them."""
    return write_sample_run(tmp_path_factory.mktemp("run") / "run", ShardManifest.read(shards).fingerprint)


@pytest.fixture(scope="module")
def export(run: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that carries their styles."""
    out = tmp_path_factory.mktemp("export") / "model"
    ok(run_job("export", run, out, "--shards", shards))
    return out


@pytest.fixture(scope="module")
def rock() -> StyleFeel:
    """As it is measured on the windows themselves."""
    return measure_styles([styled_windows(400)], GRID).of("rock")


def test_velocity_timing_and_tempo_are_those_of_the_style(export, rock, tmp_path):
    ok(run_job("sample", "--weights", export, "--count", COUNT, "--feel", "rock", "--ticks", 960, "--out", tmp_path))
    heard = 0
    for record in manifest_of(tmp_path):
        assert record["tempo"] == rock.tempos[16]
        notes = [note for track in symusic.Score(tmp_path / record["file"]).tracks for note in track.notes]
        found = {(note.time, note.pitch, note.velocity) for note in notes}
        for step, token in enumerate(record["tokens"]):
            for drum, pitch in enumerate(DRUMS.written_pitch.tolist()):
                if token >> drum & 1:
                    place = step % GRID.steps_per_bar, drum
                    tick = round((step + float(rock.offset[place])) * 240) % (GRID.num_steps * 240)
                    velocity = round(float(rock.velocity[place]) * 127)
                    assert (tick, pitch, velocity) in found
                    heard += 1
    assert heard > 10 * COUNT


def test_an_export_needs_no_shards_and_they_change_nothing(run, export, shards, tmp_path):
    sampled(export, tmp_path / "exported", count=COUNT, feel="jazz")
    sampled(run, tmp_path / "from-shards", count=COUNT, feel="jazz", shards=str(shards))
    files = [
        {name: data for name, data in output_of(tmp_path / out).items() if name.endswith(".mid")}
        for out in ("exported", "from-shards")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == COUNT


def test_tempos_of_the_style_are_drawn_whatever_the_count(export, rock, tmp_path):
    of_style = {"feel": "rock", "tempo_range": "style"}
    sampled(export, tmp_path / "many", count=200, **of_style)
    sampled(export, tmp_path / "few", count=5, **of_style)
    tempos = [record["tempo"] for record in manifest_of(tmp_path / "many")]
    assert rock.tempos[0] <= min(tempos) < max(tempos) <= rock.tempos[-1]
    assert np.median(tempos) == pytest.approx(rock.tempos[16], abs=40)
    assert [record["tempo"] for record in manifest_of(tmp_path / "few")] == tempos[:5]


def test_a_tempo_of_ones_own_goes_before_that_of_the_style(export, tmp_path):
    sampled(export, tmp_path, count=3, feel="rock", tempo=77.0)
    assert {record["tempo"] for record in manifest_of(tmp_path)} == {77.0}


def test_another_style_on_the_same_folder_is_refused(export, tmp_path):
    sampled(export, tmp_path, count=3, feel="rock")
    for wishes in ({"feel": "jazz"}, {}):
        with pytest.raises(ConfigError, match="grooves made with other settings") as refused:
            sampled(export, tmp_path, count=3, **wishes)
        assert "style rock" in str(refused.value)


@pytest.mark.slow
def test_new_grooves_have_the_wanted_style_in_hits_playing_and_tempo(run, export, shards, tmp_path):
    guide = load(export).training.guide
    rock = {"style": "rock", "feel": None, "unchosen": True}
    sampled(export, tmp_path / "free", count=COUNT, unchosen=True)
    sampled(export, tmp_path / "rock", count=COUNT, **rock)
    free, of_rock = (np.load(tmp_path / out / "z.npy") for out in ("free", "rock"))
    odds = [guide.read(torch.from_numpy(codes))[0][:, guide.names.index("rock")].numpy() for codes in (free, of_rock)]
    assert (odds[1][:, None] > odds[0]).mean() > 0.65, "the encoder has learnt nothing, but the odds grow"
    records = manifest_of(tmp_path / "rock")
    assert [record["style"] for record in records] == [guide.names[style] for style in guide.recognised(of_rock)]
    assert {record["tempo"] for record in records} == {guide.wanted("rock").median_tempo}

    grooves = load(export).sample(COUNT, style="rock", best_of=1)
    assert [groove.tokens.tolist() for groove in grooves] == [record["tokens"] for record in records]
    read = DrumGroove.from_midi(tmp_path / "rock" / records[0]["file"])
    assert read.velocity == pytest.approx(grooves[0].velocity, abs=0.01)
    new = ["new", "--count", "2", "--style", "rock", "--best-of", "1", "--model", str(export)]
    assert command_line.main([*new, "--out", str(tmp_path / "new")]) == 0
    grooves[1].to_midi(tmp_path / "expected.mid")
    assert (tmp_path / "new" / "groove-01.mid").read_bytes() == (tmp_path / "expected.mid").read_bytes()
    sampled(run, tmp_path / "from-shards", count=COUNT, shards=str(shards), **rock)
    midi = [
        {name: data for name, data in output_of(tmp_path / out).items() if name.endswith(".mid")}
        for out in ("rock", "from-shards")
    ]
    assert midi[0] == midi[1]
    for out, weights, cause in (("rock", export, "grooves made with other settings"), ("new", run, "is not known")):
        with pytest.raises(ConfigError, match=cause):
            sampled(weights, tmp_path / out, count=COUNT, style="rock:1,jazz:1", feel=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--style", "rok"], "of jazz, rock"),
        (["--style", "rock", "--like", "song.mid"], "expected  new grooves"),
        (["--feel", "rok"], "expected  jazz, rock\n  found     'rok'\n  likely    rock was meant"),
        (["--feel", "rock", "--dry"], "no --feel with it"),
        (["--tempo-range", "style"], "--feel STYLE with it"),
        (["--tempo-range", "0:90"], "or style with --feel"),
    ],
)
def test_what_cannot_be_played_ends_with_2_and_leaves_nothing(export, tmp_path, options, message):
    refused = run_job("sample", "--weights", export, "--count", 3, *options, "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()


def test_models_without_styles_say_what_to_do_and_an_old_export_is_renewed(run, export, shards, tmp_path):
    with pytest.raises(ConfigError, match="the styles of the training data are not known"):
        sampled(run, tmp_path / "of-run", count=3, feel="rock")

    old, whole = tmp_path / "old", (export / "training.safetensors").read_bytes()
    old.mkdir()
    tensors = {name: t for name, t in safetensors.numpy.load(whole).items() if not name.startswith("style_")}
    for file in export.iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    (old / "training.safetensors").write_bytes(safetensors.numpy.save(tensors))
    refused = run_job("sample", "--weights", old, "--count", 3, "--feel", "rock", "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert "python -m jobs.export renew EXPORT --shards SHARDS" in refused.stderr
    sampled(old, tmp_path / "out", count=3)  # all else of it works as before

    printed = ok(run_job("export", "renew", old, "--shards", shards)).stdout
    assert "styles: jazz, rock" in printed
    assert {file.name: file.read_bytes() for file in old.iterdir()} == {
        file.name: file.read_bytes() for file in export.iterdir()
    }


def test_only_shards_of_the_model_renew_it(export, tmp_path):
    entry = write_shard(tmp_path / "train-000000.tar", styled_windows(10, seed=1))
    ShardManifest(GRID, DRUMS, {"train": SplitEntry(10, 1, (entry,))}).write(tmp_path)
    before = (export / "training.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="the model was not trained on"):
        renew(export, str(tmp_path))
    assert (export / "training.safetensors").read_bytes() == before


def test_the_plain_feel_stays_what_it_was(export, tmp_path):
    sampled(export, tmp_path, count=3, feel="plain")
    assert load(export).feel.plain().velocity == pytest.approx(PLAIN_VELOCITY)
    notes = [note for file in tmp_path.rglob("*.mid") for track in symusic.Score(file).tracks for note in track.notes]
    assert {note.velocity for note in notes} == {100}


@pytest.mark.slow
def test_the_performance_model_plays_each_groove_alike_whatever_chunks_shares_and_workers(tmp_path):
    need_shipped_models()
    model = WEIGHTS / "generation"
    count = 120
    sampled(model, tmp_path / "whole", count=count, feel=None)
    sampled(model, tmp_path / "few", count=6, feel="played")
    sampled(model, tmp_path / "mean", count=6)
    whole, few, mean = (output_of(tmp_path / out) for out in ("whole", "few", "mean"))
    midi = [name for name in few if name.endswith(".mid")]
    assert len(midi) == 6
    assert all(few[name] == whole[name] != mean[name] for name in midi)
    assert np.std([note.velocity for name in midi for note in notes_of(few[name])]) > 20

    for chunk in (50, 1000):
        sampled(model, tmp_path / f"by {chunk}", count=count, feel=None, execution=Execution(chunk=chunk))
        assert output_of(tmp_path / f"by {chunk}") == whole
    for number in (1, 2, 0):
        sampled(model, tmp_path / "shares", count=count, feel=None, share=SampleShare(number, 3))
    assert output_of(tmp_path / "shares") == whole
    ok(run_job("sample", "--run", model, "--count", count, "--workers", 2, "--chunk", 40, "--out", tmp_path / "two"))
    assert output_of(tmp_path / "two") == whole


@pytest.mark.slow
def test_hits_that_continue_keeps_stand_and_the_others_are_played(tmp_path):
    need_shipped_models()
    made = {"feel": "played", "gallery": False}
    sampled(WEIGHTS / "generation", tmp_path / "few", count=2, **made)
    given, *_ = (tmp_path / "few").rglob("*.mid")
    sampled(WEIGHTS / "generation", tmp_path / "continued", count=3, continued=str(given), bars=2, **made)
    start = {(note.time, note.pitch, note.velocity) for note in notes_of(given.read_bytes()) if note.time < 7 * 480}
    assert len(start) > 10
    for data in midi_of(tmp_path / "continued").values():
        assert start <= {(note.time, note.pitch, note.velocity) for note in notes_of(data)}


def midi_of(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in output_of(out).items() if name.endswith(".mid")}


def notes_of(data: bytes) -> list[symusic.Note]:
    return [note for track in symusic.Score.from_midi(data).tracks for note in track.notes]
