"""A torchrun agent that forks its ranks instead of starting an interpreter for each: four CPU seconds less a launch.

Imported by the `sitecustomize` of a test's command, it acts in a process that runs our agent. A rank is the agent's
child as ever, with a session, signals, open files, modules of ours, `sitecustomize` and command line as in a new
interpreter; only the libraries are there already. `test_train_kills` and the tests of clusters and docs start their
ranks without it, and in a soak all do.
"""

import atexit
import ctypes
import gc
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

AGENT, RANK = "jobs.training.torchrun_agent", "jobs.train"
OURS = ("jobs", "musicvae", "preprocess", "cluster", "sitecustomize")
LIBRARIES = (
    *("numpy", "torch", "torch.distributed", "torch.nn.parallel", "safetensors.torch"),
    *("pydantic", "rich.console", "typer", "yaml", "jaxtyping", "webdataset"),
)
START_SECONDS = 1.5
"""The launcher looks twice a second whether a restart can help, and interpreters take longer to start than that."""


class ForkingPopen(subprocess.Popen):
    """`Popen` of an agent: `python -m jobs.train` becomes a fork."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        words = [str(word) for word in args] if isinstance(args, (list, tuple)) else []
        if RANK not in words or words[words.index(RANK) - 1] != "-m":
            super()._execute_child(args, *rest)
            return
        _, _, _, _, _, environment = rest[:6]
        for name in LIBRARIES:
            import_module(name)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()
        # As with a real `Popen`, a signal reaches the agent or a rank, not what is between them, and a rank has its
        # session when this returns.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ready, start = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become_rank(words, environment, blocked)
        os.close(start)
        os.read(ready, 1)
        os.close(ready)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self._child_created = True


def _become_rank(words: Sequence[str], environment: dict[str, str], blocked: set[int]) -> NoReturn:
    status: Any = 1
    try:
        _forget_the_agent(words, environment)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if int(environment.get("TORCHELASTIC_RESTART_COUNT", 0)):
            time.sleep(START_SECONDS)
        module = words.index(RANK)
        sys.argv = list(words[module:])
        if site := _site(environment):
            runpy.run_path(str(site))
        if not sys.flags.safe_path:
            sys.path[0] = str(Path.cwd())
        runpy.run_module(RANK, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _forget_the_agent(words: Sequence[str], environment: dict[str, str]) -> None:
    os.setsid()
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) and number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)
    atexit._clear()
    subprocess.Popen = ForkingPopen.__base__
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.orig_argv[:] = words
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr] - a text file, which `-u` leaves unbuffered
    _show_as(words)


def _show_as(words: Sequence[str]) -> None:
    """Writes a command line over the agent's, which is longer, where /proc shows it."""
    start, end = map(int, Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[45:47])
    line = b"\0".join(word.encode() for word in words) + b"\0"
    assert len(line) <= end - start, "a rank's command line is the end of its agent's"
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def _site(environment: dict[str, str]) -> Path | None:
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    files = (Path(folder) / "sitecustomize.py" for folder in folders if folder)
    return next((file for file in files if file.exists()), None)


if sys.orig_argv[1:3] == ["-m", AGENT]:
    subprocess.Popen = ForkingPopen
