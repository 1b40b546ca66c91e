"""What a scheduler says of what it was given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """What it says of one element, in its own words: its state, and why it waits or ended."""

    state: str
    reason: str


Told: TypeAlias = Mapping[tuple[str, int], SchedulerState] | None
"""By the scheduler's number of a job and of an element (0 without an array); None where no scheduler answers."""
