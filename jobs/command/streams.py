"""The standard streams of a command: closed, full, or read by nobody any more.

A command ends quietly where the reader of its output has gone (`| head`), as programs do. One that trains goes on: its
work does not depend on who looks on.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cluster.errors import ExitCode

STREAMS = (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w"))
GONE = (errno.EPIPE, errno.EIO)
"""What a pipe without a reader and a terminal that was hung up answer."""


class LostOutputError(BaseException):
    """stdout or stderr cannot be written. Like Ctrl-C it is no error of what is being done.

    Args:
        reason: what the system said.
    """

    def __init__(self, reason: OSError) -> None:
        self.reason = reason
        super().__init__(str(reason))


class _Output(io.FileIO):
    """The file handle of stdout or stderr."""

    unfailing = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if _Output.unfailing:
                return memoryview(data).nbytes
            raise LostOutputError(error) from None


def guard_streams() -> None:
    """Opens streams that were closed (`>&-`) to nothing, and has the others tell their errors from all others."""
    while (handle := os.open(os.devnull, os.O_RDWR)) in (0, 1, 2):
        os.set_inheritable(handle, True)
    os.close(handle)
    for name, handle, mode in STREAMS:
        stream = getattr(sys, name)
        if stream is None:
            _put(name, open(handle, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as the process
        elif handle and isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            output = io.TextIOWrapper(
                io.BufferedWriter(_Output(handle, "w", closefd=False)),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            _put(name, output)


def _put(name: str, stream: Any) -> None:
    setattr(sys, name, stream)
    _KEPT.append(getattr(sys, f"__{name}__"))
    setattr(sys, f"__{name}__", stream)


_KEPT: list[Any] = []
"""The streams as the interpreter made them: one that is collected closes its handle."""


def outlive_terminal() -> None:
    """From now on text that cannot be written, as nobody reads it or a disk is full, is lost and ends nothing."""
    _Output.unfailing = True
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError, ValueError):
                stream.reconfigure(line_buffering=True)


@contextmanager
def ending_quietly() -> Iterator[None]:
    """Runs a command in the block; ends the process where its reader has gone, or its output cannot be written."""
    guard_streams()
    code: Any = None
    try:
        try:
            yield
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
    except LostOutputError as lost:
        outlive_terminal()
        is_read = lost.reason.errno not in GONE
        if is_read:
            print(f"error: cannot write to standard output: {lost.reason.strerror}", file=sys.stderr)
        code = code or (ExitCode.UNEXPECTED if is_read else ExitCode.LOST_READER)
    outlive_terminal()  # the interpreter writes what is left as it ends
    sys.exit(code)
