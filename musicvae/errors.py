"""Errors that a user can cure. Each says what was expected, what came, the likely cause and what to do."""

from typing import ClassVar, Literal, TypeAlias

Category: TypeAlias = Literal[
    "config", "data", "diverged", "memory", "disk", "hang", "killed", "code", "superseded", "preempted", "interrupted"
]
"""Why a rank failed."""

DAMAGES = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a file raises that somebody else has written, where its content was not foreseen."""
MOST_CHARACTERS = 4000
"""Of each part of a message: what was found may be a file's whole content."""


class UserError(ValueError):
    """A problem outside the code.

    Args:
        problem: one sentence that names the thing that is wrong.
        expected: what would have been right.
        found: what came instead, with its numbers.
        likely: the likely cause.
        do: what cures it.
    """

    category: ClassVar[Category] = "code"
    exit_code: ClassVar[int] = 1
    """What a command ends with: a value of `cluster.errors.ExitCode`, which this package does not import."""
    shown_elsewhere = False
    """Set on the ranks that only repeat what rank 0 says, so that a user reads it once."""

    def __init__(self, problem: str, *, expected: str = "", found: str = "", likely: str = "", do: str = "") -> None:
        self.problem = problem
        details = {"expected": expected, "found": found, "likely": likely, "do": do}
        self.details = {name: _clipped(text) for name, text in details.items()}
        rows = [f"  {name:<9} {text}" for name, text in self.details.items() if text]
        super().__init__("\n".join([problem, *rows]))

    def __reduce__(self):
        """Keeps the parts when the error crosses from a worker process."""
        return _rebuild, (type(self), self.problem, self.details)


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}... ({len(text):,} characters)"


def _rebuild(kind: type[UserError], problem: str, details: dict[str, str]) -> UserError:
    return kind(problem, **details)


class ConfigError(UserError):
    """A setting or a command line cannot be used."""

    category = "config"
    exit_code = 2


class NotThereError(ConfigError):
    """A path that this machine does not see; another one may."""


class FolderInUseError(ConfigError):
    """Another process works on a folder that only one may work on."""


class DataError(UserError):
    """Input files or shards cannot be used."""

    category = "data"
    exit_code = 3


class DivergedError(UserError):
    """Training produced a loss that is not finite."""

    category = "diverged"
    exit_code = 4


class MemoryExhaustedError(UserError):
    """A step does not fit into the memory of a device or process."""

    category = "memory"


class DiskFullError(UserError):
    """The run folder cannot take any more."""

    category = "disk"


class SupersededError(UserError):
    """Another launch has taken the run folder over; this one must not write any more."""

    category = "superseded"
    exit_code = 2


class AbsentRanksError(UserError):
    """The other ranks of a launch did not come to where they were to meet."""


class StoppedError(Exception):
    """Training was asked to stop, saved its work and left; `by_user` tells Ctrl-C from a scheduler's signal."""

    shown_elsewhere = False
    """As in `UserError`."""

    def __init__(self, step: int, *, by_user: bool) -> None:
        self.step = step
        self.by_user = by_user
        super().__init__(f"stopped at step {step}; run the same command again to resume")
