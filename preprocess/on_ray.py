"""Runs many small tasks with a bounded number in flight: on Ray, or in this process. Only this file knows Ray."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import musicvae
import preprocess
from musicvae.errors import ConfigError, UserError

Task = TypeVar("Task")
Answer = TypeVar("Answer")

TASKS_PER_SLOT = 2
"""One runs and one waits, so that a worker never idles while its answer travels; more would only cost memory."""
OBJECT_STORE_BYTES = 100_000_000
"""Tasks exchange names and counts through Ray, so the smallest comfortable store will do."""

OUR_PACKAGES = [str(Path(package).parent) for package in (musicvae.__file__, preprocess.__file__)]
"""Sent along to a cluster, so that its nodes run this very code whatever they have installed."""
CONNECT_SECONDS = 10.0
CANCEL_SECONDS = 10.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class TaskRunner(Protocol):
    """Runs a function over tasks; answers come with the number of their task, in any order."""

    def __call__(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]: ...


@contextmanager
def task_runner(workers: int | None, ray_address: str | None = None) -> Iterator[TaskRunner]:
    """A runner in this process (no workers, no address), on an embedded Ray, or on the cluster at an address.

    Args:
        workers: most tasks at a time; all CPUs of this machine or of the cluster if not given.
        ray_address: HOST:PORT of a cluster whose nodes see the same files under the same paths.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    if workers == 0 and not ray_address:
        yield _run_here
        return
    # Ray reads these once, when it is imported: no reports home, no warnings about GPUs that are not asked for.
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray_address:
        _attach(ray_address)
    else:
        # "local", so that a stray RAY_ADDRESS attaches nobody to a cluster that was not asked for.
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        slots = int(ray.cluster_resources().get("CPU", 1))
        yield _RayRunner(TASKS_PER_SLOT * min(workers or slots, slots))
    finally:
        ray.shutdown()


def _attach(address: str) -> None:
    import ray

    # Ray waits many minutes for a port where nobody listens, so that is found out first.
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(
            address=address,
            runtime_env={"py_modules": OUR_PACKAGES},
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address}",
            expected="HOST:PORT of a running head node, as `ray start --head` prints it",
            found=str(error).partition("\n")[0],
            likely="another port, a cluster that has ended, or RAY_AUTH_MODE and its token not set here",
            do="start the cluster, or leave --ray-address out to work on this machine",
        ) from None


def _run_here(function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
    for number, task in enumerate(tasks):
        yield number, function(task)


class _RayRunner:
    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight

    def __call__(self, function: Callable[[Task], Answer], tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        @ray.remote
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
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise UserError(
                "Ray lost a task for good",
                found=f"{type(error).__name__}: {error}",
                likely="a worker out of memory, or a file that kills the process that reads it",
                do="run with --workers 0 to see which",
            ) from None
        finally:
            # After an error or Ctrl-C nobody may go on writing into a folder that is about to be removed.
            for task in running:
                ray.cancel(task, force=True)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=CANCEL_SECONDS)
