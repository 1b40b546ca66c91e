"""A Ray of an allocation's own: what each node runs, and what is said where it does not come up."""

import re
import socket
import subprocess
import sys
from pathlib import Path

from cluster import ray_node
from cluster.errors import ExitCode
from tests.support.commands import CHECKOUT


def test_the_first_node_is_the_head_and_the_others_join_it():
    head, other = (
        ray_node.ray_command("first:20017", Path("/tmp/r"), {"SLURM_NODEID": number, "SLURM_CPUS_PER_TASK": "1"})
        for number in ("0", "1")
    )
    assert head[head.index("--head") + 1 :][:2] == ["--port", "20017"]
    assert other[other.index("--address") + 1] == "first:20017"
    assert "--head" not in other
    for command in (head, other):
        assert command[command.index("--num-cpus") + 1] == "1"
        assert command[command.index("--temp-dir") + 1] == "/tmp/r"


def test_a_cluster_that_does_not_come_up_lets_the_job_come_again_and_says_why(monkeypatch, capsys):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(ray_node, "WAIT_SECONDS", 1.0)
        monkeypatch.setattr(sys, "argv", ["ray_node", "wait", address, "2"])
        assert ray_node.main() == ExitCode.PREEMPTED
    said = capsys.readouterr().err
    assert f"Ray did not start in this allocation at {address}" in said
    assert re.search(r"0 of 2 nodes have joined after \d+ seconds", said)
    assert "refused" in said


def test_nobody_waits_for_nodes_whose_holder_has_ended():
    ended = subprocess.Popen(["true"])
    ended.wait()
    with socket.create_server(("127.0.0.1", 0)) as stranger:  # what listens here is no Ray, and never answers
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        command = [sys.executable, "-m", "cluster.ray_node", "wait", address, "2", str(ended.pid)]
        waited = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=ray_node.WAIT_SECONDS)
    assert waited.returncode == ExitCode.PREEMPTED
    assert re.search(r"0 of 2 nodes have joined after \d+ seconds, and Ray has ended", waited.stderr)
