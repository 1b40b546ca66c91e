"""What tests ask of the processes below a process."""

import ipaddress
import os
import signal
import struct
import time
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


def fork_server_of(driver: int) -> int | None:
    """The process whose forks work for another; None where there is none."""
    return next((pid for pid in descendants(driver) if "multiprocessing.forkserver" in command_of(pid)), None)


def workers_of(driver: int) -> list[int]:
    """The processes that multiprocessing has started for another."""
    server = fork_server_of(driver)
    spawned = [pid for pid in descendants(driver) if "spawn_main" in command_of(pid)]
    return [*spawned, *(descendants(server) if server else [])]


def wait_for_end(pids: Iterable[int], seconds: float = 20) -> None:
    """Until none of some processes is left; a process that nobody has waited for has ended."""
    deadline = time.monotonic() + seconds
    while left := [command for command in map(command_of, pids) if command]:
        assert time.monotonic() < deadline, f"still there after {seconds} s: {left}"
        time.sleep(0.01)


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
