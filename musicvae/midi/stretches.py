"""The metre map of a performance as stretches: bars in a row in one metre, each with its own bar lines."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bars in a row in one metre, counted from the tick where it begins.

    Attributes:
        start: tick of its first bar line.
        numerator, denominator: its metre.
        first_bar: bars of the file before it; one that a change of metre cuts short counts.
        bars: its whole bars; none where no change ends it.
    """

    start: int
    numerator: int
    denominator: int
    first_bar: int
    bars: int | None = None

    def bars_until(self, tick: int, ticks_per_quarter: int) -> tuple[int, bool]:
        """Whole bars from its start to a tick, and whether the tick lies off the bar line after them."""
        whole, rest = divmod((tick - self.start) * self.denominator, 4 * ticks_per_quarter * self.numerator)
        return whole, rest > 0


def stretches_of(metres: Sequence[tuple[int, int, int]], ticks_per_quarter: int) -> list[Stretch]:
    """The stretches of a file, in order, from (tick, numerator, denominator) of its time signatures in order.

    Every change of metre begins a stretch. The metre in force said again changes nothing on a bar line; off the bar
    line it begins a stretch too, because that is where the file wants its next bar. 4/4 holds before the first.
    """
    stretches = [Stretch(0, 4, 4, 0)]
    for tick, numerator, denominator in metres:
        last = stretches.pop()
        whole, off = last.bars_until(tick, ticks_per_quarter)
        if (numerator, denominator) == (last.numerator, last.denominator) and not off:
            stretches.append(last)
            continue
        if tick > last.start:
            stretches.append(Stretch(last.start, last.numerator, last.denominator, last.first_bar, whole))
        stretches.append(Stretch(tick, numerator, denominator, last.first_bar + whole + off))
    return stretches
