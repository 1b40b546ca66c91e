"""When to stop before the end: what each process asks for, and what all agree on."""

import time
from collections.abc import Callable
from enum import IntEnum


class Stop(IntEnum):
    """What a process asks of all: the largest request of any rank holds for all of them."""

    GO_ON = 0
    STOP_FOR_SCHEDULER = 1
    STOP_FOR_USER = 2


class StopAgreement:
    """The ranks agree over gloo, on the host, and one call late: what was asked at one step is known at the next.

    Every rank has to call `agreed` and `ask` in turn and equally often.

    Args:
        start_agreement: of this rank's `World`.
    """

    def __init__(self, start_agreement: Callable[[int], Callable[[], int]], stop_requested: Callable[[], Stop]) -> None:
        self._start_agreement = start_agreement
        self._stop_requested = stop_requested
        self._answer: Callable[[], int] = lambda: Stop.GO_ON

    def agreed(self) -> Stop:
        """The largest request of all ranks when they were last asked."""
        return Stop(self._answer())

    def ask(self) -> None:
        """Begins to ask all ranks."""
        self._answer = self._start_agreement(self._stop_requested())


def until(minutes: float | None, stop_requested: Callable[[], Stop]) -> Callable[[], Stop]:
    """A request that turns into a stop after some minutes from now; None leaves it as it is."""
    if minutes is None:
        return stop_requested
    end = time.monotonic() + 60 * minutes
    return lambda: max(stop_requested(), Stop.STOP_FOR_SCHEDULER if time.monotonic() > end else Stop.GO_ON)
