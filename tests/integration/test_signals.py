"""`jobs.train --ranks` told to stop in every phase: saved, the right exit status, and the same command goes on."""

import os
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from musicvae.durable import read_lines
from tests.support.harm.interposed import interposed, pause_in_phase
from tests.support.processes.running_training import running_training
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("number", "code", "state"),
    [
        pytest.param(signal.SIGUSR2, 75, "preempted", marks=only_in_a_soak),
        (signal.SIGTERM, 75, "preempted"),
        pytest.param(signal.SIGHUP, 75, "preempted", marks=only_in_a_soak),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_each_signal_is_handed_on_and_saves(small_shards, tmp_path, number, code, state):
    with running_training(
        small_shards, tmp_path / "run", "--ranks", 2, "train.steps=100000", "train.checkpoint_every=100000"
    ) as training:
        training.wait_until(lambda: training.steps() >= 5)
        training.process.send_signal(number)
        found, said = training.ended()
        assert found == code, said
        status = training.status()
        assert status["state"] == state
        assert f"stopped at step {status['step']}; run the same command again to resume" in said
        assert (training.run / "checkpoints" / f"step-{status['step']:08d}").is_dir()
        assert training.record(1)["attempt"] == 0, "nothing was started again"
        assert training.record(0)["ended"]


@pytest.mark.parametrize("phase", ["evaluating", "saving"])
def test_a_signal_in_a_phase_is_heard(small_shards, tmp_path, phase):
    marker = tmp_path / "marker"
    environment = interposed(tmp_path / "site", pause_in_phase(phase, marker))
    often = ["train.evaluate_every=5", "train.checkpoint_every=5"]
    with running_training(
        small_shards, tmp_path / "run", "--ranks", 2, "train.steps=100000", *often, **environment
    ) as training:
        if phase == "saving":  # what a stop does: here, one that is asked for twice
            training.wait_until(lambda: training.steps() >= 3)
            training.process.send_signal(signal.SIGUSR2)
        training.wait_until(marker.exists)
        training.process.send_signal(signal.SIGUSR2)
        code, said = training.ended()
        assert code == 75, said
        status = training.status()
        assert status["state"] == "preempted"
        assert (training.run / "checkpoints" / f"step-{status['step']:08d}").is_dir()
    with running_training(
        small_shards, tmp_path / "run", "--ranks", 2, *often, f"train.steps={status['step'] + 3}"
    ) as training:
        code, said = training.ended()
        assert code == 0, said
        steps = [record["step"] for record in read_lines(training.run / "metrics.jsonl")]
        assert steps == list(range(1, status["step"] + 4))


SEVERAL_ROUNDS = ["train.evaluation_batch=8", "train.evaluate_every=5", "train.checkpoint_every=100000"]


def test_a_step_whose_evaluation_was_stopped_has_one_line_also_after_a_kill(small_shards, tmp_path):
    run = tmp_path / "run"
    _stop_in_an_evaluation(small_shards, run, tmp_path / "site", "train.steps=100000")
    with running_training(small_shards, run, *SEVERAL_ROUNDS, "train.steps=100000") as training:
        training.wait_until(lambda: training.steps() >= 9)
        training.process.kill()
        training.process.wait()
    assert len(train(small_shards, run, *SEVERAL_ROUNDS, "train.steps=12")) == 12


def _stop_in_an_evaluation(shards: Path, run: Path, site: Path, *settings: str) -> None:
    marker = site.with_suffix(".marker")
    environment = interposed(site, pause_in_phase("evaluating", marker))
    with running_training(shards, run, *SEVERAL_ROUNDS, *settings, **environment) as training:
        training.wait_until(marker.exists)
        training.process.send_signal(signal.SIGUSR2)
        code, said = training.ended()
        assert code == 75, said


def test_a_signal_while_ranks_start_loses_nothing(small_shards, tmp_path):
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.steps=20") as training:
        training.wait_until(lambda: bool(training.record(0)))
        training.process.send_signal(signal.SIGUSR2)
        code, said = training.ended()
        assert code == 75, said
        assert training.status()["state"] == "preempted"
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.steps=20") as training:
        code, said = training.ended()
        assert code == 0, said
        assert training.steps() == 20


def test_a_signal_while_waiting_for_another_machine_ends_the_wait(small_shards, tmp_path):
    meeting = ["--nodes", "2", "--rendezvous", "localhost:0", "--rendezvous-id", "alone"]
    with running_training(small_shards, tmp_path / "run", "--ranks", 1, *meeting, "train.steps=20") as training:
        training.wait_until(lambda: (training.run / "config.yaml").exists())
        time.sleep(8)
        training.process.send_signal(signal.SIGTERM)
        code, said = training.ended()
        assert code == 75, said


def test_a_second_ctrl_c_ends_everything_at_once(small_shards, tmp_path):
    with running_training(small_shards, tmp_path / "run", "--ranks", 2, "train.steps=100000") as training:
        training.wait_until(lambda: training.steps() >= 5)
        ranks = [training.record(rank)["pid"] for rank in range(2)]
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)  # or they would be gone before the second
        training.process.send_signal(signal.SIGINT)
        time.sleep(1)
        training.process.send_signal(signal.SIGINT)
        code, said = training.ended(60)
        assert code == 130, said
        deadline = time.monotonic() + 60  # the kernel ends a killed process in its own time
        while (left := [pid for pid in ranks if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left


@pytest.mark.parametrize(
    "ranks",
    [pytest.param([], id="alone", marks=only_in_a_soak), pytest.param(["--ranks", 2], id="two ranks")],
)
def test_it_stops_ahead_of_a_given_time(small_shards, tmp_path, ranks):
    ahead = datetime.fromtimestamp(time.time() + 3600 + 25).isoformat()
    with running_training(
        small_shards,
        tmp_path / "run",
        *ranks,
        *("--stop-before", ahead, "train.steps=100000", "resources.stop_margin_seconds=3600"),
    ) as training:
        code, said = training.ended()
        assert code == 75, said
        assert training.status()["state"] == "preempted"
        step = training.status()["step"]
        assert (training.run / "checkpoints" / f"step-{step:08d}").is_dir()
