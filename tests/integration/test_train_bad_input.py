"""What `jobs.train` says to what cannot work: exit code, message, nothing left behind."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import CHECKOUT, ok, run_job, torchrun_command
from tests.support.harm.damage import damage_file, each_damage

SMALL = ["data.lanes=8", "train.global_batch=8", "train.steps=1", "resources.threads=1", "--preset", "demo"]


def refused(*arguments: object, code: int, **environment: str) -> str:
    """Runs `jobs.train`, which must end with a code and without a traceback; gives what it said."""
    result = run_job("train", *arguments, **environment)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error: ") >= 1
    return result.stderr


def test_an_unknown_setting_names_the_nearest(small_shards, tmp_path):
    said = refused("--shards", small_shards, "--run", tmp_path / "run", "train.global_bach=8", code=2)
    assert "unknown setting train.global_bach (did you mean train.global_batch?)" in said
    assert not (tmp_path / "run").exists()


def test_a_value_out_of_range(small_shards, tmp_path):
    said = refused("--shards", small_shards, "--run", tmp_path / "run", "train.steps=0", code=2)
    assert "train.steps = 0" in said
    assert not (tmp_path / "run").exists()


def test_an_unknown_preset_lists_the_shipped_ones(small_shards, tmp_path):
    said = refused("--preset", "smal", "--shards", small_shards, "--run", tmp_path / "run", code=2)
    assert "demo, feed_forward, generation," in said


def test_fewer_windows_than_the_batch_names_both_and_a_batch_that_fits(small_shards, tmp_path):
    said = refused("--shards", small_shards, "--run", tmp_path / "run", "train.global_batch=64000", code=2)
    assert "train.global_batch=64000" in said
    assert "training windows" in said
    assert "set train.global_batch=" in said
    assert not (tmp_path / "run").exists()


def test_several_machines_need_a_number_of_ranks(small_shards, tmp_path):
    said = refused("--shards", small_shards, "--run", tmp_path / "run", "--nodes", "2", *SMALL, code=2)
    assert "--nodes without --ranks" in said
    assert not (tmp_path / "run").exists()


def test_shards_that_are_not_there(tmp_path):
    said = refused("--shards", tmp_path / "nowhere", "--run", tmp_path / "run", code=2)
    assert "no shards in" in said
    assert "python -m jobs.build_shards" in said
    assert not (tmp_path / "run").exists()


def test_a_run_folder_of_another_run_names_the_differing_settings(small_shards, tmp_path):
    run = tmp_path / "run"
    ok(run_job("train", "--shards", small_shards, "--run", run, *SMALL))
    before = snapshot(run)
    said = refused("--shards", small_shards, "--run", run, *SMALL, "train.seed=1", "objective.beta=0.5", code=2)
    assert "contains another run" in said
    assert "objective.beta was 0.2, is 0.5" in said
    assert "train.seed was 0, is 1" in said
    assert snapshot(run) == before


def test_a_folder_that_is_no_run(small_shards, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    said = refused("--shards", small_shards, "--run", tmp_path / "run", *SMALL, code=2)
    assert "is not a run folder" in said
    assert snapshot(tmp_path / "run") == {"thesis.txt": b"precious"}


def test_a_run_path_that_cannot_be_made(small_shards, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "is not a run folder" in refused("--shards", small_shards, "--run", tmp_path / "file", *SMALL, code=2)
    assert "cannot make" in refused("--shards", small_shards, "--run", tmp_path / "file" / "run", *SMALL, code=2)
    assert snapshot(tmp_path) == {"file": b"precious"}


def test_weights_of_another_model_cannot_start_a_run(small_shards, tmp_path):
    ok(run_job("train", "--shards", small_shards, "--run", tmp_path / "first", *SMALL))
    arguments = ["--init-from", tmp_path / "first", "--shards", small_shards, "--run", tmp_path / "second", *SMALL]
    said = refused(*arguments, "model.latent=32", code=2)
    assert "model.latent is 32, was 64" in said
    assert not (tmp_path / "second").exists()


@pytest.mark.slow
def test_a_run_begun_from_weights_asks_for_them_until_it_has_a_checkpoint(small_shards, tmp_path):
    ok(run_job("train", "--shards", small_shards, "--run", tmp_path / "first", *SMALL))
    second = ["--shards", small_shards, "--run", tmp_path / "second", *SMALL]
    ok(run_job("train", *second, "--init-from", tmp_path / "first"))
    ok(run_job("train", *second, "train.steps=2"))  # it has its own weights now
    shutil.rmtree(tmp_path / "second" / "checkpoints")  # as if it had been killed before its first checkpoint
    assert "give --init-from" in refused(*second, code=2)
    ok(run_job("train", *second, "--init-from", tmp_path / "first"))


def test_a_constant_sampling_rate_is_a_probability(small_shards, tmp_path):
    arguments = ["--shards", small_shards, "--run", tmp_path / "run", *SMALL]
    said = refused(*arguments, "objective.scheduled_sampling=constant", code=2)
    assert "needs a probability as sampling_rate" in said


@each_damage
def test_a_damaged_shard_is_named(small_shards_copy, tmp_path, damage):
    path = sorted(small_shards_copy.glob("train-*.tar"))[0]
    damage_file(path, damage)
    said = refused("--shards", small_shards_copy, "--run", tmp_path / "run", *SMALL, code=3)
    assert path.name in said
    assert "copy the shards again" in said


def test_an_edited_manifest_is_noticed(small_shards_copy, tmp_path):
    path = small_shards_copy / "manifest.json"
    path.write_text(path.read_text().replace('"bars": 4', '"bars": 2'))
    said = refused("--shards", small_shards_copy, "--run", tmp_path / "run", *SMALL, code=3)
    assert "fingerprint" in said
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_not_finite_ends_with_4(small_shards, tmp_path):
    said = refused(
        *("--shards", small_shards, "--run", tmp_path / "run", *SMALL),
        *("optimizer.learning_rate=1e30", "train.clip=1e30", "train.steps=50"),
        code=4,
    )
    assert "not finite at step" in said
    assert "optimizer.learning_rate" in said


@pytest.mark.slow
def test_a_run_that_was_trained_from_scratch_cannot_be_begun_from_weights(small_shards, tmp_path):
    for name in ("source", "run"):
        ok(run_job("train", "--shards", small_shards, "--run", tmp_path / name, *SMALL))
    arguments = ["--shards", small_shards, "--run", tmp_path / "run", *SMALL]
    assert "was started without --init-from" in refused(*arguments, "--init-from", tmp_path / "source", code=2)


@pytest.mark.slow
def test_under_torchrun_one_rank_speaks(small_shards, tmp_path):
    command = torchrun_command(
        "train", "--shards", small_shards, "--run", tmp_path / "run", "train.global_bach=8", ranks=3
    )
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert result.returncode == 1, "torchrun's own"
    assert result.stderr.count("unknown setting train.global_bach") == 1


@pytest.mark.parametrize(
    ("rank", "absent"), [("0", "rank 0 of 2 waits for rank 1"), ("1", "rank 1 of 2 waits for rank 0")]
)
def test_variables_of_another_launch_end_a_bounded_wait_that_is_announced(small_shards, tmp_path, rank, absent):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = ["--shards", small_shards, "--run", tmp_path / "run", *SMALL, "resources.join_seconds=1.5"]
    leftover = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    said = refused(*arguments, code=2, **leftover)
    assert f"{absent} at 127.0.0.1:{port}; it gives up after 1.5 s" in said
    assert "in vain" in said
    assert "unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "but not MASTER_ADDR and MASTER_PORT"),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "RANK=2 cannot be used"),
        ({"RANK": "a", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "RANK=a cannot be used"),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "p"}, "MASTER_PORT=p cannot be"),
    ],
)
def test_variables_that_describe_no_place_in_a_launch_are_refused(small_shards, tmp_path, variables, told):
    said = refused("--shards", small_shards, "--run", tmp_path / "run", *SMALL, code=2, **variables)
    assert told in said
    assert "unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT" in said


def test_ranks_beside_variables_of_another_launch_are_refused(small_shards, tmp_path):
    leftover = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    said = refused("--shards", small_shards, "--run", tmp_path / "run", *SMALL, "--ranks", "2", code=2, **leftover)
    assert "or they are left over from a launch" in said


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "", "WORLD_SIZE": "2"},
        {"RANK": "1"},
        pytest.param({"WORLD_SIZE": "2"}, marks=pytest.mark.slow),
        pytest.param({"RANK": ""}, marks=pytest.mark.slow),
    ],
)
def test_one_variable_of_another_launch_alone_means_nothing(small_shards, tmp_path, variables):
    ok(run_job("train", "--shards", small_shards, "--run", tmp_path / "run", *SMALL, **variables))
    said = refused("--shards", small_shards, "--run", tmp_path / "run", "train.step=1", code=2, **variables)
    assert "unknown setting train.step" in said


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
