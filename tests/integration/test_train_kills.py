"""Runs that are killed in every way, at random moments, and go on at other world sizes: as if nothing had happened."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from musicvae.durable import read_lines
from tests.support.commands import CHECKOUT, QUIET, TINY, job_command, ok, run_job
from tests.support.harm.interposed import MARKED_PHASES, interposed
from tests.support.processes.process_tree import command_of, descendants, kill_tree
from tests.support.requirements import only_in_a_soak
from tests.support.runs.tiny_run import assert_same_state, losses, status

pytestmark = pytest.mark.slow
SEED = int(os.environ.get("KILL_SEED", "0"))
STEPS = 240
SETTINGS = [
    *TINY,
    f"train.steps={STEPS}",
    "train.evaluate_every=20",
    "train.evaluation_batch=2",
    "train.checkpoint_every=7",
    "train.log_windows=true",
]


@dataclass(frozen=True)
class Kill:
    """At how many ranks (0: without a launcher), which process gets which signal, and what the run is doing then."""

    ranks: int
    victim: Literal["rank", "launcher"]
    number: signal.Signals
    phase: Literal["training", "evaluating", "saving"]


CHANGING = [
    Kill(0, "launcher", signal.SIGUSR2, "training"),
    Kill(2, "rank", signal.SIGKILL, "evaluating"),
    Kill(4, "launcher", signal.SIGKILL, "saving"),
    Kill(4, "launcher", signal.SIGTERM, "evaluating"),
    Kill(0, "rank", signal.SIGKILL, "training"),
]
KEPT = [
    Kill(2, "rank", signal.SIGKILL, "training"),
    Kill(2, "launcher", signal.SIGUSR2, "saving"),
    Kill(2, "launcher", signal.SIGTERM, "evaluating"),
    Kill(2, "launcher", signal.SIGKILL, "training"),
    Kill(2, "rank", signal.SIGKILL, "saving"),
]


@pytest.fixture
def marks(tmp_path) -> dict[str, str]:
    """The variables under which a run tells what it is doing."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return {**interposed(tmp_path / "interposed", MARKED_PHASES), "PHASE_MARKS": str(folder)}


@contextmanager
def launched(shards: Path, run: Path, ranks: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A run under way; nothing of it is left when the block ends."""
    process = subprocess.Popen(
        job_command("train", "--shards", shards, "--run", run, *SETTINGS, ranks=ranks),
        cwd=CHECKOUT,
        env={**os.environ, **QUIET, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        kill_tree(process.pid)
        process.wait()


def wait_for(condition, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def training_ranks(launcher: int, ranks: int) -> list[int]:
    """The processes that train; the launcher is one of them only where it is alone."""
    if not ranks:
        return [launcher]
    _, *below = [pid for pid in descendants(launcher) if "-m jobs.train " in command_of(pid)]  # the agent is the first
    return sorted(below)


def last_step(run: Path) -> int:
    records = read_lines(run / "metrics.jsonl")
    return records[-1]["step"] if records else 0


def strike(kill: Kill, shards: Path, run: Path, environment: dict[str, str], moments: random.Random) -> None:
    """Launches the run, lets it come some way, kills, and waits until nothing of the launch is left."""
    before = last_step(run)
    marks = Path(environment["PHASE_MARKS"])
    with launched(shards, run, kill.ranks, environment) as process:
        wait_for(lambda: last_step(run) > before + 3 or process.poll() is not None)
        assert process.poll() is None, (run / "status.json").read_text()
        time.sleep(moments.uniform(0, 0.5))
        (marks / kill.phase).unlink(missing_ok=True)
        wait_for((marks / kill.phase).exists)
        time.sleep(moments.uniform(0, 0.05))
        ranks = training_ranks(process.pid, kill.ranks)
        assert len(ranks) == max(1, kill.ranks), "the run ended before it could be killed"
        victim = moments.choice(ranks) if kill.victim == "rank" else process.pid
        os.kill(victim, kill.number)
        if kill.victim == "rank" and kill.ranks > 1:
            struck_at = last_step(run)
            wait_for(lambda: last_step(run) > struck_at + 3 or process.poll() is not None)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        wait_for(lambda: not any(command_of(pid) for pid in ranks))


def disturbed(kills: list[Kill], shards: Path, run: Path, environment: dict[str, str]) -> None:
    """Strikes again and again, then lets the run come to its end."""
    moments = random.Random(SEED)
    for kill in kills:
        strike(kill, shards, run, environment, moments)
    assert last_step(run) < STEPS, "the run was done before the last kill"
    finish(shards, run, kills[-1].ranks)


def finish(shards: Path, run: Path, ranks: int) -> None:
    ok(run_job("train", "--shards", shards, "--run", run, *SETTINGS, ranks=ranks))
    assert status(run)["state"] == "finished"
    assert len(losses(run)) == STEPS


def last_windows(run: Path) -> list[list[int]]:
    """For every step the window ids of the last forward pass, over the ranks of the world that made it."""
    logs = [read_lines(path) for path in sorted((run / "windows").glob("rank-*.jsonl"))]
    size = {line["step"]: line["world_size"] for line in logs[0]}
    steps = []
    for step in range(1, STEPS + 1):
        shares = [[line for line in log if line["step"] == step and line["world_size"] == size[step]] for log in logs]
        steps.append([window for share in shares[: size[step]] for window in share[-1]["windows"]])
    return steps


def test_every_step_sees_the_windows_of_the_undisturbed_run_at_changing_world_sizes(small_shards, tmp_path, marks):
    disturbed(CHANGING, small_shards, tmp_path / "disturbed", marks)
    finish(small_shards, tmp_path / "whole", 0)
    expected = last_windows(tmp_path / "whole")
    assert last_windows(tmp_path / "disturbed") == expected
    assert losses(tmp_path / "disturbed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


@only_in_a_soak
def test_at_one_world_size_kills_change_no_bit(small_shards, tmp_path, marks):
    disturbed(KEPT, small_shards, tmp_path / "disturbed", marks)
    finish(small_shards, tmp_path / "whole", 2)
    assert last_windows(tmp_path / "disturbed") == last_windows(tmp_path / "whole")
    assert losses(tmp_path / "disturbed") == losses(tmp_path / "whole")
    assert_same_state(tmp_path / "whole", tmp_path / "disturbed", STEPS)
