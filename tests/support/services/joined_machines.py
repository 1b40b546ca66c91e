"""Machines with names and addresses of their own that a network joins, all of them on this one; any cable can be cut.

Each is a network namespace with a cable (a pair of virtual Ethernet devices) to a switch; all see the same files.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.requirements import skip_or_fail

HOSTS = Path("/etc/netns")
"""`ip netns exec` shows what lies here under the name of a namespace in place of the file in /etc."""
AS_ITSELF = 'hostname "$1"; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class JoinedMachines:
    """Some machines by name.

    Attributes:
        addresses: of each.
    """

    addresses: dict[str, str]

    def command(self, name: str, command: Sequence[str]) -> list[str]:
        """The argv that runs another one on a machine."""
        return [*_in(_namespace(name)), "unshare", "--uts", "sh", "-c", AS_ITSELF, "sh", name, *command]

    def cut(self, name: str) -> None:
        """Pulls a machine's cable out of the switch."""
        _run(*_in(_namespace("switch")), "ip", "link", "set", "dev", name, "down")

    def mend(self, name: str) -> None:
        """Plugs it in again."""
        _run(*_in(_namespace("switch")), "ip", "link", "set", "dev", name, "up")


@contextmanager
def joined_machines(*names: str) -> Iterator[JoinedMachines]:
    """Machines that can reach each other; skips where the kernel or a container allows no namespaces."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        skip_or_fail("network namespaces need root, and `ip` of the package iproute2")
    addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    switch = _in(_namespace("switch"))
    try:
        made = subprocess.run(["ip", "netns", "add", _namespace("switch")], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"no network namespaces: {made.stderr.strip()}")
        _run(*switch, "ip", "link", "add", "name", "bridge", "up", "type", "bridge")
        for name, address in addresses.items():
            space = _namespace(name)
            (HOSTS / space).mkdir(parents=True)
            (HOSTS / space / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}", encoding="utf-8")
            _run("ip", "netns", "add", space)
            cable = ["ip", "link", "add", "name", name, "up", "master", "bridge", "type", "veth"]
            _run(*switch, *cable, "peer", "name", "eth0", "netns", space)
            _run(*_in(space), "ip", "link", "set", "lo", "up")
            _run(*_in(space), "ip", "address", "add", f"{address}/24", "dev", "eth0")
            _run(*_in(space), "ip", "link", "set", "eth0", "up")
        yield JoinedMachines(addresses)
    finally:
        for name in ("switch", *names):
            subprocess.run(["ip", "netns", "delete", _namespace(name)], stderr=subprocess.DEVNULL)
            shutil.rmtree(HOSTS / _namespace(name), ignore_errors=True)


def _namespace(name: str) -> str:
    return f"grooves-{os.getpid()}-{name}"


def _in(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
