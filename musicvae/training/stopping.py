"""When to stop before the end: what each process asks for, and what all agree on."""

import time
from collections.abc import Callable
from enum import IntEnum

ROUND_SECONDS = 0.5
"""Between two rounds in which all ranks agree on whether to stop."""
MOST_TURNS = 16
"""From one round to the next: turns that suddenly take ten times as long must not put a stop off for minutes."""


class Stop(IntEnum):
    """What a process asks of all: the largest request of any rank holds for all of them."""

    GO_ON = 0
    STOP_FOR_SCHEDULER = 1
    STOP_FOR_USER = 2


class StopAgreement:
    """The ranks agree over gloo, on the host, and one turn late: what was asked at one turn is known at the next.

    A turn is a step, or a round of an evaluation. Not every turn asks: at 256 ranks that costs 10 to 30 ms. Rank 0 says
    in each round after how many turns the next one is due. Every rank has to call `agreed` and `ask` in turn and
    equally often, and `hurry` at the same place.

    Args:
        start_agreement: of this rank's `World`.
    """

    def __init__(
        self,
        start_agreement: Callable[[int, int], Callable[[], tuple[int, int]]],
        stop_requested: Callable[[], Stop],
    ) -> None:
        self._start_agreement = start_agreement
        self._stop_requested = stop_requested
        self._answer: Callable[[], tuple[int, int]] | None = None
        self._stop = Stop.GO_ON
        self._pause = 1
        self._turns = 0
        self._since: float | None = None

    def agreed(self) -> Stop:
        """The largest request of all ranks when they were last asked."""
        if self._answer:
            stop, self._pause = self._answer()
            self._stop, self._answer = Stop(stop), None
        return self._stop

    def ask(self) -> None:
        """Begins to ask all ranks, if it is time to."""
        self._turns += 1
        if self._turns >= self._pause:
            self._answer = self._start_agreement(self._stop_requested(), self._next_pause())
            self._turns = 0

    def hurry(self) -> None:
        """The next turn asks: turns of another length begin."""
        self.agreed()
        self._pause, self._since = 1, None

    def _next_pause(self) -> int:
        """The turns that take `ROUND_SECONDS` at the present speed, but at most twice as many as the last time."""
        before, self._since = self._since, time.monotonic()
        if before is None:
            return 1
        seconds = max(self._since - before, 1e-9)
        return max(1, min(int(self._turns * ROUND_SECONDS / seconds), 2 * self._pause, MOST_TURNS))


def until(minutes: float | None, stop_requested: Callable[[], Stop]) -> Callable[[], Stop]:
    """A request that turns into a stop after some minutes from now; None leaves it as it is."""
    if minutes is None:
        return stop_requested
    end = time.monotonic() + 60 * minutes
    return lambda: max(stop_requested(), Stop.STOP_FOR_SCHEDULER if time.monotonic() > end else Stop.GO_ON)
