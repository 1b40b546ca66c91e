"""When all ranks ask each other whether to stop, and what they agree on."""

from collections.abc import Callable

import pytest

from musicvae.training import stopping
from musicvae.training.stopping import MOST_TURNS, Stop, StopAgreement
from musicvae.training.world import World


class Ranks:
    """Ranks that make turns side by side, without processes; a round is the largest word of each kind, as over gloo.

    Args:
        turn_seconds: that a turn takes; may be changed at any time.
    """

    def __init__(self, size: int, monkeypatch: pytest.MonkeyPatch, *, turn_seconds: float) -> None:
        self.turn_seconds, self.now, self.turn = turn_seconds, 0.0, 0
        self.wishes = [Stop.GO_ON] * size
        self.rounds: list[int] = []
        self._words: list[tuple[int, int]] = []
        monkeypatch.setattr(stopping.time, "monotonic", lambda: self.now)
        self.ranks = [StopAgreement(self._start(rank), lambda rank=rank: self.wishes[rank]) for rank in range(size)]

    def _start(self, rank: int) -> Callable[[int, int], Callable[[], tuple[int, int]]]:
        def start(stop: int, pause: int) -> Callable[[], tuple[int, int]]:
            if rank == 0:
                self.rounds.append(self.turn)
                self._words = []
            words = self._words
            words.append((stop, pause if rank == 0 else 0))
            return lambda: (max(stop for stop, _ in words), max(pause for _, pause in words))

        return start

    def turns(self, count: int) -> Stop:
        """Makes some turns, or fewer where the ranks agree to stop; what they agree on."""
        for _ in range(count):
            (agreed,) = {rank.agreed() for rank in self.ranks}
            if agreed:
                return agreed
            self.turn += 1
            self.now += self.turn_seconds
            for rank in self.ranks:
                rank.ask()
        return Stop.GO_ON


def test_rounds_are_half_a_second_apart_and_come_to_it_by_doubling(monkeypatch):
    ranks = Ranks(3, monkeypatch, turn_seconds=1 / 16)
    assert ranks.turns(60) == Stop.GO_ON
    assert ranks.rounds == [1, 2, 4, 8, 16, 24, 32, 40, 48, 56]


def test_the_wish_of_one_rank_stops_all_at_the_round_after(monkeypatch):
    ranks = Ranks(3, monkeypatch, turn_seconds=1 / 16)
    ranks.turns(30)
    ranks.wishes[2], ranks.wishes[1] = Stop.STOP_FOR_SCHEDULER, Stop.STOP_FOR_USER
    assert ranks.turns(60) == Stop.STOP_FOR_USER, "the largest wish holds for all"
    assert ranks.turn == 32


def test_slow_turns_all_ask_and_fast_ones_no_later_than_after_the_most(monkeypatch):
    slow = Ranks(2, monkeypatch, turn_seconds=2.0)
    slow.turns(5)
    assert slow.rounds == [1, 2, 3, 4, 5]
    fast = Ranks(2, monkeypatch, turn_seconds=1 / 1024)
    fast.turns(100)
    assert {later - earlier for earlier, later in zip(fast.rounds[5:], fast.rounds[6:], strict=False)} == {MOST_TURNS}


def test_turns_of_another_length_ask_from_the_first(monkeypatch):
    ranks = Ranks(2, monkeypatch, turn_seconds=0.01)
    ranks.turns(40)
    for rank in ranks.ranks:
        rank.hurry()
    before, ranks.turn_seconds, ranks.rounds = ranks.turn, 1.0, []
    ranks.turns(4)
    assert ranks.rounds == [before + 1, before + 2, before + 3, before + 4]


def test_a_process_alone_is_heard_at_its_next_turn():
    agreement = StopAgreement(World.single().start_agreement, lambda: Stop.STOP_FOR_USER)
    assert agreement.agreed() == Stop.GO_ON
    agreement.ask()
    assert agreement.agreed() == Stop.STOP_FOR_USER
