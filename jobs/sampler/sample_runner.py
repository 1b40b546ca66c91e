"""Where chunks of a sampling are made: in this process, in several of this machine, or on a Ray cluster."""

import pickle
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from jobs.command.orphans import end_with_parent
from jobs.command.provenance import OUR_CODE
from musicvae.errors import ConfigError
from preprocess.on_ray import Answer, Task, TaskRunner, task_runner

TASKS_PER_WORKER = 2
"""One runs and one waits, so that a worker never idles while its answer travels."""


@contextmanager
def sample_runner(workers: int | None, ray_address: str | None) -> Iterator[TaskRunner]:
    """A runner of chunks.

    Args:
        workers: most chunks at a time; one here, and as many as there are CPUs on Ray, if not given.
        ray_address: HOST:PORT of a cluster whose nodes see the output under the same path.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    if ray_address is not None or workers is None or workers == 1:
        with task_runner(workers if ray_address else 0, ray_address, code=OUR_CODE) as run:
            yield run
    else:
        yield _Processes(workers)


class _Processes:
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
                while len(running) < TASKS_PER_WORKER * workers and (task := next(following, None)) is not None:
                    running[pool.submit(_Worker.run, task[1])] = task[0]
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(done), done.result()
        except BrokenProcessPool:
            raise ConfigError(
                "a worker process was killed",
                expected=f"{workers} processes that run to their end",
                found="one that ended without a word",
                likely="too little memory: each worker has a copy of the model",
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
