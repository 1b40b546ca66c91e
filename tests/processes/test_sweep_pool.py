"""The processes that train the trials of a sweep."""

import os
import time
from collections.abc import Callable

import pytest

from jobs.sweeps.pools import Lost, process_pool
from jobs.sweeps.settings import TrialResources
from jobs.sweeps.trial import TrialEnd, TrialJob
from jobs.training.messages import StopRequest
from musicvae.errors import ConfigError
from musicvae.training.stopping import Stop


def job(name: str) -> TrialJob:
    return TrialJob(name, 0, {}, 1, "", None, {}, "", "", False, 1, False)  # type: ignore[arg-type]


def trainer(job: TrialJob, asked: Callable[[], StopRequest]) -> TrialEnd:
    """Does what the trial is called."""
    match job.trial:
        case "die":
            os._exit(7)
        case "wait":
            while asked().stop == Stop.GO_ON:
                time.sleep(0.01)
            return TrialEnd("stopped")
        case "memory":
            return TrialEnd("failed", category="memory")
        case _:
            return TrialEnd("finished", message=f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}")


def run(pool, *names: str) -> list[tuple[str, TrialEnd | Lost]]:
    """Starts trials at once and waits for all of them."""
    for name in names:
        pool.start(job(name))
    found = []
    while pool.running:
        found += [(own.trial, came) for own, came in pool.ended(0.1)]
    return found


@pytest.mark.slow
def test_processes_are_used_again_replaced_and_heard(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    with process_pool(TrialResources(cpus=2), trainer, {"SLURM_CPUS_PER_TASK": "5"}) as pool:
        assert pool.room()
        ((_, one),) = run(pool, "a")
        ((_, two),) = run(pool, "b")
        assert isinstance(one, TrialEnd)
        assert one == two, "the same process"
        ((_, lost),) = run(pool, "die")
        assert lost == Lost("exit status 7", False)
        run(pool, "memory")
        ((_, three),) = run(pool, "c")
        assert three not in (one, lost)
        pool.start(job("wait"))
        pool.start(job("wait"))
        assert not pool.room()
        assert pool.ended(0.2) == []
        pool.ask_to_stop(Stop.STOP_FOR_USER)
        ends = []
        while pool.running:
            ends += pool.ended(0.1)
        assert [came.state for _, came in ends] == ["stopped", "stopped"]


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "seen"), [(0.5, ["3", "3", "5", "5"]), (1, ["3", "5"]), (0, [""])])
def test_each_process_sees_its_own_gpus(gpus, seen, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    environment = {"SLURM_CPUS_ON_NODE": "1" if not gpus else "8", "CUDA_VISIBLE_DEVICES": "3,5"}
    with process_pool(TrialResources(gpus=gpus), trainer, environment) as pool:
        ends = run(pool, *["a"] * len(seen))
    assert sorted(came.message.split()[1:] for _, came in ends) == sorted([[own] if own else [] for own in seen])


def test_a_machine_with_too_little_memory_is_refused():
    refused = pytest.raises(ConfigError, match=r"1 CPU and 3 GiB of memory on one node\n.* and 2 GiB of memory")
    with refused, process_pool(TrialResources(memory_gib=3), trainer, {"SLURM_MEM_PER_NODE": "2048"}):
        pass
