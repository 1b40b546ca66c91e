"""Which rank is named first, and what counts as a consequence of another's failure."""

from dataclasses import replace

import pytest

from cluster.errors import ExitCode
from jobs.training.failures import category_of, first_failure, gave_up_waiting, is_secondary
from musicvae.errors import Category, ConfigError, DataError, DivergedError
from musicvae.training.rank_records import RankError, RankRecord


def record(rank: int, *, when: float = 100.0, ended: bool = False, size: int = 2) -> RankRecord:
    return RankRecord(rank, size, f"node{rank}", 10 + rank, 7, "training", "launch", 0, when, 9, False, ended)


def error(
    rank: int, category: Category = "code", *, when: float = 100.0, secondary: bool = False, culprit: int | None = None
) -> RankError:
    return RankError(
        rank, 2, f"node{rank}", 10 + rank, 7, "training", "launch", 0, when, category, "why", "", secondary, culprit
    )


def test_the_first_of_those_that_failed_by_themselves_is_named():
    failure = first_failure(
        [record(0), record(1)], [error(0, secondary=True, when=1.0), error(1, "data", when=3.0), error(2, when=4.0)]
    )
    assert failure
    assert (failure.rank, failure.category, failure.exit_code) == (1, "data", ExitCode.DATA)


def test_a_rank_without_a_last_word_is_named_before_those_that_lost_it():
    failure = first_failure([record(0, ended=True), record(1)], [error(0, secondary=True)])
    assert failure
    assert (failure.rank, failure.host, failure.pid, failure.category) == (1, "node1", 11, "killed")


def test_of_several_silent_ranks_the_one_that_fell_silent_first_is_named():
    failure = first_failure([record(0, when=130.0), record(1, when=101.0), record(2, when=131.0, size=3)], [])
    assert failure
    assert failure.rank == 1


def test_a_rank_that_others_waited_for_is_named_as_stuck():
    failure = first_failure([record(0), record(1)], [error(0, "hang", secondary=True, culprit=1)])
    assert failure
    assert (failure.rank, failure.category, failure.message) == (1, "hang", "why")


@pytest.mark.parametrize("culprit", [1, None])
def test_a_rank_whose_last_heartbeat_is_old_has_come_as_far_as_those_that_waited_for_it(culprit):
    old = replace(record(1), step=2, phase="starting")
    failure = first_failure([record(0, ended=True), old], [error(0, "hang", secondary=True, culprit=culprit)])
    assert failure
    assert (failure.rank, failure.step, failure.phase, failure.host) == (1, 7, "training", "node1")


def test_a_rank_that_never_gave_a_sign_of_life_is_named():
    failure = first_failure([record(0)], [])
    assert failure
    assert (failure.rank, failure.category) == (1, "code")


def test_of_ranks_that_somebody_else_ended_only_those_that_failed_are_blamed():
    """As Ray does it: rank 0, in good health, is killed together with the group that rank 1 has left."""
    failure = first_failure([record(0, when=99.0), record(1)], [], failed={1})
    assert failure
    assert (failure.rank, failure.host, failure.category) == (1, "node1", "killed")
    failure = first_failure([record(0), record(1)], [error(0, when=1.0), error(1, "data", when=2.0)], failed={1})
    assert failure
    assert (failure.rank, failure.category) == (1, "data")


def test_ranks_that_all_left_by_themselves_are_no_failure():
    assert first_failure([record(0, ended=True), record(1, ended=True)], []) is None


@pytest.mark.parametrize(
    ("raised", "category"),
    [
        (ConfigError("x"), "config"),
        (DataError("x"), "data"),
        (DivergedError("x"), "diverged"),
        (MemoryError(), "memory"),
        (KeyError("x"), "code"),
    ],
)
def test_categories(raised, category):
    assert category_of(raised) == category
    assert not is_secondary(raised)


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3456"),
        RuntimeError("Gloo connectFullMesh failed with SO_ERROR: Connection refused"),
        ConnectionResetError("Connection reset by peer"),
    ],
)
def test_a_lost_peer_is_a_consequence(raised):
    assert is_secondary(raised)


def test_a_wait_in_vain_is_told_from_a_lost_connection():
    assert gave_up_waiting(RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 5000ms for recv"))
    assert gave_up_waiting(RuntimeError("wait timeout after 5000ms, keys: /text/1"))
    assert not gave_up_waiting(RuntimeError("Connection closed by peer [127.0.0.1]:3456"))


def test_what_another_rank_shows_is_a_consequence():
    shown = DataError("x")
    shown.shown_elsewhere = True
    assert is_secondary(shown)
