"""`TargetError`, which the user can cure, and the exit codes of every command. Scripts may rely on exit codes."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The table of exit codes, with what each means. docs/README.md shows it.

    75 is EX_TEMPFAIL of sysexits.h, 130 and 141 are signals as shells report them.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    SUCCESS = 0, "success"
    UNEXPECTED = 1, "disk, memory, a killed process, or an error in the program with its traceback"
    USAGE = 2, "wrong command line or configuration"
    DATA = 3, "wrong input: no file can be used, damaged shards"
    DIVERGED = 4, "the loss is not finite"
    PREEMPTED = 75, "stopped by a signal or deadline: run the same command again"
    INTERRUPTED = 130, "stopped with Ctrl-C"
    LOST_READER = 141, "nobody reads the output any more (| head)"


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
