"""Signs of life, and whom a stuck rank blames."""

import time
from dataclasses import replace

import pytest
import torch

from musicvae.training import world
from musicvae.training.heartbeat import Heartbeat, find_culprit, waits_for_others
from musicvae.training.rank_records import RankRecord, RankRecords


def record(rank: int, *, step: int = 7, waiting: bool = True, when: float = 100.0, ended: bool = False) -> RankRecord:
    return RankRecord(rank, 3, f"node{rank}", 10 + rank, step, "training", "launch", 0, when, 9, waiting, ended)


def later(*records: RankRecord) -> list[RankRecord]:
    return [replace(one, when=one.when + 6) for one in records]


def test_a_rank_that_gives_no_sign_of_life_is_blamed_first():
    before = [record(0), record(1, step=6), record(2)]
    after = [*later(record(0), record(1, step=6)), record(2)]
    culprit, why = find_culprit(before, after, own_rank=0)
    assert culprit
    assert culprit.rank == 2
    assert "no heartbeat" in why


def test_then_the_one_that_is_behind():
    ranks = [record(0), record(1, step=6), record(2)]
    culprit, why = find_culprit(ranks, later(*ranks), own_rank=0)
    assert culprit
    assert culprit.rank == 1
    assert "still at step 6" in why


def test_then_the_one_that_waits_for_nobody():
    ranks = [record(0), record(1), record(2, waiting=False)]
    culprit, _ = find_culprit(ranks, later(*ranks), own_rank=0)
    assert culprit
    assert culprit.rank == 2


@pytest.mark.parametrize(
    ("cut_off", "culprit", "why"),
    [
        ([1], 1, "does not reach rank 0 on node0: the network between their machines is cut"),
        ([1, 2], 0, "is reached from no other machine: the network of its machine is cut"),
    ],
)
def test_where_a_network_is_cut_all_wait_and_a_rank_may_be_a_step_ahead(cut_off, culprit, why):
    ranks = [replace(record(rank, step=7 + (rank == 1)), cut_off=rank in cut_off) for rank in range(3)]
    for own_rank in range(3):
        found, reason = find_culprit(ranks, later(*ranks), own_rank=own_rank)
        assert found
        assert (found.rank, reason) == (culprit, why)


def test_who_cannot_reach_a_rank_that_has_left_is_not_cut_off():
    ranks = [record(0, ended=True), replace(record(1), cut_off=True), record(2)]
    assert find_culprit(ranks, later(*ranks), own_rank=2) == (None, "")


def test_a_rank_that_left_is_nobodys_culprit():
    ranks = [record(0), record(1, ended=True, step=3)]
    assert find_culprit(ranks, [*later(record(0)), record(1, ended=True, step=3)], own_rank=0) == (None, "")


def test_a_pulse_tells_where_the_rank_is_and_that_it_left(tmp_path):
    heartbeat = Heartbeat(RankRecords(tmp_path), rank=3, world_size=4, launch_id="a", attempt=1)
    heartbeat.start()
    heartbeat.beat(17, "evaluating")
    heartbeat.stop()
    (found,) = RankRecords(tmp_path).of("a")
    assert (found.rank, found.attempt, found.step, found.phase, found.ended) == (3, 1, 17, "evaluating", True)
    assert time.time() - found.when < 60
    assert RankRecords(tmp_path).of("b") == []
    assert [path.name for path in tmp_path.iterdir()] == ["rank-00003.json"]


def test_what_others_left_behind_is_forgotten(tmp_path):
    records = RankRecords(tmp_path)
    for rank in range(3):
        records.write(record(rank))
    (tmp_path / "rank-00001.json").write_text("{torn")
    records.forget_all_but({("node2", 12)})
    assert [found.rank for found in records.of("launch")] == [2]


def test_a_rank_inside_a_collective_of_a_world_waits_for_others():
    alone = world.World(rank=0, size=2, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="process group") as raised:
        alone.gather(1)
    frames = [entry.frame.raw for entry in raised.traceback]
    assert not waits_for_others(frames[0])  # this very test
    ours = [frame for frame in frames if frame.f_code.co_filename == world.__file__]
    assert ours
    assert all(map(waits_for_others, ours))


def test_a_rank_that_waited_in_vain_names_the_one_that_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("musicvae.training.heartbeat.HEARTBEAT_SECONDS", 0.05)
    records = RankRecords(tmp_path)
    heartbeat = Heartbeat(records, rank=0, world_size=3, launch_id="launch", attempt=0)
    heartbeat.start()
    heartbeat.beat(7, "training")
    records.write(record(1))
    heartbeat.fail("code", "Timed out waiting 1824000ms", secondary=True, gave_up=True)
    heartbeat.stop()
    (error,) = records.errors_of("launch")
    assert (error.culprit, error.secondary) == (1, True)
    assert error.message.startswith("rank 0 waited in vain for rank 1 on node1 (process 11), which sends no heartbeat")
    assert error.message.endswith("Timed out waiting 1824000ms")
