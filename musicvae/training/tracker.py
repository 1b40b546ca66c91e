"""What `fit` tells the outside while it runs."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from musicvae.training.examples import Examples


@runtime_checkable
class Tracker(Protocol):
    """Receives figures by step. A tracker never raises: losing a view must not lose a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of a step."""
        ...

    def show(self, step: int, examples: Examples) -> None:
        """What the model made at an evaluation; the run folder holds it already."""
        ...

    def say(self, text: str) -> None:
        """A sentence for a person: a warning, or what was decided."""
        ...

    def close(self, state: str) -> None:
        """The run ends in a state of `run_folder.State`."""
        ...


class Trackers:
    """Several trackers as one; none at all is the silent tracker of the other ranks."""

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self.trackers = trackers

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(step, values)

    def show(self, step: int, examples: Examples) -> None:
        for tracker in self.trackers:
            tracker.show(step, examples)

    def say(self, text: str) -> None:
        for tracker in self.trackers:
            tracker.say(text)

    def close(self, state: str) -> None:
        for tracker in self.trackers:
            tracker.close(state)
