"""Where trials are trained, as the driver of a sweep sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from musicvae.training.stopping import Wish

if TYPE_CHECKING:
    from jobs.sweeps.trial import TrialEnd, TrialJob


@dataclass(frozen=True, slots=True)
class Lost:
    """A process vanished while it trained.

    Attributes:
        reason: in the words of whoever ran it.
        out_of_memory: whether it was ended before its node ran out of memory.
    """

    reason: str
    out_of_memory: bool


class TrialPool(Protocol):
    """Processes that train one trial after another; one that crashed or used up its memory is replaced."""

    def room(self) -> bool:
        """Whether a trial can be started at once."""
        ...

    def start(self, job: "TrialJob") -> None:
        """Begins to train a trial; there has to be room."""
        ...

    def ended(self, seconds: float) -> "Sequence[tuple[TrialJob, TrialEnd | Lost]]":
        """Waits a while; gives what came of trials that ended meanwhile."""
        ...

    @property
    def running(self) -> Sequence[str]:
        """The trials that are being trained."""
        ...

    def why_waiting(self) -> str:
        """Why no more trials run than do; empty if nothing waits for room."""
        ...

    def ask_to_stop(self, wish: Wish) -> None:
        """Lets running trials save and leave."""
        ...
