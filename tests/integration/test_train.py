"""`jobs.train` as users launch it: the same losses for every topology, and a resume that cannot be told apart."""

import json
import signal
import subprocess
import time

import pytest
import safetensors.torch
import torch

from musicvae.durable import read_lines
from tests.support.commands import CHECKOUT, job_command, ok, run_job, torchrun_command
from tests.support.requirements import only_in_a_soak
from tests.support.tiny_run import TINY, assert_same_state, train

SLOW_AND_LONG = [pytest.mark.slow, only_in_a_soak]
TOPOLOGIES = [(0, 4), (3, 2), *(pytest.param(ranks, 1, marks=only_in_a_soak) for ranks in (2, 3))]
"""Ranks and accumulation."""


@pytest.mark.parametrize(("ranks", "accumulation"), [(0, 4), (2, 1), pytest.param(3, 1, marks=SLOW_AND_LONG)])
def test_float32_losses_do_not_depend_on_the_topology(small_shards, tmp_path, ranks, accumulation):
    alone = train(small_shards, tmp_path / "alone", "train.steps=25")
    other = train(small_shards, tmp_path / "other", "train.steps=25", f"train.accumulation={accumulation}", ranks=ranks)
    assert len(alone) == 25
    assert other == pytest.approx(alone, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "accumulation"), TOPOLOGIES)
def test_float64_losses_do_not_depend_on_the_topology(small_shards, tmp_path, ranks, accumulation):
    wide = ["train.steps=50", "train.precision=float64"]
    alone = train(small_shards, tmp_path / "alone", *wide)
    other = train(small_shards, tmp_path / "other", *wide, f"train.accumulation={accumulation}", ranks=ranks)
    assert len(alone) == 50
    assert other == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize(
    "ranks",
    [0, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=SLOW_AND_LONG)],
)
def test_a_run_stopped_at_step_30_and_resumed_equals_the_unstopped_one(small_shards, tmp_path, ranks):
    whole = train(small_shards, tmp_path / "whole", "train.steps=50", ranks=ranks)
    train(small_shards, tmp_path / "stopped", "train.steps=30", ranks=ranks)
    resumed = train(small_shards, tmp_path / "stopped", "train.steps=50", ranks=ranks)
    assert resumed == whole
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 50)


def test_a_finished_run_that_is_started_again_stays_as_it_is(small_shards, tmp_path):
    train(small_shards, tmp_path / "run", "train.steps=3")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    result = ok(run_job("train", "--shards", small_shards, "--run", tmp_path / "run", *TINY, "train.steps=3"))
    assert "already at step 3" in result.stdout
    assert "validation -ELBO" in result.stdout
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    result = ok(run_job("train", "--shards", small_shards, "--run", tmp_path / "run", *TINY, "train.steps=1"))
    assert "train.steps=6 would extend it" in result.stdout


@pytest.mark.parametrize("passes", ["stepwise", "parallel"])
def test_scheduled_sampling_resumes_exactly_too(small_shards, tmp_path, passes):
    sampling = ["objective.scheduled_sampling=constant", "objective.sampling_rate=0.5"]
    sampling.append(f"objective.sampling_passes={passes}")
    whole = train(small_shards, tmp_path / "whole", "train.steps=8", *sampling)
    train(small_shards, tmp_path / "stopped", "train.steps=5", *sampling)
    assert train(small_shards, tmp_path / "stopped", "train.steps=8", *sampling) == whole
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 8)


def test_dropout_and_averaged_weights_resume_exactly_too(small_shards, tmp_path):
    kind = [
        "model.encoder=feed_forward",
        "model.decoder=transformer",
        "model.decoder_dropout=0.5",
        "model.history_dropout=0.5",
        "objective.window_dropout=0.5",
        "train.average_decay=0.9",
        "train.best_by=objective",
    ]
    whole = train(small_shards, tmp_path / "whole", "train.steps=8", *kind)
    train(small_shards, tmp_path / "stopped", "train.steps=5", *kind)
    assert train(small_shards, tmp_path / "stopped", "train.steps=8", *kind) == whole
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 8)
    checkpoint = tmp_path / "whole" / "checkpoints" / "step-00000008"
    weights, average = (safetensors.torch.load_file(checkpoint / f"{n}.safetensors") for n in ("model", "average"))
    kept = safetensors.torch.load_file(tmp_path / "whole" / "best.safetensors")
    assert weights.keys() == average.keys() == kept.keys()
    assert all(torch.equal(kept[name], average[name]) for name in kept), "the last evaluation was the best one"
    assert not all(torch.equal(weights[name], average[name]) for name in kept)


@pytest.mark.parametrize(
    ("number", "ranks", "state", "code"),
    [
        (signal.SIGTERM, 0, "preempted", 75),
        pytest.param(signal.SIGUSR2, 0, "preempted", 75, marks=pytest.mark.slow),
        (signal.SIGINT, 0, "interrupted", 130),
        pytest.param(signal.SIGUSR2, 2, "preempted", 75, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_same_command_goes_on(small_shards, tmp_path, number, ranks, state, code):
    run = tmp_path / "run"
    rarely = "train.checkpoint_every=100000"
    arguments = ["--shards", small_shards, "--run", run, *TINY, rarely]
    process = subprocess.Popen(
        job_command("train", *arguments, "train.steps=100000", ranks=ranks),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 5, process)
    process.send_signal(number)
    process.communicate(timeout=180)
    assert process.returncode == code
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == state
    stopped_at = len(read_lines(run / "metrics.jsonl"))
    assert (run / "checkpoints" / f"step-{stopped_at:08d}").is_dir(), "the checkpoint is of the very step it stopped at"

    total = stopped_at + 3
    resumed = train(small_shards, run, f"train.steps={total}", rarely, ranks=ranks)
    assert resumed == train(small_shards, tmp_path / "whole", f"train.steps={total}", rarely, ranks=ranks)
    assert_same_state(tmp_path / "whole", run, total)
    assert json.loads((run / "status.json").read_text())["restarts"] == 1


@pytest.mark.slow
def test_ranks_that_lose_their_torchrun_agent_save_and_leave(small_shards, tmp_path):
    run = tmp_path / "run"
    arguments = ["--shards", small_shards, "--run", run, *TINY, "train.checkpoint_every=100000"]
    agent = subprocess.Popen(
        torchrun_command("train", *arguments, "train.steps=100000", ranks=2),
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 5, agent)
    agent.kill()
    agent.wait()
    deadline = time.monotonic() + 120
    while json.loads((run / "status.json").read_text())["state"] != "preempted":
        assert time.monotonic() < deadline, "the ranks train on without their agent"
        time.sleep(0.1)
    stopped_at = json.loads((run / "status.json").read_text())["step"]
    assert (run / "checkpoints" / f"step-{stopped_at:08d}").is_dir()


def wait_for(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    """Waits until a condition holds while a process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_print_config_shows_what_a_command_line_resolves_to():
    shown = ok(run_job("train", "--preset", "demo", "--print-config", "train.seed=7")).stdout
    assert "  seed: 7\n" in shown
    assert "  latent: 64\n" in shown


def test_a_separator_that_torchrun_hands_on_changes_nothing():
    arguments = ["--preset", "demo", "--print-config"]
    assert ok(run_job("train", "--", *arguments)).stdout == ok(run_job("train", *arguments)).stdout


@pytest.mark.parametrize("preset", ["demo", "paper", "reconstruction"])
def test_what_print_config_shows_of_a_preset_gives_the_same_settings(preset, tmp_path):
    shown = ok(run_job("train", "--preset", preset, "--print-config")).stdout
    (tmp_path / "config.yaml").write_text(shown)
    assert ok(run_job("train", "--config", tmp_path / "config.yaml", "--print-config")).stdout == shown


def test_init_from_starts_a_new_run_from_weights(small_shards, tmp_path):
    train(small_shards, tmp_path / "first", "train.steps=5")
    arguments = ["--init-from", tmp_path / "first", "--shards", small_shards, "--run", tmp_path / "second", *TINY]
    ok(run_job("train", *arguments, "train.steps=1", "optimizer.learning_rate=1e-12", "optimizer.weight_decay=0"))
    before = safetensors.torch.load_file(tmp_path / "first" / "best.safetensors")
    after = safetensors.torch.load_file(tmp_path / "second" / "best.safetensors")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)
