"""What tests ask of the processes below a process."""

import ipaddress
import os
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cluster.local import descendants as descendants
from cluster.local import signal_tree

LISTEN = "0A"
"""State of a socket in /proc/net/tcp."""


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


def hosts_listened_on(pids: Iterable[int]) -> set[str]:
    """The addresses of this machine on which processes wait for connections."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            sockets |= {str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir()}
    hosts = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode = line.split()[:10]
            if state == LISTEN and f"socket:[{inode}]" in sockets:
                hosts.add(_host(local.partition(":")[0]))
    return hosts


def _host(text: str) -> str:
    """An address as the kernel prints it: words of 32 bits in the order of this machine."""
    words = [int(text[place : place + 8], 16) for place in range(0, len(text), 8)]
    address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return str(getattr(address, "ipv4_mapped", None) or address)
