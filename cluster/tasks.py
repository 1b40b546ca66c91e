"""Runs many small tasks with a bounded number in flight: in this process, in several, or on Ray.

The only file that starts Ray. The code that its nodes get is handed in, as this package knows nothing of it.
"""

import logging
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, Literal, Protocol, TypeVar

from cluster.errors import ExitCode, TargetError

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Where = Literal["here", "processes", "ray"]

TASKS_PER_SLOT = 2
"""One runs and one waits, so that a worker never idles while its answer travels; more would only cost memory."""
OBJECT_STORE_BYTES = 100_000_000
"""Tasks exchange names and counts through Ray, so the smallest comfortable store will do."""
LOST_RETRIES = 10
"""Of a task whose process or node was lost. No file does that, since each is converted in a sandbox."""
CONNECT_SECONDS = 10.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class TaskRunner(Protocol):
    """Where tasks run. A task may run more than once, if the process or node that runs it is lost."""

    def __call__(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """Runs a function over tasks; answers come with the number of their task, in any order."""
        ...

    def on_every_node(self, function: Callable[[], Answer]) -> list[tuple[str, Answer]]:
        """Runs a function once on each node; answers come with the node's name."""
        ...


@contextmanager
def task_runner(
    where: Where, workers: int | None = None, *, ray_address: str | None = None, code: Mapping[str, Any]
) -> Iterator[TaskRunner]:
    """A runner in this process, in processes of this machine, or on Ray.

    Args:
        workers: most tasks at a time; all CPUs of this machine or of the cluster if not given. One in this process.
        ray_address: HOST:PORT of a cluster whose nodes see the same files under the same paths; a Ray of this process's
            own if not given.
        code: the runtime environment that brings the code of the tasks to a cluster.

    Raises:
        TargetError: no cluster answers at the address.
    """
    match where:
        case "here":
            yield _HereRunner()
        case "processes":
            yield _ProcessRunner(workers or os.cpu_count() or 1)
        case "ray":
            with ray_session(ray_address, cpus=workers, code=code):
                import ray

                slots = int(ray.cluster_resources().get("CPU", 1))
                yield _RayRunner(TASKS_PER_SLOT * min(workers or slots, slots))


@contextmanager
def ray_session(address: str | None, *, cpus: int | None, code: Mapping[str, Any]) -> Iterator[None]:
    """Connects this process to the cluster at an address, or to a Ray of its own, until the block ends.

    Args:
        address: HOST:PORT of a cluster whose nodes see the same files under the same paths.
        cpus: how many a Ray of our own offers; all of this machine if not given.
        code: the runtime environment that brings our code to a cluster.

    Raises:
        TargetError: no cluster answers at the address.
    """
    before = dict(os.environ)
    # Ray reads these once, when it is imported: no reports home, no warnings about GPUs that are not asked for.
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    terminate = signal.getsignal(signal.SIGTERM)
    try:
        try:
            if address:
                _attach(address, code)
            else:
                # "local", so that a stray RAY_ADDRESS attaches nobody to a cluster that was not asked for.
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        finally:
            # What Ray sets (its debugger for `breakpoint()` among it) is its own: our children would inherit it.
            _set_back(before)
            # Ray takes SIGTERM for itself, to leave at once or to print stacks and abort.
            signal.signal(signal.SIGTERM, terminate)
        yield
    finally:
        ray.shutdown()  # a Ray that did not come up leaves processes too


def _set_back(before: Mapping[str, str]) -> None:
    """Sets the variables of this process to what they were."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _attach(address: str, code: Mapping[str, Any]) -> None:
    import ray

    # Ray waits many minutes for a port where nobody listens, so that is found out first.
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address=address, runtime_env=dict(code), log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise TargetError(
            f"no Ray cluster answers at {address}",
            expected="HOST:PORT of a running head node, as `ray start --head` prints it",
            found=str(error).partition("\n")[0],
            likely="another port, an ended cluster, another Ray, or RAY_AUTH_MODE and its token not set here",
            do="start the cluster, or leave --ray-address out to work on this machine",
        ) from None


class _HereRunner:
    def __call__(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        for number, task in enumerate(tasks):
            yield number, function(task)

    def on_every_node(self, function: Callable[[], Answer]) -> list[tuple[str, Answer]]:
        return [(socket.gethostname(), function())]


class _ProcessRunner:
    """Processes of this machine, which end with this one however it ends."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __call__(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
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
                found="one that ended without a word",
                likely="too little memory: each worker has a copy of all that its tasks need",
                do="run the same command again, with fewer --workers if memory is short: what was done is kept",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    def on_every_node(self, function: Callable[[], Answer]) -> list[tuple[str, Answer]]:
        return [(socket.gethostname(), function())]


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
    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight

    def __call__(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        import ray
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        @ray.remote(max_retries=LOST_RETRIES)
        def run(task: Task) -> Answer:
            return function(task)

        waiting = enumerate(tasks)
        running = {}
        try:
            while True:
                while len(running) < self.in_flight and (following := next(waiting, None)) is not None:
                    running[run.remote(following[1])] = following[0]
                if not running:
                    return
                (done,), _ = ray.wait(list(running), num_returns=1)
                number = running.pop(done)
                yield number, ray.get(done)
        # What still runs is not cancelled: Ray ends it with the driver, its writes are whole or absent, and a forced
        # cancel of a task that just ends makes Ray abort this process.
        except TaskCancelledError:
            # A terminal's Ctrl-C reaches the workers too, and their answer may come before our own interrupt.
            raise KeyboardInterrupt from None
        except RayTaskError as error:
            raise error.cause or error from None
        except RayError as error:
            raise TargetError(
                "Ray lost a task for good",
                expected=f"a cluster that runs a task within {LOST_RETRIES} tries",
                found=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                likely="nodes without memory, or that come and go faster than a task runs",
                do="run the same command again: what was done is kept",
                exit_code=ExitCode.UNEXPECTED,
            ) from None

    def on_every_node(self, function: Callable[[], Answer]) -> list[tuple[str, Answer]]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # No CPU is asked for, so that a node that is busy with another job answers too.
        @ray.remote(num_cpus=0)
        def answer() -> Answer:
            return function()

        nodes = [node for node in ray.nodes() if node["Alive"]]
        asked = [
            answer.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
            for node in nodes
        ]
        return [(node["NodeManagerHostname"], ray.get(result)) for node, result in zip(nodes, asked, strict=True)]
