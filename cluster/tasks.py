"""Runs many small tasks with a bounded number in flight: in this process, in several, or on Ray.

The only file that starts Ray. The code that its nodes get is handed in, as this package knows nothing of it.
"""

import logging
import os
import pickle
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from cluster.code import CHECKOUT, JOB_CONFIG, Look, Message
from cluster.errors import ExitCode, TargetError
from cluster.local import usable_cpus
from cluster.ray_jobs import resolve_ray_address
from cluster.ray_session import NODES_SECONDS, RaySession, attach
from cluster.torchrun import ON_LOOPBACK

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Where = Literal["here", "processes", "ray"]

TASKS_PER_SLOT = 2
"""One runs and one waits, so that a worker never idles while its answer travels; more would only cost memory."""
OBJECT_STORE_BYTES = 100_000_000
"""Tasks exchange names and counts through Ray, so the smallest comfortable store will do."""
LOST_RETRIES = 10
"""Of a task whose process or node was lost. No file does that, since each is converted in a sandbox."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
LONGEST_PARENT = 18
"""In bytes. The paths of Ray's sockets are up to 89 bytes longer and may have 107."""
RAYS_OWN = "r"
"""Ray's temporary folder, within the folder that is closed to others."""
OWNER = "GROOVES_RAY_FOLDER"
"""The variable by which all processes of one Ray know its folder, and the guard of the folder knows them."""
ROUNDS, ROUND_SECONDS = 100, 0.1
"""Of the guard, which looks again for what a dying process has started."""


class TaskRunner(Protocol):
    """Where tasks run. A task may run more than once, if the process or node that runs it is lost."""

    def __call__(
        self, function: Callable[[Task], Answer], tasks: Sequence[Task], *, look: Look | None = None
    ) -> Iterator[tuple[int, Answer]]:
        """Runs a function over tasks; answers come with the number of their task, in any order.

        Args:
            look: called on each node of a cluster, and once in each process there; a node on which something is wrong
                gets no tasks.

        Raises:
            TargetError: no node is left, a task cannot be finished, or the cluster has ended.
        """
        ...


@contextmanager
def task_runner(
    where: Where,
    workers: int | None = None,
    *,
    ray_address: str | None = None,
    code: Mapping[str, Any],
    packages: Sequence[str] = (),
) -> Iterator[TaskRunner]:
    """A runner in this process, in processes of this machine, or on Ray.

    Args:
        workers: most tasks at a time; if not given, the CPUs of the cluster, as it grows or shrinks, or those that this
            process may use. One in this process.
        ray_address: HOST:PORT of a cluster whose nodes see the same files under the same paths; a Ray of this process's
            own if not given.
        code: the runtime environment that brings the code of the tasks to a cluster.
        packages: distributions that have to be the same on all nodes of a cluster.

    Raises:
        TargetError: no cluster answers at the address.
    """
    match where:
        case "here":
            yield _HereRunner()
        case "processes":
            yield _ProcessRunner(workers or usable_cpus())
        case "ray":
            with ray_session(ray_address, cpus=workers, code=code) as session:
                yield _RayRunner(session, workers, packages)


@contextmanager
def ray_session(address: str | None, *, cpus: int | None, code: Mapping[str, Any]) -> Iterator[RaySession]:
    """Connects this process to the cluster at an address, or to a Ray of its own, until the block ends.

    A Ray of our own answers only on this machine, and only those who can read its token: this user's processes.

    Args:
        address: HOST:PORT of a cluster whose nodes see the same files under the same paths.
        cpus: how many a Ray of our own offers; those that this process may use if not given.
        code: the runtime environment that brings our code to a cluster.

    Raises:
        TargetError: no cluster answers at the address, or a Ray of our own has no folder.
    """
    address = resolve_ray_address(address) if address else None
    before = dict(os.environ)
    with nullcontext() if address else ray_folder("ray-") as folder:
        # Ray reads these once, when it is imported: no reports home, no warnings about GPUs that are not asked for.
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if folder:
            for name in ("RAY_AUTH_TOKEN", JOB_CONFIG):  # goes before the file; names code that another Ray has
                os.environ.pop(name, None)
            os.environ.update(ON_LOOPBACK, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(_write_token(folder)))
            os.environ[OWNER] = str(folder)
        import ray

        terminate, stopped = signal.getsignal(signal.SIGTERM), False
        session = RaySession(address)
        try:
            try:
                _forget_tokens()
                if address:
                    attach(address, code)
                elif folder:
                    _start(folder, cpus or usable_cpus())
            except SystemExit as end:
                if end.code != signal.SIGTERM:
                    raise
                stopped = True  # Ray's own answer
            finally:
                # What Ray sets (its debugger for `breakpoint()` among it) is its own: our children would inherit it.
                _set_back(before)
                # Ray takes SIGTERM for itself, to leave at once or to print stacks and abort.
                signal.signal(signal.SIGTERM, terminate)
            if stopped:
                os.kill(os.getpid(), signal.SIGTERM)
                do = "run the same command again"
                raise TargetError("stopped while Ray started", do=do, exit_code=ExitCode.PREEMPTED)
            with session.watching_head():
                yield session
        finally:
            if not session.lost:
                ray.shutdown()  # a Ray that did not come up leaves processes too


def _start(folder: Path, cpus: int) -> None:
    import ray
    from ray._private import ray_constants, services

    clusters, popen = ray_constants.ENABLE_RAY_CLUSTER, services.ConsolePopen
    ray_constants.ENABLE_RAY_CLUSTER = False  # else Ray listens on the address of the host name, whatever it is given
    # What signals a whole group, as scancel and a terminal do, else ends Ray before its tasks have saved.
    services.ConsolePopen = partial(popen, start_new_session=True)
    try:
        # "local", so that a stray RAY_ADDRESS attaches nobody to a cluster that was not asked for.
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(folder / RAYS_OWN),
        )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER, services.ConsolePopen = clusters, popen


def _write_token(folder: Path) -> Path:
    path = folder / "token"
    path.touch(0o600)
    path.write_text(secrets.token_hex(32), encoding="utf-8")
    return path


def _forget_tokens() -> None:
    """Has Ray read anew from the environment whether there is a token, and which: it does so once for a process."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined] - compiled

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def ray_folder(prefix: str, environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """A folder for one Ray, which no other user can enter. Ray opens its own temporary folder to everybody.

    The folder and all processes that have it in `OWNER` end with the block, or with this process, however it ends: the
    agents of a Ray whose driver was killed as it started else wait minutes for their head.

    Raises:
        TargetError: it cannot be made.
    """
    parent = ray_parent(environment)
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise TargetError(
            "Ray has no folder for its sockets",
            expected=f"a writable folder {parent}",
            found=error.strerror or str(error),
            likely="a full disk, or a container without /tmp",
            do=f"set TMPDIR to a writable folder whose path has at most {LONGEST_PARENT} characters",
        ) from None
    guard = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import guard_folder; guard_folder({str(folder)!r})"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield folder
    finally:
        guard.communicate()


def guard_folder(folder: str) -> None:
    """Waits until whoever holds our standard input has ended; then ends the Ray of a folder, and removes the folder."""
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # srun and scancel signal every process; who holds our input answers
    sys.stdin.read()
    mark = f"{OWNER}={folder}\0".encode()
    for _ in range(ROUNDS):
        marked = [path.parent for path in Path("/proc").glob("[0-9]*/environ") if mark in _bytes_of(path)]
        for process in marked:
            with suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
        # A process that is still dying may write into the folder while it is removed.
        shutil.rmtree(folder, ignore_errors=True)
        if not marked and not Path(folder).exists():
            return
        time.sleep(ROUND_SECONDS)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


def ray_parent(environment: Mapping[str, str] = os.environ) -> Path:
    """Where Ray's folders are made: TMPDIR if it can be written to and its path is short enough, else /tmp."""
    folder = environment.get("TMPDIR", "")
    usable = Path(folder).is_absolute() and len(os.fsencode(folder)) <= LONGEST_PARENT and os.access(folder, os.W_OK)
    return Path(folder if usable else "/tmp")


def _set_back(before: Mapping[str, str]) -> None:
    """Sets the variables of this process to what they were."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


class _HereRunner:
    def __call__(
        self, function: Callable[[Task], Answer], tasks: Sequence[Task], *, look: Look | None = None
    ) -> Iterator[tuple[int, Answer]]:
        for number, task in enumerate(tasks):
            yield number, function(task)


class _ProcessRunner:
    """Processes of this machine, which end with this one however it ends."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __call__(
        self, function: Callable[[Task], Answer], tasks: Sequence[Task], *, look: Look | None = None
    ) -> Iterator[tuple[int, Answer]]:
        workers = min(self.workers, len(tasks))
        if workers == 0:
            return
        # Processes are spawned, as a fork of a process that has used torch's threads may hang.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _Worker.start, (pickle.dumps(function),))
        following, running = enumerate(tasks), {}
        try:
            while True:
                while len(running) < TASKS_PER_SLOT * workers and (task := next(following, None)) is not None:
                    running[pool.submit(_Worker.run, task[1])] = task[0]
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(done), done.result()
        except BrokenProcessPool:
            raise TargetError(
                "a worker process was killed",
                expected=f"{workers} processes that run to their end",
                found="one that ended without a result",
                likely="too little memory; each worker has its own copy of the data",
                do="run the same command again to resume, with fewer --workers if memory is short",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process keeps between tasks."""

    function: Callable[[Any], Any]

    @classmethod
    def start(cls, function: bytes) -> None:
        end_with_parent()
        cls.function = pickle.loads(function)

    @classmethod
    def run(cls, task: Any) -> Any:
        return cls.function(task)


def end_with_parent() -> None:
    """Called first in a process that multiprocessing has spawned: it ends with its parent, however that ends.

    Ctrl-C is left to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to the whole group, and the parent answers it
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    parent = parent_process()
    assert parent is not None, "the process was spawned"
    parent.join()
    os._exit(1)


class _RayRunner:
    def __init__(self, session: RaySession, workers: int | None, packages: Sequence[str]) -> None:
        self.session, self.workers, self.packages = session, workers, packages
        self._has_looked = False

    def _in_flight(self) -> int:
        """How many tasks Ray has at a time. Those that wait there are what an autoscaler starts nodes for."""
        if self.session.attached and self.workers:
            return self.workers
        return TASKS_PER_SLOT * self.session.cpus()

    def __call__(
        self, function: Callable[[Task], Answer], tasks: Sequence[Task], *, look: Look | None = None
    ) -> Iterator[tuple[int, Answer]]:
        import ray
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        session, packages = self.session, self.packages
        run = session.remote(function, look, packages, max_retries=LOST_RETRIES)
        following, again = enumerate(tasks), list[tuple[int, Task]]()
        running: dict[Any, tuple[int, Task]] = {}
        try:
            if look and session.attached and not self._has_looked:
                session.look_at_nodes(look, *packages, stopping=lambda: False)
                self._has_looked = True
            session.wait_for_cpu()
            while True:
                while len(running) < self._in_flight():
                    task = again.pop() if again else next(following, None)
                    if task is None:
                        break
                    message = pickle.dumps(Message.of(task[1], *packages))
                    running[run.options(**session.placement()).remote(message)] = task
                if not running:
                    return
                for done in session.wait(list(running), seconds=NODES_SECONDS):
                    task = running.pop(done)
                    node, host, problem, answer = ray.get(done)
                    if problem:
                        session.leave_out(node, host, problem)
                        again.append(task)
                    else:
                        yield task[0], answer
        # What still runs is not cancelled: Ray ends it with the driver, its writes are whole or absent, and a forced
        # cancel of a task that just ends makes Ray abort this process.
        except TaskCancelledError:
            # A terminal's Ctrl-C reaches the workers too, and their answer may come before our own interrupt.
            raise KeyboardInterrupt from None
        except RayTaskError as error:
            raise error.cause or error from None
        except RayError as error:
            session.check_head(now=True)
            raise TargetError(
                "Ray could not finish a task",
                expected=f"a cluster that runs a task within {LOST_RETRIES} tries",
                found=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                likely="nodes have too little memory, or leave before a task ends",
                do="run the same command again to resume",
                exit_code=ExitCode.UNEXPECTED,
            ) from None
