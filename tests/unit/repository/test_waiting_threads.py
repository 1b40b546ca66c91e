"""Threads of torch that wait for each other leave the core to others, unless the user has said how they shall wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import CHECKOUT
from tests.support.harm.interposed import interposed

SPINS, POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({SPINS: "7"}, "7"), ({POLICY: "active"}, "")],
    ids=["nothing said", "a count", "a policy"],
)
def test_threads_of_a_command_spin_a_short_while_only(tmp_path: Path, given: dict[str, str], spins: str):
    others = {name: value for name, value in os.environ.items() if name not in (SPINS, POLICY)}
    # What a library sees that is loaded when the command has begun, which is not Python's copy of it.
    seen = "import atexit, ctypes; getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p"
    code = f"{seen}; atexit.register(lambda: print('spins:', (getenv(b'{SPINS}') or b'').decode()))"
    told = subprocess.run(
        [sys.executable, "-m", "jobs"],
        cwd=CHECKOUT,
        env=others | given | interposed(tmp_path / "hook", code),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1].removeprefix("spins:").strip() == spins
