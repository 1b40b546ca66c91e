"""Runs command lines on this machine."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

TORCHRUN_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"
"""Without SIGUSR2 in its list the torchrun agent dies of it and leaves its workers running."""


def python_module(module: str, *arguments: object) -> list[str]:
    """The argv of `python -m module arguments` with this very interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def torchrun_module(module: str, *arguments: object, ranks: int) -> list[str]:
    """The argv that runs a module on several ranks of this machine, at a free port."""
    return python_module(
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        ranks,
        "--signals-to-handle",
        TORCHRUN_SIGNALS,
        "-m",
        module,
        "--",  # or torchrun takes options that begin like its own for abbreviations of them
        *arguments,
    )


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
