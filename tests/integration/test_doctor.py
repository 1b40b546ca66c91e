"""`jobs.doctor` on this machine, and with things broken on purpose: each is named with its cure."""

import json
import re
import resource
import socket
import subprocess
import sys
from typing import Any

import pytest

from jobs.inspection import machine as doctor_machine
from tests.cluster.slurm_cluster import SlurmCluster
from tests.support.commands import CHECKOUT, job_command, ok
from tests.support.harm.small_disk import small_disk
from tests.support.services.submitted import run_in


def lines(result: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """The lines by their names."""
    return {line["name"]: line for line in json.loads(result.stdout)}


def test_this_machine_has_all_that_it_needs(tmp_path):
    found = lines(ok(run_in(tmp_path, "doctor", "--json")))
    assert {"python", "packages", "gpus", "host name", "folder", "disk", "clock", "W&B"} <= set(found)
    assert not [line for line in found.values() if line["level"] == "error"]
    assert not list(tmp_path.iterdir())
    text = ok(run_in(tmp_path, "doctor")).stdout
    assert all(name in text for name in found)


def test_a_warning_or_an_error_has_a_cure(tmp_path):
    for line in lines(run_in(tmp_path, "doctor", "--json", "--shared", "/proc")).values():
        assert bool(line["do"]) == (line["level"] != "ok"), line


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(tmp_path):
    broken = run_in(tmp_path, "doctor", "--json", "--shared", "nowhere")
    assert broken.returncode == 2
    assert lines(broken)["folder"]["level"] == "error"
    assert "--shared DIR" in lines(broken)["folder"]["do"]


@pytest.mark.slow
def test_few_open_files(tmp_path):
    command = ["sh", "-c", 'ulimit -n 512; exec "$@"', "sh", *job_command("doctor", "--json")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (line,) = [line for line in found if line["name"] == "open files"]
    assert (line["level"], line["found"].split(",")[0]) == ("warning", "limit 512")
    assert "ulimit -n 65536" in line["do"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512, "of that process alone"


@pytest.mark.slow
def test_cpus_ray_and_network(tmp_path):
    variables = {"TMPDIR": "/tmp/" + "t" * 60, "SLURM_CPUS_PER_TASK": "1", "GLOO_SOCKET_IFNAME": "ib0"}
    found = lines(run_in(tmp_path, "doctor", "--json", **variables))
    assert found["cpus"]["found"].startswith("1 usable (affinity ")
    assert "SLURM 1" in found["cpus"]["found"]
    assert found["folder of Ray"]["found"] == "in /tmp, because the path in TMPDIR is too long"
    assert "loopback" in found["network"]["found"]
    assert "interface ib0 (ranks)" in found["network"]["found"]
    assert f"the address of {socket.gethostname()} (ranks)" in doctor_machine.network().found


def test_a_missing_package_a_wrong_clock_and_a_name_without_address(monkeypatch, tmp_path):
    """At the outermost boundary: what the interpreter, the file system and the resolver say."""
    monkeypatch.setattr(doctor_machine, "_version", lambda name: None if name in ("torch", "ray") else "1.0")
    levels = {check.name: (check.level, check.do) for check in doctor_machine.packages()}
    assert levels["packages"] == ("error", "make install (in the checkout)")
    assert levels["ray"][0] == "warning"
    monkeypatch.setattr(doctor_machine.time, "time", lambda: 0.0)
    assert doctor_machine.clock(tmp_path).level == "warning"
    monkeypatch.setattr(doctor_machine.socket, "gethostname", lambda: "no-such-host.invalid")
    assert doctor_machine.host_name().level == "error"
    assert "no-such-host.invalid" in doctor_machine.host_name().do


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", "50m") as folder:
        broken = run_in(tmp_path, "doctor", "--json", "--shared", folder)
    assert broken.returncode == 2
    assert lines(broken)["disk"]["level"] == "error"


@pytest.mark.slow
def test_a_virtual_slurm_and_a_site_that_does_not_fit(slurm: SlurmCluster, tmp_path):
    well = lines(ok(run_in(tmp_path, "doctor", "--on", "slurm", "--json", **slurm.environment)))
    assert well["SLURM"]["found"].endswith("cluster test")
    assert well["nodes"]["found"] == "node1, node2"
    assert {well[name]["level"] for name in ("partition", "arrays", "shared", "node python", "node cpus")} == {"ok"}
    assert "preempted jobs get 60 s" in well["notice"]["found"]

    site = tmp_path / "site.yaml"
    site.write_text("partition: gpu\nmax_array_size: 5000\n")
    broken = run_in(tmp_path, "doctor", "--on", "slurm", "--json", "--site", site, **slurm.environment)
    assert broken.returncode == 2
    assert "one of all, short, closed, urgent" in lines(broken)["partition"]["do"]
    assert "max_array_size: 1001" in lines(broken)["arrays"]["do"]
    site.write_text("python: /nowhere/python\nsrun: [--cpu-bind=map_cpu:0]\n")
    broken = run_in(tmp_path, "doctor", "--on", "slurm", "--json", "--site", site, **slurm.environment)
    assert "node1, node2 cannot run /nowhere/python" in lines(broken)["node python"]["found"]
    assert lines(broken)["node cpus"]["found"] == "2 were requested, but a task may use: node1 1, node2 1"

    wish = ["submit", "train", "--on", "slurm", "--dry-run", "--partition"]
    arguments = ["--", "--shards", "s", "--run", "r"]
    planned = ok(run_in(tmp_path, *wish, "short", "--time", "4", *arguments, **slurm.environment)).stderr
    assert re.search(r"train: .*Job \d+ to start at \S+ .*in partition short", planned.replace("\n", " "))
    refused = run_in(tmp_path, *wish, "gpu", *arguments, **slurm.environment)
    assert refused.returncode == 2
    assert "invalid partition specified: gpu" in refused.stderr
    assert "--partition" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["site.yaml"]


@pytest.mark.slow
def test_where_there_is_no_slurm(tmp_path):
    command = [sys.executable, "-m", "jobs.doctor", "--on", "slurm", "--json"]
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    broken = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert broken.returncode == 2
    assert lines(broken)["SLURM"]["do"] == "log in to a login node of the cluster"
