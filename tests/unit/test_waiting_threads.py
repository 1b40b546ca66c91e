"""Threads of torch that wait for each other leave the core to others, unless the user has said how they shall wait."""

import os
import subprocess
import sys

import pytest

from tests.commands import CHECKOUT

SPINS, POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({SPINS: "7"}, "7"), ({POLICY: "active"}, "")],
    ids=["nothing said", "a count", "a policy"],
)
def test_threads_spin_a_short_while_only(given: dict[str, str], spins: str):
    others = {name: value for name, value in os.environ.items() if name not in (SPINS, POLICY)}
    # What a library sees that is loaded from here on, which is not Python's copy of it.
    seen = "import ctypes, jobs; getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p"
    code = f"{seen}; print((getenv(b'{SPINS}') or b'').decode())"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=others | given, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == spins
