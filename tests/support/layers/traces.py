"""Fails a test that leaves its process changed: environment, working folder, signal handlers, threads, processes.

What a fixture of a file or of the session starts may stay until the fixture ends. At the end of each file no process
may be left that any of its tests started, also not one that has lost its parent.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

GRACE_SECONDS = 15.0
"""For threads and processes that were told to end."""
LOOK_SECONDS = 0.02
MARK = "TESTS_STARTED_BY"
"""A variable that all processes inherit from the process of the tests: its number, after those that it runs under."""
CURRENT = "PYTEST_CURRENT_TEST"
"""pytest names the running test in it, and processes that the test starts inherit it."""
SHARED_PROCESSES = (
    *("tests.support.processes.warm_python", "preprocess.sandbox_child"),
    *("multiprocessing.resource_tracker", "multiprocessing.forkserver"),
    *("slurmd -D", "slurmctld -D"),
)
"""Parts of the command lines of helpers that a process starts once, for all tests; and of a SLURM node or controller,
which a test may start again and the fixture of its cluster ends."""
SHARED_THREADS = ("fsspecIO", "asyncio_")
"""Beginnings of the names of threads that a library starts once: fsspec's event loop, and those that work for it."""
SHARED_VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "SYMUSIC_ABC2MIDI", "SYMUSIC_MIDI2ABC")
"""torch's compiler and symusic set them as they are loaded, to what they would take without them."""
OF_PYTEST = (signal.SIGALRM,)
"""pytest-timeout handles it during each test."""

Trace = tuple[str, object]
"""A kind and what of it: a variable, a signal, a thread, a process."""


def traces() -> dict[Trace, object]:
    """All that a test could leave changed."""
    found: dict[Trace, object] = {
        ("variable", name): value
        for name, value in os.environ.items()
        if name not in (CURRENT, MARK, *SHARED_VARIABLES)
    }
    found["working folder", ""] = _working_folder()
    handled = signal.valid_signals() - set(OF_PYTEST)
    found.update((("handler of signal", int(number)), signal.getsignal(number)) for number in handled)
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith(SHARED_THREADS)]
    found.update((("thread", thread.ident), thread.name) for thread in threads)
    found.update((("process", pid), True) for pid in _children())
    return found


def changes(before: Mapping[Trace, object], after: Mapping[Trace, object]) -> dict[Trace, tuple[Any, Any]]:
    """What differs, with both values; shared helpers are left out."""
    if before == after:
        return {}
    names = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return {
        name: (before.get(name), after.get(name))
        for name in names
        if name[0] != "process" or (name in after and not _is_shared(_words(name[1])))
    }


class Traces:
    """Compares the process before and after each test, fixture of several tests, and import of a test file."""

    def __init__(self) -> None:
        self.expected = traces()
        self.unknown_processes: set[int] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        report = yield
        if isinstance(collector, pytest.Module) and (left := self._left()) and report.passed:
            report.outcome, report.longrepr = "failed", f"importing {collector.nodeid} leaves {left}"
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        before, held = traces(), {}
        # Added before what the fixture adds itself, and so called after it.
        fixturedef.addfinalizer(partial(self._let_go, f"fixture {fixturedef.argname}", held))
        try:
            return (yield)
        finally:
            held.update(changes(before, traces()))
            self._expect({name: after for name, (_, after) in held.items()})

    def _let_go(self, fixture: str, held: Mapping[Trace, tuple[Any, Any]]) -> None:
        self._expect({name: before for name, (before, _) in held.items()})
        if left := self._left(held.keys()):
            pytest.fail(f"{fixture} leaves {left}", pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        try:
            result = yield
        except BaseException:
            self._left()  # or the next test would be blamed
            raise
        left = [self._left()]
        if nextitem is None or nextitem.path != item.path:
            left.append(self._left_behind())
        if said := "; ".join(filter(None, left)):
            pytest.fail(f"{item.nodeid} leaves {said}", pytrace=False)
        return result

    def _left(self, of: "Mapping[Trace, Any] | Any" = None) -> str:
        """What differs from what is expected, in words, once; empty if nothing does."""

        def left() -> dict[Trace, tuple[Any, Any]]:
            found = changes(self.expected, traces())
            return found if of is None else {name: both for name, both in found.items() if name in of}

        found = _after_grace(left, lambda found: any(kind in ("thread", "process") for kind, _ in found))
        self._expect({name: after for name, (_, after) in found.items()})
        return ", ".join(_words_of(name, *both) for name, both in sorted(found.items(), key=str))

    def _left_behind(self) -> str:
        """The processes that outlive a test file, in words, each once."""
        found = _after_grace(lambda: _marked() - self.unknown_processes, bool)
        self.unknown_processes |= found
        return ", ".join(_words_of(("process", pid), None, True) for pid in sorted(found))

    def _expect(self, values: Mapping[Trace, object]) -> None:
        for name, value in values.items():
            if value is None and name[0] != "handler of signal":
                self.expected.pop(name, None)
            else:
                self.expected[name] = value


def pytest_configure(config: pytest.Config) -> None:
    os.environ[MARK] = f"{os.environ.get(MARK, '')}/{os.getpid()}"
    config.pluginmanager.register(Traces(), "traces")


def _after_grace(look: Callable[[], Any], may_end: Callable[[Any], bool]) -> Any:
    """What a look finds, if need be after threads and processes had time to end."""
    deadline = time.monotonic() + GRACE_SECONDS
    while may_end(found := look()) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return found


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "a folder that is gone"


def _children() -> list[int]:
    """The child processes of all threads of this process, as Linux lists them; other systems tell nothing."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found += [int(pid) for pid in path.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return found


def _marked() -> set[int]:
    """The processes, but for this one and shared helpers, that this process or a child of it started."""
    own, found = os.getpid(), set()
    for pid in (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()):
        if pid != own and str(own) in _variable(pid, MARK).split("/") and not _is_shared(_words(pid)):
            found.add(pid)
    return found


def _variable(pid: object, name: str) -> str:
    """A variable that a process was started with; empty if there is none."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    start = f"{name}=".encode()
    return next((one for one in variables if one.startswith(start)), start)[len(start) :].decode(errors="replace")


def _words(pid: object) -> str:
    """A process's command line; its name in brackets where it has ended and nobody has asked for its status."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        return words or f"[{Path(f'/proc/{pid}/comm').read_text(encoding='utf-8').strip()}]"
    except OSError:
        return "[ended]"


def _is_shared(words: str) -> bool:
    return any(part in words for part in SHARED_PROCESSES)


def _words_of(name: Trace, before: object, after: object) -> str:
    kind, what = name
    match kind:
        case "process":
            of = f" of {test}" if (test := _variable(what, CURRENT)) else ""
            return f"process {what}{of}: {_words(what)[:300]}"
        case "thread":
            return f"thread {after}" if before is None else f"no thread {before}"
        case _:
            return f"{kind} {what}".rstrip() + f" = {after!r} (before: {before!r})"
