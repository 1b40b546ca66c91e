"""Which machines take part in a launch."""

import os

import pytest

from cluster.job import START_VARIABLE
from cluster.torchrun import agent_command, agent_environment
from jobs.training.environment import RankCpus, cpus_of_rank, group_of, new_launch_id, wrong_cpus
from musicvae.errors import ConfigError

OPTIONS = {"lanes": 8, "shutdown_seconds": 100}


def test_one_machine_meets_nobody_and_each_launch_has_its_own_name():
    first, second = (group_of(2, "1", None, None, **OPTIONS) for _ in range(2))
    assert (first.min_nodes, first.max_nodes, first.endpoint, first.elastic) == (1, 1, "", False)
    assert first.identity != second.identity


def test_a_launch_of_a_submission_has_the_name_of_its_start(monkeypatch):
    """Or nobody could tell its ranks from those of another submission of the run."""
    monkeypatch.setenv(START_VARIABLE, "17.3")
    assert group_of(2, "1", None, None, **OPTIONS).identity == new_launch_id() == "17.3"


def test_several_machines_may_come_and_go():
    group = group_of(2, "1:3", "head:29400", "tonight", **OPTIONS)
    assert (group.min_nodes, group.max_nodes, group.elastic) == (1, 3, True)
    command = agent_command("agent", group, "jobs.train", "--run", "RUN")
    assert command[command.index("--nnodes") + 1] == "1:3"
    assert "SIGUSR2" in command[command.index("--signals-to-handle") + 1]
    assert command[-5:] == ["-m", "jobs.train", "--", "--run", "RUN"]
    assert agent_environment(group)["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"


def test_a_slurm_job_names_its_launches(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert group_of(1, "2", "head:29400", None, **OPTIONS).identity == "17.3"


def test_a_rank_says_which_cpus_it_may_use(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "96")
    here = cpus_of_rank()
    assert (here.pid, here.allowed, here.given) == (os.getpid(), tuple(sorted(os.sched_getaffinity(0))), 96)
    assert str(RankCpus("node1", 7, (0, 1, 5), 3, 2)) == "node1, process 7: CPUs 0-1,5; SLURM gave 3 CPU(s)"


@pytest.mark.parametrize(
    ("allowed", "given", "ranks", "said"),
    [
        ((0,), 96, 8, "SLURM gave node1 96 CPUs, but its ranks may use only CPU 0"),
        (tuple(range(96)), 96, 8, None),
        (tuple(range(128)), 96, 8, None),
        ((0,), 1, 8, "8 ranks of node1 share 1 CPU(s)"),
        ((0, 1), None, 8, None),
    ],
)
def test_ranks_with_other_cpus_than_were_requested_are_named_once_a_node(allowed, given, ranks, said):
    warnings = list(wrong_cpus([RankCpus("node1", pid, allowed, given, ranks) for pid in range(ranks)]))
    assert [said in warning for warning in warnings] == ([True] if said else [])


@pytest.mark.parametrize(
    ("ranks", "nodes", "rendezvous", "identity", "said"),
    [
        (0, "1", None, None, "--ranks 0"),
        (1, "two", None, None, "--nodes two"),
        (1, "3:2", None, None, "--nodes 3:2"),
        (9, "1", None, None, "at most data.lanes = 8"),
        (2, "1:5", "head:1", "x", "10 ranks cannot share the data"),
        (1, "2", None, "x", "need --rendezvous"),
        (1, "2", "head:1", None, "need --rendezvous-id"),
    ],
)
def test_what_cannot_meet_is_refused(ranks, nodes, rendezvous, identity, said, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ConfigError, match=said):
        group_of(ranks, nodes, rendezvous, identity, **OPTIONS)
