"""Machines that come and go: two launchers on this one, `--nodes 1:2`."""

import re
import signal
import socket
import time
from contextlib import ExitStack
from functools import partial

import pytest

from jobs.training.torchrun import NAMED_SECONDS
from musicvae.durable import read_lines
from musicvae.training.rank_records import RankRecords
from tests.support.commands import HANG_SECONDS
from tests.support.harm.interposed import interposed
from tests.support.processes.process_tree import kill_tree
from tests.support.processes.running_training import running_training
from tests.support.requirements import only_in_a_soak
from tests.support.services.free_ports import free_ports
from tests.support.services.joined_machines import joined_machines

pytestmark = pytest.mark.slow


def is_listened_to(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def test_a_machine_is_lost_the_other_goes_on_alone_and_a_new_one_joins(small_shards, tmp_path):
    run, (port,) = tmp_path / "run", free_ports(1)
    arguments = ["--ranks", 1, "--nodes", "1:2", "--rendezvous", f"localhost:{port}", "--rendezvous-id", "x"]
    arguments += ["train.steps=100000", "train.checkpoint_every=5"]
    with running_training(small_shards, run, *arguments) as first:
        # Here both launchers are on the rendezvous' host: the one that is to stay must be the one that serves it.
        first.wait_until(lambda: is_listened_to(port))
        with running_training(small_shards, run, *arguments) as second:
            first.wait_until(lambda: first.record(0).get("world_size") == 2 and first.steps() >= 10, 180)
            kill_tree(second.process.pid)
        first.wait_until(lambda: first.record(0)["world_size"] == 1, 180)
        alone_from = first.steps()
        first.wait_until(lambda: first.steps() >= alone_from + 10)
        with running_training(small_shards, run, *arguments) as third:
            first.wait_until(lambda: first.record(0)["world_size"] == 2, 180)
            together_from = first.steps()
            first.wait_until(lambda: first.steps() >= together_from + 10)
            for launcher in (first, third):
                launcher.process.send_signal(signal.SIGUSR2)
            codes = [launcher.ended() for launcher in (first, third)]
        assert [code for code, _ in codes] == [75, 75], codes
    assert first.status()["state"] == "preempted"
    records = read_lines(run / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, len(records) + 1)), "every step stands once"


@pytest.mark.parametrize("nodes", ["2", pytest.param("1:2", marks=only_in_a_soak)])
def test_the_machine_of_the_rendezvous_is_lost_and_the_same_command_resumes(small_shards, tmp_path, nodes):
    run, (port,) = tmp_path / "run", free_ports(1)
    arguments = ["--ranks", 1, "--nodes", nodes, "--rendezvous", f"localhost:{port}", "--rendezvous-id", "x"]
    arguments += ["train.steps=100000", "train.checkpoint_every=5"]
    with running_training(small_shards, run, *arguments) as first:
        first.wait_until(lambda: is_listened_to(port))
        with running_training(small_shards, run, *arguments) as second:
            first.wait_until(lambda: first.record(0).get("world_size") == 2 and first.steps() >= 10, 180)
            kill_tree(first.process.pid)
            code, said = second.ended()
    assert code == 75, said
    assert f"localhost:{port}, where the machines of this launch meet, is lost" in said
    assert "frame #" not in said
    assert second.status()["state"] == "preempted"
    with running_training(small_shards, run, "--ranks", 1, f"train.steps={second.steps() + 3}") as alone:
        code, said = alone.ended()
    assert code == 0, said
    assert "resumed from step" in said


@pytest.mark.parametrize("asked", [False, True])
def test_a_machine_that_looks_for_the_rendezvous_in_vain_hears_signals_and_gives_up(small_shards, tmp_path, asked):
    """Whoever connects hears nothing; here nobody takes the connection."""
    with socket.create_server(("localhost", 0), backlog=0) as deaf, socket.create_connection(deaf.getsockname()):
        endpoint = f"localhost:{deaf.getsockname()[1]}"
        patch = "import jobs.training.torchrun as torchrun; torchrun.GIVE_UP_SECONDS = 8.0"
        environment = {} if asked else interposed(tmp_path / "site", patch)
        arguments = ["--ranks", 1, "--nodes", 2, "--rendezvous", endpoint, "--rendezvous-id", "x"]
        with running_training(small_shards, tmp_path / "run", *arguments, **environment) as training:
            if asked:
                training.wait_until(lambda: bool([*(tmp_path / "run").glob("logs/torchrun-*.log")]))
                training.process.send_signal(signal.SIGUSR2)
            code, said = training.ended(50)
    assert ("stopped at step 0" if asked else "no sign of 1 other machine(s) at localhost:") in said
    assert code == (75 if asked else 1)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("cut", "cause"),
    [
        ("b", "this rank does not reach rank 0 on a: the network between their machines is cut"),
        pytest.param(
            "a",
            "this rank is reached from no other machine: the network of its machine is cut",
            marks=only_in_a_soak,
        ),
    ],
)
def test_a_machine_whose_network_is_cut_is_named_and_all_go_on_when_it_is_back(small_shards, tmp_path, cut, cause):
    """All ranks wait for each other then, and all of them send heartbeats through the shared file system."""
    run, names = tmp_path / "run", ("a", "b", "c")
    with joined_machines(*names) as machines, ExitStack() as launches:
        arguments = ["--ranks", 1, "--nodes", 3, "--rendezvous", f"{machines.addresses['a']}:29400"]
        arguments += ["--rendezvous-id", "x", "train.steps=100000", f"resources.hang_seconds={HANG_SECONDS}"]
        arguments += ["train.checkpoint_every=5"]
        trainings = [
            launches.enter_context(
                running_training(small_shards, run, *arguments, on_machine=partial(machines.command, name))
            )
            for name in names
        ]
        first, records = trainings[0], RankRecords(run / "ranks")
        first.wait_until(lambda: first.steps() >= 10, 180)
        (rank,) = (record.rank for record in records.of("x") if record.host == cut)
        machines.cut(cut)
        first.wait_until(lambda: bool(records.errors_of("x")), HANG_SECONDS + 30 - NAMED_SECONDS)
        time.sleep(2 * NAMED_SECONDS)  # each launcher looks every half a second, on a machine that may be busy
        steps = first.steps()
        machines.mend(cut)
        first.wait_until(lambda: first.steps() >= steps + 10)
        for training in trainings:
            training.process.send_signal(signal.SIGUSR2)
        codes = [training.ended() for training in trainings]
    for code, said in codes:
        assert code == 75, said
        lines = [line for line in said.splitlines() if f"rank {rank} of 3 on {cut}, step " in line]
        assert lines, said
        named, *_, restarted = lines
        waited = int(re.search(r"hang: no progress for (\d+) s in phase 'training'", named)[1])
        assert HANG_SECONDS <= waited < HANG_SECONDS + 30
        assert cause in named
        assert "waiting for 2 other machine(s)" in named
        assert "all ranks restart from step" in restarted
