"""What the exit status of every command means; a scheduler script may rely on it."""

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
