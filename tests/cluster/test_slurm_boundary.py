"""SLURM that binds each task to one core: submissions from inside a job, containers, a controller that is away."""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator

import pytest

from cluster.site import Site
from tests.cluster.slurm_cluster import SlurmCluster, missing_programs, slurm_cluster
from tests.support.commands import TINY, ok
from tests.support.processes.running_job import running_job
from tests.support.requirements import skip_or_fail
from tests.support.services.submitted import attempts, rows, run_in, submit, verdicts, wait_for

pytestmark = pytest.mark.slow
IMAGE = "/images/grooves.sqsh"
PLUGIN = """#!/bin/bash
# As pyxis, it takes the options of its plugin out.
printf '%s\\n' "$*" >>{calls}
kept=()
for word; do case $word in --container-image=*) ;; *) kept+=("$word") ;; esac; done
exec {srun} "${{kept[@]}}"
"""
DYING = """#!/bin/sh
# The Python of the second node dies at its first start there.
[ "$SLURM_PROCID" != 1 ] || ! mkdir {once} 2>/dev/null || kill -9 $$
exec {python} "$@"
"""
INSIDE_A_STEP = {
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x00000001",
    "SLURM_CPU_BIND_TYPE": "mask_cpu:",
    "SLURM_JOB_ID": "1",
    "SLURM_MEM_PER_NODE": "7",
    "SBATCH_PARTITION": "nowhere",
}
"""What `srun --pty bash` leaves for the commands that are typed in it."""


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    if missing := missing_programs():
        skip_or_fail(f"{', '.join(missing)} not installed")
    with slurm_cluster(autobind=True) as cluster:
        yield cluster


def test_ranks_get_the_cpus_of_their_node_in_a_container_and_from_inside_another_job(slurm, small_shards, tmp_path):
    calls, plugin, site = tmp_path / "calls", tmp_path / "bin" / "srun", tmp_path / "site.yaml"
    plugin.parent.mkdir()
    plugin.write_text(PLUGIN.format(calls=calls, srun=shutil.which("srun")))
    plugin.chmod(0o755)
    python = tmp_path / "bin" / "python"
    python.write_text(DYING.format(once=tmp_path / "once", python=sys.executable))
    python.chmod(0o755)
    options = [f"--container-image={IMAGE}", "--cpu-bind=verbose"]
    site.write_text(json.dumps({"srun": options, "cpus_per_gpu": 1, "mem_per_gpu": "600M", "python": str(python)}))
    where = ["--on", "slurm", "--nodes", 2, "--gpus-per-node", 2, "--ranks-per-node", 1, "--yes", "--site", site]
    arguments = ["--shards", small_shards, "--run", tmp_path / "run", *TINY, "train.steps=10"]
    variables = {**slurm.environment, **INSIDE_A_STEP, "PATH": f"{plugin.parent}:{os.environ['PATH']}"}
    submission = submit(tmp_path, "train", *where, "--", *arguments, **variables)
    wait_for(lambda: verdicts(submission, "train")[1:], submission)
    assert verdicts(submission, "train") == ["again", "done"]
    (log,) = submission.glob("logs/train-*.log")
    assert "node2 ended with status 137 before all nodes had met\n" in log.read_text()
    began, ended = (event[key] for event, key in zip(attempts(submission, "train"), ("began", "ended"), strict=False))
    assert ended - began < Site().notice_seconds / 2, "the other node is not waited for"
    assert not [*submission.glob("meeting.*")]
    masks = re.findall(r"cpu-bind=MASK - (node\d), task .* mask (0x\w+) set", log.read_text())
    assert sorted(masks) == [("node1", "0x3")] * 2 + [("node2", "0x3")] * 2, log.read_text()
    call = calls.read_text().splitlines()[0]
    assert f" --container-image={IMAGE} --cpu-bind=verbose " in call
    for rank in (0, 1):
        assert "CPUs 0-1; SLURM gave 2 CPU(s)\n" in (tmp_path / "run" / "logs" / f"rank-0000{rank}.log").read_text()
    assert "warning: " not in log.read_text()


def test_a_controller_that_is_away_is_waited_for_and_what_scancel_ends_stays_cancelled(slurm, sample_run, tmp_path):
    out = tmp_path / "out"
    command = ["sample", "--on", "slurm", "--", "--run", sample_run, "--count", 500_000, "--chunk", 64, "--out", out]
    slurm.stop_controller()
    with running_job("submit", *command, folder=tmp_path, **slurm.environment) as process:
        wait_for(lambda: [*tmp_path.glob("submissions/[!.]*/*.sbatch")], tmp_path)
        slurm.start_controller()
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    number = slurm.client("squeue", "--noheader", "--format=%F")
    assert f"SLURM job {number}" in stderr  # one, and not one for each time that it was asked
    (submission,) = tmp_path.glob("submissions/[!.]*")
    wait_for(lambda: [*out.glob("sampling-work/parts/[0-9]*")], submission)
    slurm.client("scancel", number)
    wait_for(lambda: not slurm.client("squeue", "--noheader"), submission)
    slurm.stop_controller()
    assert rows(tmp_path, **slurm.environment)["sample"]["state"] == "cancelled", "also once SLURM has forgotten it"
    slurm.start_controller()
    wait_for(lambda: run_in(tmp_path, "status", **slurm.environment).returncode == 0, submission)
    # A colleague who has no jobs sees it too.
    assert rows(tmp_path, LOGNAME="nobody", **slurm.environment)["sample"]["state"] == "cancelled"
    assert "no job has failed" in ok(run_in(tmp_path, "retry", "--failed", **slurm.environment)).stdout
