"""What tests ask of the processes below a process."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from cluster.local import descendants as descendants
from cluster.local import signal_tree


def command_of(pid: int) -> str:
    """What a process calls itself; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def processes_with(text: str) -> list[int]:
    """Processes of this machine, beside this one, whose command line or environment holds a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            told = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            if text.encode() in told and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def kill_tree(pid: int) -> None:
    """Kills a process and all below it."""
    signal_tree(pid, signal.SIGKILL)
