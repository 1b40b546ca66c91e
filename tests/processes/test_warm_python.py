"""Commands that are forked from a warm interpreter are like those that are started."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import CHECKOUT
from tests.support.processes.warm_python import run_module, shell_variables, starts_alike

PROGRAM = """
import atexit, json, os, sys, threading
seen = os.getcwd(), os.environ["MARK"], sys.stdin.read(), "jobs" in sys.modules
print(json.dumps([__name__, sys.argv[1:], *seen]))
print("said", file=sys.stderr)
atexit.register(print, "at the end")
threading.Timer(0.2, print, ["a thread"]).start()
{last}
"""


@pytest.mark.parametrize(
    ("last", "status"),
    [("", 0), ("sys.exit(75)", 75), ("sys.exit('told')", 1), ("1 / 0", 1), ("os.kill(os.getpid(), 9)", -9)],
)
def test_output_status_and_surroundings_are_those_of_a_new_process(tmp_path: Path, last: str, status: int):
    environment = {**os.environ, "MARK": "here"}
    (tmp_path / "program.py").write_text(PROGRAM.format(last=last))
    command = [sys.executable, "-m", "program", "a", "b c"]
    new = subprocess.run(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    warm = run_module("program", ["a", "b c"], folder=tmp_path, environment=environment, timeout=60)
    assert (warm.args, warm.returncode) == (command, new.returncode)
    assert new.returncode == status
    assert warm.stdout == new.stdout
    assert warm.stderr.splitlines()[:1] == new.stderr.splitlines()[:1]
    assert warm.stderr.splitlines()[-1] == new.stderr.splitlines()[-1]
    if status >= 0:
        assert json.loads(warm.stdout.splitlines()[0]) == ["__main__", ["a", "b c"], str(tmp_path), "here", "", False]


def test_what_takes_too_long_is_killed(tmp_path):
    (tmp_path / "program.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run_module("program", [], folder=tmp_path, environment={}, timeout=5)
    assert late.value.stdout == "begun\n"


def test_another_python_path_wants_a_new_process():
    assert starts_alike(os.environ)
    assert starts_alike({**os.environ, "ANYTHING": "else"})
    assert not starts_alike({**os.environ, "PYTHONPATH": "/elsewhere"})


def test_a_shell_reaches_it_through_what_stands_in_for_python(tmp_path):
    client = [sys.executable, "-I", "-S", CHECKOUT / "tests" / "support" / "processes" / "warm_client.py"]

    def shown(command: list, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **variables}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    refused = ["-m", "jobs.show", "nowhere"]
    warm, new = shown([*client, *refused], **shell_variables()), shown([sys.executable, *refused])
    assert (warm.returncode, warm.stderr) == (new.returncode, new.stderr)
    assert new.returncode == 2
    assert "ConnectionRefusedError" in shown([*client, *refused], WARM_PYTHON="nobody").stderr, "the server was asked"
    assert shown([*client, "-c", "print(6 * 7)"]).stdout == "42\n", "anything else is a new interpreter's"
