"""Shares of a sweep: together all of it, whatever their number; and the processes that train them."""

import os
import time
from collections.abc import Callable

import pytest

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Ledger, Start, SweepState, read_ledger, records_of
from jobs.sweeps.pools import Lost, process_pool
from jobs.sweeps.settings import TrialResources
from jobs.sweeps.shares import Share, gather, gathered, holding_share, share_of_work, shares_are_done
from jobs.sweeps.trial import TrialEnd, TrialJob
from jobs.sweeps.trials import TrialFactory, plan_sweep
from jobs.training.messages import Asked
from musicvae.data.manifest import ShardManifest
from musicvae.training.stopping import Wish
from tests.support.sweep_ledgers import begun, drawn, end, sweep_settings


def pieces(factory: TrialFactory, state: SweepState, folder: SweepFolder, total: int):
    plan = plan_sweep(factory, state)
    for number in range(total):
        share = Share(number, total)
        yield share_of_work(factory, plan, state, SweepFolder(folder.path, share.name), share)


@pytest.mark.parametrize("total", [1, 2, 5, 12, 20])
@pytest.mark.parametrize("search", ["random", "grid"])
def test_shares_are_all_of_a_sweep_and_no_trial_is_in_two(small_shards, tmp_path, total, search):
    space = {"model.latent": {"choice": [4, 8, 8, 16]}, "train.seed": {"choice": [1, 2, 3]}}
    sweep = sweep_settings(search=search, space=space)
    factory = TrialFactory.of("test", sweep, ShardManifest.read(small_shards))
    folder, ledger = SweepFolder(tmp_path), Ledger.open(tmp_path)
    ledger.append(begun(sweep))
    whole = plan_sweep(factory, ledger.state)
    first = factory.trial(whole.coming[0][1])
    ledger.append(drawn(0, first.id, **first.values))
    ledger.append(Start(first.id, 0, sweep.budget.steps, 2.0))  # a driver that was killed
    plans = list(pieces(factory, ledger.state, folder, total))
    numbers = sorted(number for plan, _ in plans for number, _ in plan.coming)
    assert numbers == [number for number, _ in plan_sweep(factory, ledger.state).coming]
    owners: dict[str, set[int]] = {}
    for owner, (plan, state) in enumerate(plans):
        for trial in (*(factory.trial(values).id for _, values in plan.coming), *state.unfinished):
            owners.setdefault(trial, set()).add(owner)
    assert first.id in owners
    assert all(len(own) == 1 for own in owners.values())


def test_lines_are_gathered_once_also_after_a_kill_in_between(tmp_path):
    sweep = sweep_settings(budget={"trials": 1, "steps": 90})
    share = SweepFolder(tmp_path, "0-of-2")
    share.own.mkdir(parents=True)
    ledger = Ledger.open(share.own, SweepState())
    for record in (begun(sweep), drawn(0), Start("t0", 0, 90, 2.0), end("t0", value=1.0)):
        ledger.append(record)
    before = share.ledger.read_bytes()
    assert shares_are_done(sweep, read_ledger(tmp_path))
    gather(SweepFolder(tmp_path))
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert not share.own.exists()
    share.own.mkdir(parents=True)
    share.ledger.write_bytes(before)
    assert read_ledger(tmp_path).trials["t0"].starts == 1
    gather(SweepFolder(tmp_path))
    assert (tmp_path / "ledger.jsonl").read_bytes() == before
    assert len(list(records_of(tmp_path / "ledger.jsonl"))) == 4


def job(name: str) -> TrialJob:
    return TrialJob(name, 0, {}, 1, "", None, {}, "", "", False, 1, False)  # type: ignore[arg-type]


def trainer(job: TrialJob, asked: Callable[[], Asked]) -> TrialEnd:
    """Does what the trial is called."""
    match job.trial:
        case "die":
            os._exit(7)
        case "wait":
            while asked().wish == Wish.GO_ON:
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


def test_processes_are_used_again_replaced_and_heard():
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
        pool.ask_to_stop(Wish.STOP_FOR_USER)
        ends = []
        while pool.running:
            ends += pool.ended(0.1)
        assert [came.state for _, came in ends] == ["stopped", "stopped"]


@pytest.mark.parametrize(("gpus", "seen"), [(0.5, ["3", "3", "5", "5"]), (1, ["3", "5"]), (2, ["3,5"]), (0, [""])])
def test_each_process_sees_its_own_gpus(gpus, seen):
    environment = {"SLURM_CPUS_ON_NODE": "1" if not gpus else "8", "CUDA_VISIBLE_DEVICES": "3,5"}
    with process_pool(TrialResources(gpus=gpus), trainer, environment) as pool:
        ends = run(pool, *["a"] * len(seen))
    assert sorted(came.message.split()[1:] for _, came in ends) == sorted([[own] if own else [] for own in seen])


def test_failed_trials_are_divided_too_for_a_retry(small_shards, tmp_path):
    sweep = sweep_settings(budget={"trials": 1, "steps": 90})
    factory = TrialFactory.of("test", sweep, ShardManifest.read(small_shards))
    folder, ledger = SweepFolder(tmp_path), Ledger.open(tmp_path)
    ledger.append(begun(sweep))
    for number, name in enumerate(("a", "b", "c")):
        for record in (drawn(number, name), Start(name, 0, 90, 2.0), end(name, state="failed", category="code")):
            ledger.append(record)
    found = [sorted(state.trials) for _, state in pieces(factory, ledger.state, folder, 2)]
    assert found == [["a", "c"], ["b"]]


def test_a_share_that_has_only_to_leave_is_no_error_for_the_one_that_ends_with_it(tmp_path):
    share = SweepFolder(tmp_path, "0-of-2")
    with holding_share(share):
        assert not gathered(SweepFolder(tmp_path))
        assert share.own.exists()
    assert gathered(SweepFolder(tmp_path))
    assert not share.own.exists()
