"""When to stop before the end: what each process wishes, and what all agree on."""

import time
from collections.abc import Callable
from enum import IntEnum


class Wish(IntEnum):
    """What a process asks of all: the largest wish of any rank holds for all of them."""

    GO_ON = 0
    STOP_FOR_SCHEDULER = 1
    STOP_FOR_USER = 2


class StopAgreement:
    """The ranks agree over gloo, on the host, and one call late: what was asked at one step is known at the next.

    Every rank has to call `agreed` and `ask` in turn and equally often.

    Args:
        start_agreement: of this rank's `World`.
    """

    def __init__(self, start_agreement: Callable[[int], Callable[[], int]], wish: Callable[[], Wish]) -> None:
        self._start_agreement = start_agreement
        self._wish = wish
        self._answer: Callable[[], int] = lambda: Wish.GO_ON

    def agreed(self) -> Wish:
        """The largest wish of all ranks when they were last asked."""
        return Wish(self._answer())

    def ask(self) -> None:
        """Begins to ask all ranks."""
        self._answer = self._start_agreement(self._wish())


def until(minutes: float | None, wish: Callable[[], Wish]) -> Callable[[], Wish]:
    """A wish that turns into a stop after some minutes from now; None leaves it as it is."""
    if minutes is None:
        return wish
    end = time.monotonic() + 60 * minutes
    return lambda: max(wish(), Wish.STOP_FOR_SCHEDULER if time.monotonic() > end else Wish.GO_ON)
