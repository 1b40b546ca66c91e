"""Kills and full disks in the middle of a sampling: the same command again gives what an undisturbed one gives."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from musicvae.midi.performance import read_performance
from tests.support.commands import SOAK, ok, run_job
from tests.support.harm.small_disk import enlarge, small_disk
from tests.support.processes.process_tree import descendants, fork_server_of, wait_for_end, workers_of
from tests.support.processes.running_job import WAIT_SECONDS, running_job, wait_for
from tests.support.requirements import only_in_a_soak
from tests.support.runs.sample_fixtures import manifest_of, output_of, sampled

pytestmark = pytest.mark.slow
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
KILLS = 10 if SOAK else 1
COUNT, CHUNK = 3000, 64


@pytest.fixture(scope="module")
def undisturbed(sample_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    sampled(sample_run, out, count=COUNT)
    return output_of(out)


def arguments(run: Path, out: Path, workers: int) -> list[object]:
    return ["--feel", "mean", "--run", run, "--count", COUNT, "--out", out, "--chunk", CHUNK, "--workers", workers]


def parts_of(out: Path) -> list[Path]:
    return list(out.glob("sampling-work/parts/[0-9]*"))


def wait_for_parts(out: Path, process: subprocess.Popen[str], count: int) -> None:
    wait_for(lambda: len(parts_of(out)) >= count, process, f"{count} parts of {out}")


def check(out: Path, undisturbed: dict[str, bytes]) -> None:
    """Same bytes, no groove twice, none missing, nothing left of what was begun."""
    assert output_of(out) == undisturbed
    assert [record["index"] for record in manifest_of(out)] == list(range(COUNT))
    assert not list(out.rglob(".*.tmp"))


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("workers", [1, 2])
def test_the_driver_is_killed_at_a_random_moment(sample_run, undisturbed, tmp_path, workers, number):
    # Some kills come while the output is put together: after the last chunk.
    chunks = random.Random(f"{SEED} {workers} {number}").randint(0, COUNT // CHUNK + 1)
    extra = random.Random(f"{SEED} {workers} {number} extra").uniform(0, 0.3)
    out = tmp_path / "out"
    with running_job("sample", *arguments(sample_run, out, workers)) as process:
        wait_for_parts(out, process, min(chunks, -(-COUNT // CHUNK)))
        time.sleep(extra if chunks <= COUNT // CHUNK else 4 * extra)
        below = descendants(process.pid)
        process.kill()
        process.wait()
    wait_for_end(below)
    print(f"KILL_SEED={SEED}: killed after {len(parts_of(out))} parts, {(out / 'settings.json').exists()=}")
    ok(run_job("sample", *arguments(sample_run, out, workers)))
    check(out, undisturbed)


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("killed", ["worker", "fork server"])
def test_a_worker_or_their_fork_server_is_killed_at_a_random_moment(sample_run, undisturbed, tmp_path, killed, number):
    out, chance = tmp_path / "out", random.Random(f"{SEED} {killed} {number}")
    with running_job("sample", *arguments(sample_run, out, 2)) as process:
        wait_for_parts(out, process, chance.randint(0, COUNT // CHUNK // 2))
        wait_for(lambda: len(workers_of(process.pid)) == 2, process, "workers")
        server = fork_server_of(process.pid)
        assert server is not None
        below = descendants(process.pid)
        os.kill(chance.choice(workers_of(process.pid)) if killed == "worker" else server, signal.SIGKILL)
        _, stderr = process.communicate(timeout=WAIT_SECONDS)
    wait_for_end(below)
    print(f"KILL_SEED={SEED}")
    assert process.returncode == 2, stderr
    assert "a worker process was killed" in stderr
    assert "run the same command again" in stderr
    ok(run_job("sample", *arguments(sample_run, out, 2)))
    check(out, undisturbed)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=only_in_a_soak)])
def test_a_full_disk_ends_with_a_message_and_nothing_half_written(sample_run, undisturbed, tmp_path, workers):
    with small_disk(tmp_path / "disk", "5m") as disk:
        out = disk / "out"
        full = run_job("sample", *arguments(sample_run, out, workers))
        assert full.returncode == 1, full.stderr
        assert "is full" in full.stderr
        assert "run the same command again" in full.stderr
        assert "Traceback" not in full.stderr
        assert "warning: 5.2 MB are free" in full.stdout
        files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.glob("[0-9]*/*")}
        assert files.items() <= undisturbed.items()
        assert all(read_performance(data).end for data in files.values())
        assert parts_of(out)
        assert not (out / "manifest.jsonl").exists()
        enlarge(disk, "100m")
        ok(run_job("sample", *arguments(sample_run, out, workers)))
        check(out, undisturbed)
