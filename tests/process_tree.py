"""What tests ask of the processes below a process."""

import signal
from pathlib import Path

from cluster.process_tree import descendants as descendants
from cluster.process_tree import signal_tree


def command_of(pid: int) -> str:
    """What a process calls itself; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def kill_tree(pid: int) -> None:
    """Kills a process and all below it."""
    signal_tree(pid, signal.SIGKILL)
