"""Errors that a user can cure. Each says what was expected, what came, the likely cause and what to do."""


class UserError(ValueError):
    """A problem outside the code.

    Args:
        problem: one sentence that names the thing that is wrong.
        expected: what would have been right.
        found: what came instead, with its numbers.
        likely: the likely cause.
        do: what cures it.
    """

    shown_elsewhere = False
    """Set on the ranks that only repeat what rank 0 says, so that a user reads it once."""

    def __init__(self, problem: str, *, expected: str = "", found: str = "", likely: str = "", do: str = "") -> None:
        self.problem = problem
        self.details = {"expected": expected, "found": found, "likely": likely, "do": do}
        rows = [f"  {name:<9} {text}" for name, text in self.details.items() if text]
        super().__init__("\n".join([problem, *rows]))

    def __reduce__(self):
        """Keeps the parts when the error crosses from a worker process."""
        return _rebuild, (type(self), self.problem, self.details)


def _rebuild(kind: type[UserError], problem: str, details: dict[str, str]) -> UserError:
    return kind(problem, **details)


class ConfigError(UserError):
    """A setting or a command line cannot be used."""


class FolderInUseError(ConfigError):
    """Another process works on a folder that only one may work on."""


class DataError(UserError):
    """Input files or shards cannot be used."""


class DivergedError(UserError):
    """Training produced a loss that is not finite."""


class MemoryExhaustedError(UserError):
    """A step does not fit into the memory of a device or process."""


class DiskFullError(UserError):
    """The run folder cannot take any more."""


class SupersededError(UserError):
    """Another launch has taken the run folder over; this one must not write any more."""


class StoppedError(Exception):
    """Training was asked to stop, saved its work and left; `by_user` tells Ctrl-C from a scheduler's signal."""

    shown_elsewhere = False
    """As in `UserError`."""

    def __init__(self, step: int, *, by_user: bool) -> None:
        self.step = step
        self.by_user = by_user
        super().__init__(f"stopped at step {step}; the same command continues from there")
