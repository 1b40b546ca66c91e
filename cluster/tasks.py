"""Runs many small tasks with a bounded number in flight: in this process, in several, or on Ray.

The only file that starts Ray. The code that its nodes get is handed in, as this package knows nothing of it.
"""

import ctypes
import logging
import os
import pickle
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from cluster.code import JOB_CONFIG, Look, Message
from cluster.errors import ExitCode, TargetError
from cluster.local import PR_SET_PDEATHSIG, usable_cpus
from cluster.ray_jobs import resolve_ray_address
from cluster.ray_node import OWNER, RAYS_OWN, ray_folder
from cluster.ray_session import NODES_SECONDS, RaySession, attach
from cluster.torchrun import ON_LOOPBACK

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Where = Literal["here", "processes", "ray"]
WorkerContext: TypeAlias = SpawnContext | ForkServerContext

TASKS_PER_SLOT = 2
"""One runs and one waits, so that a worker never idles while its answer travels; more would only cost memory."""
OBJECT_STORE_BYTES = 100_000_000
"""Tasks exchange names and counts through Ray, so the smallest comfortable store will do."""
LOST_RETRIES = 10
"""Of a task whose process or node was lost. No file does that, since each is converted in a sandbox."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
TO_EVERY_PROCESS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
"""Signals that a terminal or a scheduler may send to all processes of a job."""


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
        with worker_processes(workers, getattr(function, "func", function).__module__) as context:
            pool = ProcessPoolExecutor(workers, context, _Worker.start, (pickle.dumps(function),))
            yield from self._answers(pool, workers, tasks)

    def _answers(self, pool: ProcessPoolExecutor, workers: int, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
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


@contextmanager
def worker_processes(workers: int, *modules: str) -> Iterator[WorkerContext]:
    """What starts worker processes, which call `end_with_parent` first; to be ended within the block.

    Several are forks of one process, the fork server, which loads what they need once. It has no thread but its first:
    a fork would lose the others, with whatever locks they hold. It is another process than this one, which has threads,
    locked files and perhaps CUDA or Ray; this one's environment and folder are those of its start. Where it does not
    come to have one thread, off Linux, and for a single worker, each worker is a new interpreter.

    Args:
        modules: what workers need.
    """
    spawn, server = get_context("spawn"), get_context("forkserver")
    if workers == 1 or sys.platform != "linux":
        yield spawn
        return
    server.set_forkserver_preload([*modules])
    resource_tracker.ensure_running()  # ahead, as it lets signals through again
    # What a terminal or a scheduler sends to every process is for this one and the workers to answer.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, TO_EVERY_PROCESS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    process: Any = forkserver._forkserver  # type: ignore[attr-defined] - else it lives on as long as this process
    try:
        yield server if _forks_whole_processes(server, process._forkserver_pid) else spawn
    finally:
        os.kill(process._forkserver_pid, signal.SIGKILL)  # its interpreter takes a quarter of a second to end by itself
        process._stop()


def _has_one_thread(pid: int | str) -> bool:
    return len([*Path(f"/proc/{pid}/task").iterdir()]) == 1


def _forks_whole_processes(server: ForkServerContext, pid: int) -> bool:
    """`forks_whole`, of the fork server."""
    with suppress(EOFError, OSError):  # it has ended, and new interpreters will say why
        fork = server.Process()
        fork.start()
        fork.join()
        return _has_one_thread(pid)
    return False


def forks_whole() -> bool:
    """Whether a fork of this process has all that it needs: other threads are lost, with whatever locks they hold.

    OpenBLAS ends its threads ahead of each fork until it needs them again, so they are counted after one.
    """
    if sys.platform != "linux":
        return False
    if (fork := os.fork()) == 0:
        os._exit(0)
    os.waitpid(fork, 0)
    return _has_one_thread("self")


def end_with_parent() -> None:
    """Called first in a worker process: it ends with the process that has it, however that ends.

    Ctrl-C is left to that process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to the whole group, and the parent answers it
    parent = parent_process()
    assert parent is not None, "multiprocessing has started the process"
    if os.getppid() != parent.pid:  # but the fork server: who waits for a worker would not see its end without it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TO_EVERY_PROCESS)
    threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
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
