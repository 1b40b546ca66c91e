"""A layer of tests that runs past its share of the time ends, and says which tests it was in.

    pytest -p tests.support.layers.layer_limit --layer-seconds 600

pytest-timeout bounds each test; this bounds their sum, and a test that hangs where no signal reaches it.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.processes.process_tree import command_of, descendants

WORKER = "exec(eval(sys.stdin.readline())) "
"""How the command line of a process of pytest-xdist ends."""
GRACE_SECONDS = 60.0
"""From the first request to stop, which lets fixtures clean up, to the end of the process."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--layer-seconds", type=float, help="end the run after this time, with the stacks of its tests")


def pytest_configure(config: pytest.Config) -> None:
    faulthandler.register(signal.SIGUSR1, file=os.dup(2), all_threads=True)
    seconds = config.getoption("--layer-seconds")
    if seconds and not hasattr(config, "workerinput"):
        config.pluginmanager.register(LayerLimit(config, seconds), "layer-limit")


class LayerLimit:
    """Watches the tests of all processes from the one that started them."""

    def __init__(self, config: pytest.Config, seconds: float) -> None:
        self.config = config
        self.seconds = seconds
        self.running: dict[str, tuple[tuple[str, int | None, str], float]] = {}

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.running[nodeid] = location, time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.running.pop(nodeid, None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Iterator[None]:
        over = threading.Event()
        threading.Thread(target=self._watch, args=[over], daemon=True).start()
        try:
            return (yield)
        finally:
            over.set()

    def _watch(self, over: threading.Event) -> None:
        if over.wait(self.seconds):
            return
        print(f"\nthe layer ran past its {self.seconds:.0f} s", file=sys.__stderr__, flush=True)
        workers = [pid for pid in descendants(os.getpid()) if command_of(pid).endswith(WORKER)]
        for process in filter(_shows_stacks, workers or [os.getpid()]):
            os.kill(process, signal.SIGUSR1)
        for nodeid, (location, since) in list(self.running.items()):
            text = f"its layer ran past {self.seconds:.0f} s, {time.monotonic() - since:.0f} s after this test began"
            report = pytest.TestReport(nodeid, location, {}, "failed", text, "call")
            self.config.hook.pytest_runtest_logreport(report=report)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE_SECONDS)  # this thread is gone by then, unless the end hangs too, as on a process just begun
        print("the tests do not stop: all their processes are killed", file=sys.__stderr__, flush=True)
        for process in (*descendants(os.getpid()), os.getpid()):
            os.kill(process, signal.SIGKILL)


def _shows_stacks(pid: int) -> bool:
    """Whether a process has come so far that SIGUSR1 prints its stacks, and does not end it."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGUSR1 - 1) & 1)
    return False
