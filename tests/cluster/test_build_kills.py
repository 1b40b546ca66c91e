"""What clusters do to a build: drivers, workers and nodes are killed at random, and the bytes stay the same."""

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.cluster.ray_cluster import ray_cluster
from tests.support.commands import SOAK, ok, run_job
from tests.support.processes.process_tree import command_of, descendants
from tests.support.processes.running_build import finished_parts, wait_for_parts
from tests.support.processes.running_job import running_job, wait_for
from tests.support.requirements import only_in_a_soak
from tests.support.shards.build_fixtures import contents

pytestmark = pytest.mark.slow
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
KILLS = 10 if SOAK else 1
CLEAN_SECONDS = 20


def arguments(source: Path, out: Path, workers: int) -> list[object]:
    return ["--source", source, "--out", out, "--workers", workers]


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("workers", [pytest.param(0, marks=only_in_a_soak), 2])
def test_the_driver_is_killed_at_a_random_moment(mixed_folder, undisturbed, tmp_path, workers, number):
    started = time.monotonic()
    ok(run_job("build_shards", *arguments(mixed_folder, tmp_path / "whole", workers)))
    seconds = time.monotonic() - started
    moment = random.Random(f"{SEED} {workers} {number}").uniform(0, seconds)
    print(f"KILL_SEED={SEED}: killed after {moment:.2f} of {seconds:.2f} s")

    out = tmp_path / "out"
    with (
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as of_ray,
        running_job("build_shards", *arguments(mixed_folder, out, workers), TMPDIR=of_ray) as build,
    ):
        time.sleep(moment)
        build.kill()
        build.wait()
        until = time.monotonic() + CLEAN_SECONDS
        while left := [*Path(of_ray).iterdir()]:
            assert time.monotonic() < until, f"the killed driver leaves {left}"
            time.sleep(0.1)
    print(f"{len(finished_parts(out))} parts were done, output {'there' if out.exists() else 'not there'}")
    ok(run_job("build_shards", *arguments(mixed_folder, out, workers)))
    assert contents(out) == undisturbed
    assert not out.with_name("out.building").exists()


@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("victim", ["ray::run", "preprocess.sandbox_child"])
def test_a_worker_is_killed_mid_batch(mixed_folder, undisturbed, tmp_path, victim, number):
    out = tmp_path / "out"
    chance = random.Random(f"{SEED} {victim} {number}")
    killed = []

    def kill_one() -> bool:
        found = [pid for pid in descendants(build.pid) if victim in command_of(pid)]
        if found:
            killed.append(chance.choice(found))
            os.kill(killed[-1], signal.SIGKILL)
        return bool(found)

    with running_job("build_shards", *arguments(mixed_folder, out, 2)) as build:
        wait_for_parts(out, build, chance.randint(1, 6))
        wait_for(kill_one, build, f"a process {victim}")
        _, stderr = build.communicate(timeout=180)
    print(f"KILL_SEED={SEED}: killed {victim} {killed}")
    assert build.returncode == 0, stderr
    assert contents(out) == undisturbed


@pytest.mark.parametrize("number", range(KILLS))
def test_one_of_two_nodes_is_lost_mid_run(mixed_folder, undisturbed, tmp_path, number):
    out = tmp_path / "out"
    with ray_cluster() as cluster:
        place = ["--source", mixed_folder, "--out", out, "--ray-address", cluster.address]
        with running_job("build_shards", *place, **cluster.environment) as build:
            wait_for_parts(out, build, random.Random(f"{SEED} {number}").randint(1, 8))
            cluster.lose_node(1)
            _, stderr = build.communicate(timeout=240)
    print(f"KILL_SEED={SEED}")
    assert build.returncode == 0, stderr
    assert contents(out) == undisturbed
