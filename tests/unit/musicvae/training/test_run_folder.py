"""The run folder: one run, its identity, and logs in which every step stands once."""

import errno
import os

import pytest

from jobs.command.command_line import compose_settings
from jobs.training.settings import TrainConfig
from musicvae.durable import read_lines
from musicvae.errors import ConfigError, DataError, DiskFullError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.settings import apply_overrides, parse_settings
from musicvae.training.run_folder import RunFolder, RunIdentity
from musicvae.training.settings import ADDED_LATER, FitConfig
from tests.support.runs.topologies import PRESETS

IDS_AT_20AA091 = {
    "demo": "357409dc6bca",
    "feed_forward": "cfc0ee3ca72f",
    "generation": "178492d458ba",
    "generation_finish": "ae79083b4ec4",
    "generation_settle": "1eb58ec9000c",
    "latent_free": "ca352e3a2dbd",
    "paper": "1608ea9d0400",
    "reconstruction": "02d03fdaed25",
    "reconstruction_decoder": "6d20f13bcddb",
    "reconstruction_finish": "c08b99e64b1a",
    "reconstruction_settle": "80da822807b3",
    "small": "4ff36572aa5c",
}


def settings(*overrides: str) -> FitConfig:
    return parse_settings(FitConfig, apply_overrides({}, overrides))


def identity(*overrides: str, fingerprint: str = "f" * 16) -> RunIdentity:
    result = settings(*overrides).result_settings()
    return RunIdentity(result, fingerprint, GridSpec(), DrumMap.load("roland"))


@pytest.mark.parametrize(
    "override",
    [
        "model.latent=32",
        "objective.beta=0.3",
        "optimizer.learning_rate=1e-4",
        "optimizer.schedule=constant",
        "train.seed=1",
        "train.global_batch=128",
        "train.precision=bfloat16",
        "train.matmul=high",
        "train.clip=2.0",
        "data.lanes=32",
        "data.mix_drums=0.5",
        "performance={}",
    ],
)
def test_what_changes_the_result_changes_the_run_id(override):
    assert identity(override).run_id != identity().run_id


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=9",
        "train.accumulation=4",
        "train.deterministic=true",
        "train.log_every=1",
        "train.evaluate_every=9",
        "train.checkpoint_every=9",
        "train.keep_checkpoints=9",
        "train.evaluation_batch=9",
        "data.cached_blocks=9",
    ],
)
def test_a_resource_does_not(override):
    assert identity(override).run_id == identity().run_id


def test_a_typed_default_is_the_default():
    typed = ["objective.free_bits=48.0", "objective.sampling_rate=2000.0", "optimizer.learning_rate=1.0e-3"]
    assert identity(*typed).run_id == identity().run_id


def test_every_setting_is_either_part_of_the_result_or_named_a_resource():
    resources = {
        "data": {"cached_blocks", "ahead_mib", "cache_dir", "cache_gib"},
        "train": {
            *("steps", "accumulation", "log_every", "evaluate_every", "evaluation_batch", "log_windows"),
            *("checkpoint_every", "keep_checkpoints", "keep_every"),
            *("on_nonfinite", "max_skipped", "max_minutes", "profile", "compile", "deterministic"),
        },
    }
    of_scores, of_playing = settings().result_settings(), settings("performance={}").result_settings()
    for part, values in settings("performance={}").model_dump().items():
        result = of_playing if part == "performance" else of_scores
        later = {name.removeprefix(f"{part}.") for name in ADDED_LATER if name.startswith(f"{part}.")}
        assert set(values) - set(result[part]) == resources.get(part, set()) | later
    assert set(of_playing) == {"optimizer", "data", "train", "performance"}


def test_a_setting_that_came_later_leaves_the_ids_of_runs_before_it_as_they_were():
    """The run ids of the presets at commit 20aa091, before there was any such setting."""
    found = {
        preset: RunIdentity(
            compose_settings(TrainConfig, preset=preset).result_settings(), "f" * 16, GridSpec(), DrumMap.load("roland")
        ).run_id
        for preset in PRESETS
    }
    later = {found.pop(preset) for preset in ("performance", "generation_prior")}
    assert not later & set(found.values())
    assert found == IDS_AT_20AA091


def test_settings_of_the_other_kind_of_model_are_refused():
    with pytest.raises(ConfigError, match=r"no setting model\.latent, objective\.beta, data\.mix_bars; its own are"):
        settings("performance={}", "model.latent=32", "objective.beta=0.3", "data.mix_bars=0.5")
    assert identity("performance.hidden=64").run_id != identity("performance.hidden=32").run_id


def test_other_data_is_another_run():
    assert identity(fingerprint="0" * 16).run_id != identity().run_id


def test_absent_starts_and_same_resumes(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert run.open(identity(), settings().model_dump(mode="json"), {"commit": "abc"}) is False
    first = run.config.read_bytes()
    assert run.open(identity(), settings("train.steps=9").model_dump(mode="json"), {"commit": "def"}) is True
    assert run.config.read_bytes() == first, "config.yaml is written once"
    assert run.shard_format() == (GridSpec(), DrumMap.load("roland"), "f" * 16)


def test_a_run_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    run.open(identity(), {}, {})
    monkeypatch.setattr("os.access", lambda path, mode: False)  # tests may run as root, whom modes do not stop
    with pytest.raises(ConfigError, match="cannot write to"):
        run.open(identity(), {}, {})


def test_a_full_disk_is_told_from_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    """A sweep stops for the one, and counts the trial as failed for the other."""
    for number, error in ((errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EACCES, ConfigError)):

        def failing(path, *arguments, number=number, **options):
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr("musicvae.training.run_folder.write_whole", failing)
        with pytest.raises(error):
            RunFolder(tmp_path / "run").open(identity(), {}, {})
        assert not (tmp_path / "run").exists()


def test_another_run_is_refused_with_what_differs(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.open(identity(), {}, {})
    with pytest.raises(ConfigError, match=r"model\.latent was 256, is 32"):
        run.open(identity("model.latent=32"), {}, {})
    with pytest.raises(ConfigError, match="shards were ffffffffffffffff, are 0000000000000000"):
        run.open(identity(fingerprint="0" * 16), {}, {})


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no run in"):
        RunFolder(tmp_path / "nothing").read_config()
    (tmp_path / "config.yaml").write_text("run_id: 1\n")
    with pytest.raises(DataError, match="is damaged"):
        RunFolder(tmp_path).read_config()


def test_metrics_are_cut_back_to_a_checkpoint_and_a_torn_line_is_ignored(tmp_path):
    run = RunFolder(tmp_path)
    for step in range(1, 6):
        run.log({"step": step, "loss": step / 2})
    with run.metrics.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [record["step"] for record in read_lines(run.metrics)] == [1, 2, 3, 4, 5]
    run.cut_logs(3)
    run.log({"step": 4, "loss": 2.0})
    assert [record["step"] for record in read_lines(run.metrics)] == [1, 2, 3, 4]


def test_the_last_status_is_read_back(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_status() == {}
    run.write_status("running", 5, 10, restarts=2)
    run.finish_status("preempted")
    status = run.read_status()
    assert (status["state"], status["step"], status["total"], status["restarts"]) == ("preempted", 5, 10, 2)


def test_a_launch_closes_its_own_status_alone(tmp_path):
    run = RunFolder(tmp_path)
    run.write_status("running", 5, 10, launch="mine")
    run.close_status("another", "failed")
    assert run.read_status()["state"] == "running"
    run.close_status("mine", "failed")
    run.close_status("mine", "failed", failure={"rank": 1})
    status = run.read_status()
    assert (status["state"], status["step"], status["failure"]) == ("failed", 5, {"rank": 1})


def test_of_two_launches_on_several_machines_the_second_is_refused_before_a_rank_holds_the_run(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.launching("first", alone=False), folder.launching("first", alone=False):
        with pytest.raises(ConfigError, match="in use"), folder.launching("second", alone=False):
            pass
        with pytest.raises(ConfigError, match="in use"), folder.launching("third"):
            pass
    with folder.launching("second", alone=False):
        pass
