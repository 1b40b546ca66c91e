"""What goes wrong in a run besides its processes: numbers, memory, disks, shards, and two launches at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from musicvae.durable import read_lines
from musicvae.training.run_folder import checkpoints
from tests.support.commands import CHECKOUT, TINY, job_command, ok, run_job
from tests.support.harm.interposed import POISONED_NOISE, POISONED_STEP, interposed
from tests.support.harm.small_disk import enlarge, fill, small_disk
from tests.support.runs.tiny_run import assert_same_state, losses, status, train

pytestmark = pytest.mark.slow
STEPS = ("train.steps=12", "train.log_windows=true")


@pytest.fixture
def poisoned(tmp_path) -> dict[str, str]:
    """The variables under which one step of every run gets a gradient that is not finite."""
    return interposed(tmp_path / "interposed", POISONED_NOISE)


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_gradient_that_is_not_finite_ends_the_run_with_4_and_says_which_windows(
    small_shards, tmp_path, poisoned, ranks
):
    run = tmp_path / "run"
    result = run_job("train", "--shards", small_shards, "--run", run, *TINY, *STEPS, ranks=ranks, **poisoned)
    assert result.returncode == 4, result.stderr
    assert f"the gradient is not finite at step {POISONED_STEP}" in result.stderr
    assert "train.on_nonfinite=skip" in result.stderr
    assert status(run)["state"] == "diverged"
    (record,) = read_lines(run / "nonfinite.jsonl")
    logs = [read_lines(run / "windows" / f"rank-{rank:05d}.jsonl") for rank in range(max(1, ranks))]
    seen = [line["windows"] for log in logs for line in log if line["step"] == POISONED_STEP]
    assert record["window_ids"] == [window for windows in seen for window in windows]
    assert record["weights_not_finite"]
    assert len(read_lines(run / "metrics.jsonl")) == POISONED_STEP - 1


@pytest.mark.parametrize("ranks", [0, 2])
def test_left_out_steps_are_counted_and_change_nothing_even_through_a_resume(small_shards, tmp_path, poisoned, ranks):
    arguments = [*TINY, "train.on_nonfinite=skip", "--shards", small_shards]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = ok(run_job("train", *arguments, "--run", whole, "train.steps=12", ranks=ranks, **poisoned))
    assert f"step {POISONED_STEP} is left out" in result.stdout
    assert status(whole)["skipped"] == 1
    assert [line["step"] for line in read_lines(whole / "metrics.jsonl")] == list(range(1, 13))
    for steps in (8, 12):
        ok(run_job("train", *arguments, "--run", stopped, f"train.steps={steps}", ranks=ranks, **poisoned))
    assert status(stopped)["skipped"] == 1
    assert len(read_lines(stopped / "nonfinite.jsonl")) == 1
    assert_same_state(whole, stopped, 12)


def test_more_left_out_steps_than_allowed_end_the_run(small_shards, tmp_path):
    too_high = ["optimizer.learning_rate=1e30", "train.on_nonfinite=skip", "train.max_skipped=3", "train.clip=1e30"]
    result = run_job("train", "--shards", small_shards, "--run", tmp_path / "run", *TINY, *STEPS, *too_high)
    assert result.returncode == 4, result.stderr
    assert "after 3 such steps that were left out" in result.stderr


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_full_disk_ends_the_run_and_leaves_a_whole_checkpoint(small_shards, tmp_path, ranks):
    often = ["train.checkpoint_every=2", "train.keep_checkpoints=1000", "train.steps=400"]
    arguments = ["--shards", small_shards, *TINY, *often]
    with small_disk(tmp_path / "disk", "3m") as disk:
        run = disk / "run"
        result = run_job("train", *arguments, "--run", run, ranks=ranks)
        assert result.returncode == 1, result.stderr
        assert "cannot be written to" in result.stderr
        assert "free some space and run the same command again" in result.stderr
        assert "Traceback" not in result.stderr
        saved = [path.name for path in checkpoints(run / "checkpoints")]
        assert saved
        fill(disk)
        began = time.monotonic()
        again = run_job("train", *arguments, "--run", run, ranks=ranks)
        assert again.returncode == 1, again.stderr
        assert "cannot be written to" in again.stderr
        assert "Traceback" not in again.stderr
        assert "restart" not in again.stderr, "a full disk is reported at once"
        assert time.monotonic() - began < 30
        assert [path.name for path in checkpoints(run / "checkpoints")] == saved
        (disk / "filler").unlink()
        enlarge(disk, "100m")
        again = ok(run_job("train", *arguments, "--run", run, f"train.steps={2 * len(saved) + 6}", ranks=ranks))
        assert "resumed from step" in again.stdout
        assert len(losses(run)) == 2 * len(saved) + 6


LIMITED = """
import resource, sys
import runpy, torch
import jobs.train, musicvae.training.fit, musicvae.kept_memory  # everything is loaded before the limit is set
# The limit is on addresses, and a heap keeps those of the holes between its blocks: each block is mapped by itself.
musicvae.kept_memory.LARGEST_KEPT = 1 << 17
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv.pop(1)) * 2**20,) * 2)
runpy.run_module("jobs.train", run_name="__main__")
"""


def test_exhausted_memory_offers_an_accumulation_that_does_fit(small_shards, tmp_path):
    large = ["model.encoder_hidden=256", "train.global_batch=192", "data.lanes=8", "train.steps=2"]
    command = [sys.executable, "-c", LIMITED, "500", "--shards", small_shards, "--run", tmp_path / "run", *TINY, *large]

    def limited(*settings: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "MALLOC_ARENA_MAX": "1"}
        return subprocess.run([*command, *settings], cwd=CHECKOUT, env=environment, capture_output=True, text=True)

    result = limited()
    assert result.returncode == 1, result.stderr
    assert "out of memory at step 1" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
    offered = result.stderr.partition("run the same command with ")[2].partition(". ")[0]
    assert offered.startswith("train.accumulation="), result.stderr
    ok(limited(offered))


def test_a_launch_that_was_superseded_stops_before_its_next_write(small_shards, tmp_path):
    """The first launch is frozen, as on a node that has lost its network, and the file system forgets its locks."""
    run = tmp_path / "run"
    arguments = ["--shards", small_shards, "--run", run, *TINY, "train.checkpoint_every=2"]
    first = subprocess.Popen(
        job_command("train", *arguments, "train.steps=100000"),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not checkpoints(run / "checkpoints"):
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        refused = run_job("train", *arguments, "train.steps=100000")
        assert refused.returncode == 2
        assert "is in use" in refused.stderr

        first.send_signal(signal.SIGSTOP)
        for lock in (run / "lock", run / "ranks" / "lock"):
            lock.unlink()
        end = len(read_lines(run / "metrics.jsonl")) + 20
        train(small_shards, run, "train.checkpoint_every=2", f"train.steps={end}")
        kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and "ranks" not in path.parts}
        first.send_signal(signal.SIGCONT)
        output, _ = first.communicate(timeout=180)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 2, output
    assert "another launch trains in" in output
    assert kept == {path: path.read_bytes() for path in kept}
    assert status(run)["state"] == "finished"
    assert len(losses(run)) == end


def test_max_minutes_saves_and_leaves_in_time(small_shards, tmp_path):
    run = tmp_path / "run"
    result = run_job(
        "train", "--shards", small_shards, "--run", run, *TINY, "train.steps=1000000", "train.max_minutes=0.05"
    )
    assert result.returncode == 75, result.stderr
    assert status(run)["state"] == "preempted"
    stopped_at = status(run)["step"]
    assert stopped_at > 0
    assert (run / "checkpoints" / f"step-{stopped_at:08d}").is_dir()
