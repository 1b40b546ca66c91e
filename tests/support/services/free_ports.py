"""Ports that no other process of tests is about to take."""

import os
import socket
from contextlib import suppress
from itertools import count

HOST = "127.0.0.1"
FIRST_PORT, PORTS_OF_A_RANGE, RANGES = 6400, 320, 8
"""Below 10002, where the ports of Ray's workers begin, and below those that the system hands out itself."""
STEP = 7
_turns = count(os.getpid())


def free_ports(number: int) -> list[int]:
    """Ports that are free now.

    A port that is only looked at is still free for others. So each process of tests looks in a range of its own, and
    begins where it has not looked lately; two runs of all tests on one machine begin apart.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + process % RANGES * PORTS_OF_A_RANGE
    found: list[int] = []
    for _ in range(PORTS_OF_A_RANGE):
        port = first + next(_turns) * STEP % PORTS_OF_A_RANGE
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == number:
            return found
    raise RuntimeError(f"no {number} free ports from {first} on")
