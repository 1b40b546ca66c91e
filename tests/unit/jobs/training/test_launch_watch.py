"""What a launcher reads of its ranks' records while all goes well, and when a rank fails."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.torchrun import Group
from jobs.training.environment import START_AGAIN
from jobs.training.torchrun import LaunchWatch
from musicvae.training import rank_records
from musicvae.training.rank_records import RankError, RankRecord, RankRecords
from musicvae.training.run_folder import RunFolder

RANKS, HERE = 64, range(16, 24)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the records that were read."""
    names: list[str] = []
    before = rank_records._json

    def counted(path: Path) -> dict[str, object]:
        names.append(path.name)
        return before(path)

    monkeypatch.setattr(rank_records, "_json", counted)
    return names


@pytest.fixture
def agent() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The ends of the launcher and of its agent, which does not wait for an answer here."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.setblocking(False)
        theirs.send(f"0 {HERE.start} {len(HERE)}\n".encode())
        yield ours, theirs


@pytest.fixture
def watch(agent, tmp_path, monkeypatch) -> LaunchWatch:
    """Of a run whose folder is named as it mostly is, from where the command is typed."""
    monkeypatch.chdir(tmp_path)
    group = Group(ranks=8, min_nodes=8, max_nodes=8, endpoint="node0:1", identity="launch", shutdown_seconds=9)
    return LaunchWatch(RunFolder(Path("runs/first")), group, 3, agent[0])


def word(rank: int, attempt: int = 0) -> dict[str, Any]:
    place: dict[str, Any] = {
        "rank": rank,
        "world_size": RANKS,
        "host": f"node{rank // 8}",
        "pid": 1000 + rank,
        "step": 5,
    }
    return {**place, "phase": "training", "launch": "launch", "attempt": attempt, "when": 10.0 + rank}


def write_all(records: RankRecords, attempt: int = 0) -> None:
    for rank in range(RANKS):
        records.write(RankRecord(**word(rank, attempt), beats=9, waiting=False, ended=False))


def test_only_the_ranks_of_its_machine_are_read_until_one_fails(watch, agent, read, capsys):
    records = RankRecords(watch.run.ranks)
    write_all(records)
    for _ in range(3):
        watch.look()
    assert sorted(set(read)) == [f"rank-{rank:05d}.json" for rank in HERE]
    assert len(read) == 3 * len(HERE)

    read.clear()
    error = RankError(**word(40), category="code", message="lost", traceback="", secondary=True, culprit=None)
    records.write_error(error)
    watch.look()
    assert len(set(read)) == RANKS + 1, "all records and the error"
    assert len(watch.records) == RANKS

    read.clear()
    watch.look()
    assert sorted(set(read)) == sorted([f"rank-{rank:05d}.json" for rank in HERE] + ["rank-00040.error.json"])
    assert len(watch.records) == RANKS, "what was read before is remembered"
    failure = watch.last_failure()
    assert failure is not None
    assert failure.rank == min(set(range(RANKS)) - {40}), "the first that ended without a word"

    agent[1].send(f"1 {HERE.start} {len(HERE)}\n".encode())
    write_all(records, attempt=1)
    watch.look()
    assert agent[1].recv(9) == START_AGAIN
    assert "all ranks restart" in capsys.readouterr().err
    assert {record.attempt for record in watch.records} == {1}
    read.clear()
    watch.look()
    assert len(set(read)) == len(HERE) + 1, "an error of the attempt before calls for no other look"


def test_an_agent_whose_ranks_would_fail_again_is_not_told_to_start_them(watch, agent, capsys):
    records = RankRecords(watch.run.ranks)
    write_all(records)
    watch.look()
    error = RankError(**word(40), category="data", message="damaged", traceback="", secondary=False, culprit=None)
    records.write_error(error)
    agent[1].send(f"1 {HERE.start} {len(HERE)}\n".encode())
    watch.look()
    assert watch.over
    with pytest.raises(BlockingIOError):
        agent[1].recv(9)
    assert "restart" not in capsys.readouterr().err
