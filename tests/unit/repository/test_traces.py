"""A test that leaves its process changed fails, and is named; importing the packages changes nothing."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.commands import CHECKOUT

LEAKS = """
import os, signal, subprocess, sys, threading, time
from tests.support.layers import traces

import pytest

traces.GRACE_SECONDS = 0.5

def sleeps():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(4)"])

@pytest.fixture(scope="module")
def server():
    os.environ["SERVED"] = "yes"
    process = sleeps()
    yield process
    process.kill()
    process.wait()
    del os.environ["SERVED"]

def test_environment():
    os.environ["LEFT"] = "behind"

def test_after_it():
    assert os.environ["LEFT"] == "behind"

def test_folder(tmp_path):
    os.chdir(tmp_path)

def test_handler():
    signal.signal(signal.SIGUSR1, lambda *_: None)

def test_thread():
    threading.Thread(target=time.sleep, args=[4], daemon=True, name="sleeper").start()

def test_thread_that_ends():
    threading.Thread(target=time.sleep, args=[0.1]).start()

def test_process():
    test_process.own = sleeps()

def test_fails_and_leaves():
    os.environ["ALSO"] = "left"
    raise ValueError

def test_with_a_server(server):
    assert os.environ["SERVED"] == "yes"

def test_with_it_again(server):
    assert server.poll() is None

def test_monkeypatch(monkeypatch, tmp_path):
    monkeypatch.setenv("FOR", "now")
    monkeypatch.chdir(tmp_path)

def test_orphan():
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)'])"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_last():
    pass
"""
CARELESS = """
import os, pytest

@pytest.fixture(scope="module")
def careless():
    os.environ["CARELESS"] = "yes"

def test_careless(careless):
    pass
"""
IMPORTS = """
import importlib, json, sys
from pathlib import Path

import ray  # which sets RAY_CLIENT_MODE

from tests.support.layers.traces import changes, traces

before, left = traces(), []
for package in ("musicvae", "preprocess", "cluster", "jobs"):
    for path in sorted(Path(package).rglob("*.py")):
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        importlib.import_module(name)
        after = traces()
        left += [[name, str(change), str(values)] for change, values in changes(before, after).items()]
        before = after
print(json.dumps([len(sys.modules), left]))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of tests that leave something."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "test_leaks.py").write_text(LEAKS)
    (folder / "test_with_fixture.py").write_text(CARELESS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.support.layers.traces",
        "-p",
        "no:cacheprovider",
        "-rA",
        "-c",
        os.devnull,
    ]
    result = subprocess.run([*command, "--rootdir", folder, folder], cwd=CHECKOUT, capture_output=True, text=True)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("test", "left"),
    [
        ("environment", "leaves variable LEFT = 'behind' (before: None)"),
        ("folder", "leaves working folder = "),
        ("handler", "leaves handler of signal 10 = "),
        ("thread", "leaves thread sleeper"),
        ("process", "leaves process "),
    ],
)
def test_a_test_that_leaves_something_fails_by_name(said: str, test: str, left: str):
    assert f"test_leaks.py::test_{test} {left}" in said


def test_others_are_not_blamed(said: str):
    errors = [line.split("::test_")[1].split()[0] for line in said.splitlines() if line.startswith("ERROR ")]
    assert errors == ["environment", "folder", "handler", "thread", "process", "fails_and_leaves", "last", "careless"]
    assert "1 failed, 13 passed, 8 errors" in said


def test_a_failed_test_is_told_as_that(said: str):
    assert "test_fails_and_leaves leaves variable ALSO = 'left'" in said


def test_processes_without_a_parent_are_found_at_the_end_of_the_file(said: str):
    # Under CI pytest repeats whole messages in its summary.
    line, *_ = [line for line in said.splitlines() if "test_last leaves" in line and "time.sleep(5)" in line]
    assert "of test_leaks.py::test_orphan (call)" in line


def test_a_fixture_of_a_file_that_leaves_something_is_named(said: str):
    assert "fixture careless leaves variable CARELESS = 'yes' (before: None)" in said


def test_importing_a_module_changes_nothing():
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOMP_")}
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=CHECKOUT, env=clean, capture_output=True, text=True, check=True
    )
    loaded, left = json.loads(result.stdout.splitlines()[-1])
    assert left == []
    assert loaded > 1000
