"""Several drivers run a sweep together, as elements of a SLURM array do: each trial once, whatever is killed."""

import errno
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobs.sweeps.ledger import read_ledger
from musicvae.errors import DiskFullError
from tests.support.commands import CHECKOUT, QUIET, ok, run_job
from tests.support.harm.small_disk import enlarge, fill, small_disk
from tests.support.processes.process_tree import kill_tree, workers_of
from tests.support.processes.running_job import running_job, wait_for
from tests.support.requirements import only_in_a_soak
from tests.support.sweeps.array_of_threads import check_decisions, run_array, starts_of
from tests.support.sweeps.tiny_sweep import check_once, results, sweep_file, table, trainer_command

pytestmark = pytest.mark.slow
KILLS, ELEMENTS, TRIALS = 50, 8, 120
ASHA = {"asha": {"first_steps": 10, "eta": 3}, "repeats": {"seeds": 2, "of_best": 3}}


def command(file: Path, shards: Path, out: Path, share: str = "") -> tuple[object, ...]:
    return ("sweep", "run", file, "--shards", shards, "--out", out, *(("--share", share) if share else ()))


def test_an_element_does_what_is_left_of_one_that_was_killed_and_of_a_trial_that_it_lost(
    repeated_sweep, undisturbed_sweep, small_shards, tmp_path
):
    out = tmp_path / "out"

    def begun(element: int) -> bool:
        path = out / "elements" / str(element) / "ledger.jsonl"
        return path.exists() and '"kind": "start"' in path.read_text()

    with (
        running_job(*command(repeated_sweep, small_shards, out, "0/3")) as killed,
        running_job(*command(repeated_sweep, small_shards, out, "1/3")) as losing,
    ):
        # Stopped, so that they are still at it when they are looked at; a start is written before its process begins.
        for element, driver in enumerate((killed, losing)):
            wait_for(lambda at=element, of=driver: begun(at) and workers_of(of.pid), driver, f"trials of {element}")
            os.kill(driver.pid, signal.SIGSTOP)
        assert "sweep tiny: not done" in ok(run_job("sweep", "status", out)).stdout
        refused = run_job(*command(repeated_sweep, small_shards, out, "0/3"))
        assert (refused.returncode, "elements/0 is in use" in refused.stderr) == (2, True)
        refused = run_job(*command(repeated_sweep, small_shards, out))
        assert (refused.returncode, "at work: element 0, 1" in refused.stderr) == (2, True)
        other = sweep_file(tmp_path / "tiny.yaml", budget={"trials": 7, "steps": 20})
        refused = run_job(*command(other, small_shards, out, "2/3"))
        assert (refused.returncode, "another sweep file" in refused.stderr) == (2, True)
        os.kill(killed.pid, signal.SIGKILL)
        os.kill(workers_of(losing.pid)[0], signal.SIGKILL)
        os.kill(losing.pid, signal.SIGCONT)
        assert losing.wait(timeout=300) == 0
    assert results(out) == undisturbed_sweep
    check_once(read_ledger(out), out / "ledger.jsonl")
    assert (len(table(out)), (out / "best.yaml").exists()) == (7, True)
    check_decisions(repeated_sweep, small_shards, out)
    before = len(starts_of(out))
    for share in ("2/5", ""):
        ok(run_job(*command(repeated_sweep, small_shards, out, share)))
    assert (len(starts_of(out)), results(out)) == (before, undisturbed_sweep)


def check_starts(file: Path, shards: Path, out: Path, *, trials: int) -> None:
    """All was drawn and came to its end, no start was written twice, and each decision of an element follows from the
    ledgers."""
    starts = [(start.trial, start.attempt) for start in starts_of(out)]
    assert len(starts) == len(set(starts))
    state = read_ledger(out)
    assert sorted(state.numbers) == list(range(trials))
    assert not state.unfinished
    assert check_decisions(file, shards, out) == len(starts)


@pytest.mark.parametrize("search", [ASHA, {"search": "tpe"}], ids=["asha", "tpe"])
def test_a_full_disk_ends_an_array_and_costs_no_trial(search, small_shards, tmp_path):
    file = sweep_file(tmp_path / "tiny.yaml", **search, budget={"trials": 18, "steps": 90})
    with small_disk(tmp_path / "disk", "160k") as disk:
        out = disk / "out"
        with pytest.raises((DiskFullError, OSError)) as caught:
            run_array(file, small_shards, out, total=3)
        assert isinstance(caught.value, DiskFullError) or caught.value.errno == errno.ENOSPC
        begun = len(starts_of(out))
        enlarge(disk, "50m")
        run_array(file, small_shards, out, total=3)
        assert 0 < begun < len(starts_of(out))
        check_starts(file, small_shards, out, trials=18)


@only_in_a_soak
def test_three_elements_then_five_then_one_driver(file, alone, small_shards, tmp_path):
    out = tmp_path / "out"
    for elements in (3, 5):
        so_far = len(starts_of(out))
        with ExitStack() as held:
            drivers = [
                held.enter_context(running_job(*command(file, small_shards, out, f"{element}/{elements}")))
                for element in range(elements)
            ]
            wait_for(lambda before=so_far: len(starts_of(out)) > before + 1, drivers[0], "starts")
    assert {path.name for path in (out / "elements").iterdir()} == {*map(str, range(5))}
    ok(run_job(*command(file, small_shards, out)))
    assert results(out) == alone
    check_once(read_ledger(out), out / "ledger.jsonl")
    check_decisions(file, small_shards, out)


@only_in_a_soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("search", [ASHA, {"search": "tpe"}], ids=["asha", "tpe"])
def test_eight_elements_fifty_kills_and_a_full_disk(search, small_shards, tmp_path):
    file = sweep_file(tmp_path / "tiny.yaml", **search, budget={"trials": TRIALS, "steps": 90})
    dice, alive = random.Random(1), dict[int, subprocess.Popen[bytes]]()
    with small_disk(tmp_path / "disk", "100m") as disk:
        out = disk / "out"

        def begin(element: int) -> None:
            line = trainer_command("nap", file, small_shards, out, "--share", f"{element}/{ELEMENTS}")
            with (tmp_path / f"{element}.log").open("ab") as log:
                alive[element] = subprocess.Popen(
                    line, cwd=CHECKOUT, env={**os.environ, **QUIET}, stdout=log, stderr=log, start_new_session=True
                )

        def begin_again() -> bool:
            """Whether some had ended with an error."""
            failed = [element for element, process in alive.items() if process.poll()]
            for element in failed:
                begin(element)
            return bool(failed)

        try:
            for element in range(ELEMENTS):
                begin(element)
            for kill in range(KILLS):  # spread over the sweep, of which each number is at least one start
                while len(starts_of(out)) <= kill * TRIALS // KILLS:
                    begin_again()
                    time.sleep(0.1)
                begin_again()
                element = dice.randrange(ELEMENTS - 1)
                if kill == KILLS // 4:
                    fill(disk)
                    while not any(process.poll() for process in alive.values()):
                        time.sleep(0.1)
                    (disk / "filler").unlink()
                    begin_again()
                if kill == KILLS // 3:
                    os.kill(alive[ELEMENTS - 1].pid, signal.SIGSTOP)
                if kill == KILLS // 2 and (lost := workers_of(alive[element].pid)):
                    os.kill(lost[0], signal.SIGKILL)
                if kill == 2 * KILLS // 3:
                    os.kill(alive[ELEMENTS - 1].pid, signal.SIGCONT)
                assert alive[element].poll() is None, "it has ended too early to be killed"
                alive[element].kill()
                alive[element].wait()
                begin(element)
            while [process.wait(timeout=600) for process in alive.values()] != [0] * ELEMENTS:
                assert begin_again()
        finally:
            for process in alive.values():
                if process.poll() is None:
                    kill_tree(process.pid)
        check_starts(file, small_shards, out, trials=TRIALS)


@pytest.mark.parametrize(
    ("share", "changes", "words"),
    [("3/3", {}, "K from 0 to M - 1"), ("0/2", {"resources": {"cpus": 999}}, "no node can hold a trial")],
)
def test_what_is_no_element_is_refused(share, changes, words, small_shards, tmp_path):
    refused = run_job(*command(sweep_file(tmp_path / "a.yaml", **changes), small_shards, tmp_path / "out", share))
    assert refused.returncode == 2
    assert words in refused.stderr
