"""Runs command lines on this machine."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def python_module(module: str, *arguments: object) -> list[str]:
    """The argv of `python -m module arguments` with this very interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Runs a command to its end, its output on ours, and gives its exit status.

    Ctrl-C reaches the command by itself, as one of the terminal's foreground processes; it is waited for.
    """
    process = subprocess.Popen(argv, env={**os.environ, **(environment or {})})
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def start_guarded(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    when_orphaned: signal.Signals,
    folder: Path | None = None,
    output: int | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a command in a session of its own, which a terminal's Ctrl-C does not reach: the caller hands signals on.

    On Linux it gets a signal when the caller dies, be it of SIGKILL; elsewhere it lives on.

    Args:
        folder: where it works; ours if not given.
        output: a file handle or subprocess.PIPE for what it says; ours if not given.
    """
    return subprocess.Popen(
        argv,
        env={**os.environ, **environment},
        start_new_session=True,
        cwd=folder,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        preexec_fn=_signal_when_parent_dies(when_orphaned) if sys.platform == "linux" else None,
    )


def _signal_when_parent_dies(number: signal.Signals) -> Callable[[], None]:
    library = ctypes.CDLL(None)  # loaded here: between fork and exec little is allowed
    parent = os.getpid()

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)

    return prepare
