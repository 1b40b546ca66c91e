"""Several drivers divide a sweep, as elements of a SLURM array do: one set of trials, each once, whatever is killed."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from jobs.sweeps.ledger import read_ledger
from tests.support.commands import ok, run_job
from tests.support.process_tree import command_of, descendants
from tests.support.requirements import only_in_a_soak
from tests.support.running_job import running_job, wait_for
from tests.support.tiny_sweep import STEPS, check_once, results, sweep_file, table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return sweep_file(tmp_path_factory.mktemp("sweep") / "tiny.yaml", repeats={"seeds": 2, "of_best": 1})


@pytest.fixture(scope="module")
def alone(file, small_shards) -> dict[str, tuple[str | None, dict[int, float]]]:
    """What one driver makes of it."""
    out = file.parent / "alone"
    ok(run_job("sweep", "run", file, "--shards", small_shards, "--out", out))
    return results(out)


def command(file: Path, shards: Path, out: Path, share: str = "") -> tuple[object, ...]:
    return ("sweep", "run", file, "--shards", shards, "--out", out, *(("--share", share) if share else ()))


def trainers(driver: subprocess.Popen[str]) -> list[int]:
    """The processes that a share trains in."""
    return [pid for pid in descendants(driver.pid) if "spawn_main" in command_of(pid)]


def undivided(found: dict[str, object], out: Path) -> dict[str, object]:
    """Without repeats."""
    trials = read_ledger(out).trials
    return {name: own for name, own in found.items() if trials[name].drawn.repeat_of is None}


def test_shares_at_once_of_which_one_is_killed_and_one_loses_a_trial_make_one_sweep(
    file, alone, small_shards, tmp_path
):
    out = tmp_path / "out"

    def begun(share: str) -> bool:
        path = out / "shares" / share / "ledger.jsonl"
        return path.exists() and '"kind": "start"' in path.read_text()

    with (
        running_job(*command(file, small_shards, out, "0/3")) as killed,
        running_job(*command(file, small_shards, out, "1/3")) as losing,
    ):
        # Stopped, so that they are still at it when they are looked at; a start is written before its process begins.
        for share, driver in (("0-of-3", killed), ("1-of-3", losing)):
            wait_for(lambda at=share, of=driver: begun(at) and trainers(of), driver, f"trials of share {share}")
            os.kill(driver.pid, signal.SIGSTOP)
        shown = ok(run_job("sweep", "status", out)).stdout
        assert "sweep tiny: not done" in shown
        refused = run_job(*command(file, small_shards, out, "0/3"))
        assert (refused.returncode, "0-of-3 is in use" in refused.stderr) == (2, True)
        refused = run_job(*command(file, small_shards, out))
        assert (refused.returncode, "in use" in refused.stderr) == (2, True), "a driver of all waits for shares"
        os.kill(killed.pid, signal.SIGKILL)
        os.kill(trainers(losing)[0], signal.SIGKILL)
        os.kill(losing.pid, signal.SIGCONT)
        assert losing.wait(timeout=300) == 0
    refused = run_job(*command(file, small_shards, out, "0/2"))
    assert (refused.returncode, "is divided otherwise" in refused.stderr) == (2, True)
    ok(run_job(*command(file, small_shards, out, "2/3")))
    assert not (out / "report.html").exists()
    last = ok(run_job(*command(file, small_shards, out, "0/3"))).stdout
    assert "what is left are repeats" in last
    assert not (out / "shares").exists()
    assert results(out) == undivided(alone, file.parent / "alone")
    check_once(read_ledger(out), out / "ledger.jsonl")
    assert sorted(read_ledger(out).numbers) == list(range(6))
    ok(run_job(*command(file, small_shards, out)))
    assert results(out) == alone
    assert len(table(out)) == 7


@only_in_a_soak
def test_one_driver_goes_on_with_what_shares_have_done_and_shares_with_an_extended_sweep(file, small_shards, tmp_path):
    own, out = tmp_path / "own.yaml", tmp_path / "out"
    settings = yaml.safe_load(file.read_text()) | {"repeats": {"seeds": 1}}
    own.write_text(yaml.safe_dump(settings))
    ok(run_job(*command(own, small_shards, out, "1/2")))
    first = results(out)
    assert len(first) == 3
    ok(run_job(*command(own, small_shards, out)))
    assert first.items() <= results(out).items()
    assert len(results(out)) == 6

    settings["budget"] = {"trials": 9, "steps": STEPS}
    own.write_text(yaml.safe_dump(settings))
    for share in ("0/2", "1/2"):
        ok(run_job(*command(own, small_shards, out, share)))
    assert len(results(out)) == 9
    check_once(read_ledger(out), out / "ledger.jsonl")
    starts = [line for line in (out / "ledger.jsonl").read_text().splitlines() if json.loads(line)["kind"] == "start"]
    assert len(starts) == 9


@pytest.mark.parametrize(
    ("share", "changes", "words"),
    [
        ("3/3", {}, "K from 0 to M - 1"),
        ("0/2", {"asha": {"first_steps": 5}}, "cannot be divided"),
        ("0/2", {"search": "tpe"}, "cannot be divided"),
        ("0/2", {"resources": {"cpus": 999}}, "no node can hold a trial"),
    ],
)
def test_what_cannot_be_divided_is_refused(share, changes, words, small_shards, tmp_path):
    refused = run_job(*command(sweep_file(tmp_path / "a.yaml", **changes), small_shards, tmp_path / "out", share))
    assert refused.returncode == 2
    assert words in refused.stderr
