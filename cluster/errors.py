"""`TargetError`, which the user can cure, and the exit codes of every command. Scripts may rely on exit codes."""

from enum import IntEnum


class ExitCode(IntEnum):
    """One row a meaning. 75 is EX_TEMPFAIL of sysexits.h, 130 is 128 + SIGINT as shells report it."""

    SUCCESS = 0
    UNEXPECTED = 1
    """A bug or a broken machine; a traceback says where."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    DATA = 3
    """Nothing kept, too many rejections, damaged shards."""
    DIVERGED = 4
    """The loss is no longer finite."""
    PREEMPTED = 75
    """Work was saved; run the same command again."""
    INTERRUPTED = 130
    """Ctrl-C; work was saved where the command saves."""


class TargetError(ValueError):
    """A job cannot be described, submitted, run or looked up as asked.

    Args:
        problem: one sentence that names the thing that is wrong.
        expected, found, likely, do: as of `musicvae.errors.UserError`, which the commands show it as.
        exit_code: what a command ends with that cannot go on.
    """

    def __init__(
        self,
        problem: str,
        *,
        expected: str = "",
        found: str = "",
        likely: str = "",
        do: str = "",
        exit_code: ExitCode = ExitCode.USAGE,
    ) -> None:
        self.problem = problem
        self.details = {"expected": expected, "found": found, "likely": likely, "do": do}
        self.exit_code = exit_code
        super().__init__(problem)
