"""`jobs.train` as users launch it: the same losses for every topology, and a resume that cannot be told apart."""

import json
import signal
import subprocess
import time

import pytest
import safetensors.torch
import torch

from musicvae.durable import read_lines
from musicvae.pretrained.performer import load_performance
from musicvae.training.best_weights import read_best
from musicvae.training.progress import SPEED_FIGURES
from tests.support.commands import CHECKOUT, TINY, job_command, ok, run_job, torchrun_command
from tests.support.processes.running_job import wait_for
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, begin_before_masks_were_keyed, losses, train

SLOW_AND_LONG = [pytest.mark.slow, only_in_a_soak]
TOPOLOGIES = [(0, 4), (3, 2), *(pytest.param(ranks, 1, marks=only_in_a_soak) for ranks in (2, 3))]
"""Ranks and accumulation."""
DROPOUT = [
    "model.encoder=feed_forward",
    "model.encoder_dropout=0.3",
    "model.decoder=transformer",
    "model.decoder_dropout=0.5",
    "model.history_dropout=0.5",
    "objective.window_dropout=0.5",
]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "accumulation"), [(0, 4), (2, 1), pytest.param(3, 1, marks=SLOW_AND_LONG)])
def test_float32_losses_do_not_depend_on_the_topology(small_shards, tmp_path, ranks, accumulation):
    settings = [*DROPOUT, "train.steps=25"]
    alone = train(small_shards, tmp_path / "alone", *settings)
    other = train(small_shards, tmp_path / "other", *settings, f"train.accumulation={accumulation}", ranks=ranks)
    assert len(alone) == 25
    assert other == pytest.approx(alone, rel=1e-5)
    feels = {(tmp_path / name / "feel.safetensors").read_bytes() for name in ("alone", "other")}
    assert len(feels) == 1, "ranks share the reading, and what they count is the same"


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
    begin_before_masks_were_keyed(tmp_path / "stopped")
    resumed = train(small_shards, tmp_path / "stopped", "train.steps=50", ranks=ranks)
    assert resumed == whole
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 50)


def test_a_finished_run_that_is_started_again_stays_as_it_is(small_shards, tmp_path):
    train(small_shards, tmp_path / "run", "train.steps=3")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    result = ok(run_job("train", "--shards", small_shards, "--run", tmp_path / "run", *TINY, "train.steps=3"))
    assert "the run is complete at step 3" in result.stdout
    assert "validation -ELBO" in result.stdout
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    result = ok(run_job("train", "--shards", small_shards, "--run", tmp_path / "run", *TINY, "train.steps=1"))
    assert "to extend it, add train.steps=6" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("passes", ["stepwise", "parallel"])
def test_scheduled_sampling_resumes_exactly_too(small_shards, tmp_path, passes):
    sampling = ["objective.scheduled_sampling=constant", "objective.sampling_rate=0.5"]
    sampling.append(f"objective.sampling_passes={passes}")
    whole = train(small_shards, tmp_path / "whole", "train.steps=8", *sampling)
    train(small_shards, tmp_path / "stopped", "train.steps=5", *sampling)
    assert train(small_shards, tmp_path / "stopped", "train.steps=8", *sampling) == whole
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 8)


@pytest.mark.slow
def test_dropout_and_averaged_weights_resume_exactly_too(small_shards, tmp_path):
    kind = [*DROPOUT, "train.average_decay=0.9", "train.best_by=objective"]
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


def test_a_run_whose_masks_depended_on_its_ranks_is_no_more_resumed_and_another_starts_from_it(small_shards, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    train(small_shards, old, "train.steps=2", *DROPOUT)
    begin_before_masks_were_keyed(old)
    result = run_job("train", "--shards", small_shards, "--run", old, *TINY, *DROPOUT, "train.steps=4")
    assert result.returncode == 2
    assert "its dropout masks would change" in result.stderr
    assert f"--init-from {old}" in result.stderr
    started = ["--init-from", old, "--shards", small_shards, "--run", new, *TINY, *DROPOUT]
    ok(run_job("train", *started, "train.steps=1"))
    assert len(losses(new)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "ranks", "state", "code"),
    [
        (signal.SIGTERM, 0, "preempted", 75),
        (signal.SIGUSR2, 0, "preempted", 75),
        (signal.SIGINT, 0, "interrupted", 130),
        (signal.SIGUSR2, 2, "preempted", 75),
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
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 5, process, "steps")
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
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 5, agent, "steps")
    agent.kill()
    agent.wait()
    deadline = time.monotonic() + 120
    while json.loads((run / "status.json").read_text())["state"] != "preempted":
        assert time.monotonic() < deadline, "the ranks train on without their agent"
        time.sleep(0.1)
    stopped_at = json.loads((run / "status.json").read_text())["step"]
    assert (run / "checkpoints" / f"step-{stopped_at:08d}").is_dir()


@pytest.mark.slow
@only_in_a_soak
@pytest.mark.parametrize("mode", ["true", "reduce-overhead"])
def test_a_compiled_model_trains_like_one_that_is_not(small_shards, tmp_path, mode):
    settings = ["train.steps=8", *DROPOUT]
    plain = train(small_shards, tmp_path / "plain", *settings)
    compiled = train(small_shards, tmp_path / "compiled", *settings, f"train.compile={mode}")
    assert len(plain) == 8
    assert compiled == pytest.approx(plain, rel=1e-5)


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


@pytest.mark.slow
def test_a_prior_is_fitted_to_an_encoder_that_stays(small_shards, tmp_path):
    first, whole, stopped = (tmp_path / name for name in ("first", "whole", "stopped"))
    train(small_shards, first, "train.steps=3")
    kind = ["model.prior=flow", "model.prior_hidden=8", "model.prior_dropout=0.2", "objective.trains=prior"]
    line = ["--shards", small_shards, "--run", whole, *TINY, *kind]
    refused = run_job("train", *line)
    assert (refused.returncode, "add --init-from RUN" in refused.stderr) == (2, True)
    refused = run_job("train", *line, "model.prior=standard", "--init-from", first)
    assert (refused.returncode, "needs model.prior flow" in refused.stderr) == (2, True)
    assert not whole.exists()

    kind += ["--init-from", first]
    losses_of_whole = train(small_shards, whole, "train.steps=8", *kind)
    before, after = (safetensors.torch.load_file(run / "best.safetensors") for run in (first, whole))
    assert all(torch.equal(after[name], before[name]) for name in before)
    fitted = {name: weight for name, weight in after.items() if name not in before}
    assert {name.partition(".")[0] for name in fitted} == {"prior"}
    assert any(weight.any() for name, weight in fitted.items() if ".out." in name), "at N(0, I) these are 0"
    assert all("reconstruction" in record for record in read_lines(first / "metrics.jsonl"))
    assert not any("reconstruction" in record for record in read_lines(whole / "metrics.jsonl"))
    ok(run_job("report", whole))

    train(small_shards, stopped, "train.steps=5", *kind)
    assert train(small_shards, stopped, "train.steps=8", *kind) == losses_of_whole
    assert_same_state(whole, stopped, 8)


PLAYING = [
    *("performance.hidden=16", "performance.layers=2", "performance.heads=2", "data.lanes=8", "train.global_batch=16"),
    *("train.log_every=1", "train.evaluate_every=6", "train.checkpoint_every=5", "resources.threads=1"),
]


def train_playing(shards, run, *settings, ranks=0):
    """Trains a tiny performance model and gives the lines of its metrics."""
    line = ["train", "--preset", "performance", "--shards", shards, "--run", run, *PLAYING, *settings]
    result = ok(run_job(*line, ranks=ranks))
    return read_lines(run / "metrics.jsonl"), result.stdout


@pytest.mark.slow
def test_a_performance_model_resumes_in_mid_epoch_exactly_and_is_reported_like_the_others(small_shards, tmp_path):
    whole, _ = train_playing(small_shards, tmp_path / "whole", "train.steps=15")
    train_playing(small_shards, tmp_path / "stopped", "train.steps=7")
    resumed, shown = train_playing(small_shards, tmp_path / "stopped", "train.steps=15")
    assert len(whole) == 15
    for line, again in zip(whole, resumed, strict=True):
        of_this_launch = {
            *SPEED_FIGURES,
            *(again.keys() - line.keys() if again["step"] == 7 else ()),
        }
        assert {name: again[name] for name in again.keys() - of_this_launch} == {
            name: line[name] for name in line.keys() - of_this_launch
        }
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 15)
    assert whole[-1]["loss"] < whole[0]["loss"]
    assert "validation.offset_nats_given" in whole[-1]
    best = read_best(tmp_path / "whole" / "best.safetensors")
    assert best.figures["validation.nats_per_hit"] == min(line.get("validation.nats_per_hit", 99) for line in whole)
    assert "step 15: validation velocity" in shown
    assert "next: python -m jobs.report" in shown
    assert "nats per hit" in ok(run_job("status", tmp_path / "whole")).stdout
    reported = ok(run_job("report", tmp_path / "whole")).stdout
    assert f"best velocity and timing {best.figures['validation.nats_per_hit']:.2f} at step 15" in reported
    page = (tmp_path / "whole" / "report.html").read_text()
    assert all(part in page for part in ("velocity there, nats per hit", "Timing", "Gradient norm"))
    exported = ok(
        run_job("export", tmp_path / "whole", tmp_path / "export", "--shards", small_shards, "--dtype", "bfloat16")
    )
    assert f"step 15, validation {best.figures['validation.nats_per_hit']:.3f} nats per hit" in exported.stdout
    performer = load_performance(tmp_path / "export")
    assert performer.step == 15
    assert len(performer.manners) > 100
    refused = run_job("sample", "--run", tmp_path / "whole", "--count", 1, "--out", tmp_path / "grooves")
    assert refused.returncode == 2
    assert "holds a performance model" in refused.stderr
    line = ["train", "--preset", "performance", "--shards", small_shards, "--run", tmp_path / "new"]
    refused = run_job(*line, "--init-from", tmp_path / "whole")
    assert refused.returncode == 2
    assert "a performance model cannot be started from weights" in refused.stderr


@pytest.mark.slow
def test_a_performance_model_is_the_same_on_two_ranks_also_resumed(small_shards, tmp_path):
    wide = ["train.precision=float64"]
    alone, _ = train_playing(small_shards, tmp_path / "alone", "train.steps=12", *wide)
    whole, _ = train_playing(small_shards, tmp_path / "whole", "train.steps=12", *wide, ranks=2)
    train_playing(small_shards, tmp_path / "stopped", "train.steps=7", *wide, ranks=2)
    train_playing(small_shards, tmp_path / "stopped", "train.steps=12", *wide, ranks=2)
    assert_same_state(tmp_path / "whole", tmp_path / "stopped", 12)
    assert [line["loss"] for line in whole] == pytest.approx([line["loss"] for line in alone], rel=1e-9)
    figures = ("validation.velocity_nats", "validation.offset_nats", "validation.offset_nats_given")
    assert [whole[-1][name] for name in figures] == pytest.approx([alone[-1][name] for name in figures], rel=1e-9)
