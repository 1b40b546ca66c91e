"""Which CPUs and how much memory this process may use, whoever limits them."""

import os

import pytest

from cluster import local
from cluster.local import usable_cpus, usable_memory


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 96 CPUs; gives the folder of its cgroups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)))
    monkeypatch.setattr(local, "CGROUPS", tmp_path)
    monkeypatch.setattr(local, "CGROUPS_OF_THIS", tmp_path / "of-this")
    return tmp_path


def test_where_nothing_limits_them_all_are_used(machine):
    assert usable_cpus({}) == 96


def test_the_smallest_limit_counts(machine, monkeypatch):
    assert usable_cpus({"SLURM_CPUS_ON_NODE": "8"}) == 8
    assert usable_cpus({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "4"}) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert usable_cpus({"SLURM_CPUS_PER_TASK": "4"}) == 1


@pytest.mark.parametrize(("quota", "cpus"), [("max 100000", 96), ("250000 100000", 2), ("50000 100000", 1)])
def test_a_container_of_a_quota_uses_no_more(machine, quota, cpus):
    (machine / "of-this").write_text("0::/outer/inner\n")
    (machine / "outer" / "inner").mkdir(parents=True)
    (machine / "outer" / "cpu.max").write_text(f"{quota}\n")
    (machine / "outer" / "inner" / "cpu.max").write_text("max 100000\n")
    assert usable_cpus({}) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [(-1, 96), (400000, 4)])
def test_a_quota_of_version_1_counts_too_where_the_container_sees_only_its_root(machine, quota, cpus):
    (machine / "of-this").write_text("4:memory:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/\n")
    (machine / "cpu,cpuacct").mkdir()
    (machine / "cpu,cpuacct" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (machine / "cpu,cpuacct" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus({}) == cpus


@pytest.mark.parametrize(
    ("of_this", "folder", "file"),
    [("0::/outer/inner\n", "outer", "memory.max"), ("4:memory:/docker/1\n", "memory", "memory.limit_in_bytes")],
)
def test_memory_is_that_of_the_machine_of_slurm_or_of_a_cgroup(machine, of_this, folder, file):
    whole = usable_memory({"SLURM_MEM_PER_NODE": "0"})
    assert whole >= 1 << 28
    assert usable_memory({"SLURM_MEM_PER_NODE": "100"}) == 100 << 20
    (machine / "of-this").write_text(of_this)
    (machine / folder).mkdir()
    for limit, usable in (("max", whole), (str(1 << 62), whole), (str(50 << 20), 50 << 20)):
        (machine / folder / file).write_text(f"{limit}\n")
        assert usable_memory({}) == usable
