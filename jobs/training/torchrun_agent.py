"""The torchrun agent of one node, started by `jobs.train --ranks`: torchrun without its wall of text.

What it has to say goes to RUN/logs; why a rank failed is told by the rank itself, in RUN/ranks.

Ranks on CPUs are forks of the agent, which has loaded what they need: an interpreter of its own would cost each two
seconds of CPU time. Where a fork would not be whole, as beside the threads in which agents of several machines meet,
each rank is a new interpreter.
"""

import atexit
import logging
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

import torch
from torch._C._distributed_c10d import HashStore
from torch.distributed import DistNetworkError
from torch.distributed.elastic.agent.server.api import WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import api as processes
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.run import parse_args
from torch.distributed.run import run as run_agent

from cluster.tasks import forks_whole
from cluster.torchrun import ONE_MACHINE, RENDEZVOUS_LOST
from jobs.command.streams import guard_streams, outlive_terminal
from jobs.training.environment import LOG_VARIABLE, START_AGAIN, STARTS_VARIABLE, STORES_VARIABLE

RANK, LOADED = "jobs.train", "jobs.training.rank"
"""What a rank runs, and what that imports."""
LOOK_SECONDS = 0.02
"""Between looks at a fork that is waited for."""


class ForkedRank:
    """What torch asks of a `subprocess.Popen`, of a rank that is a fork of this process.

    Args:
        arguments: of `python -m jobs.train`.
        environment: all its variables.
        forget_agent: undoes in the rank what the agent has opened and set.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], forget_agent: Callable[[], None]
    ) -> None:
        self.returncode: int | None = None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        ready, start = os.pipe()
        # A signal reaches the agent or a rank, never what is between them.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.close(ready)
            os.close(start)
            _become_rank(arguments, environment, forget_agent, blocked)
        os.close(start)
        os.read(ready, 1)  # until it has its session, to which the agent sends signals
        os.close(ready)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Waits for its exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(RANK, timeout)
            time.sleep(LOOK_SECONDS)
        return status


def _become_rank(
    arguments: Sequence[str], environment: Mapping[str, str], forget_agent: Callable[[], None], mask: set[int]
) -> NoReturn:
    """Goes on in a fork as a new interpreter would that runs `jobs.train`, and ends the process."""
    status: object = 1
    try:
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):  # the agent's; what is ignored stays so
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        forget_agent()
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr] - text files, as torchrun has `python -u`
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[1:] = arguments
        atexit._clear()
        runpy.run_module(RANK, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined] - as an interpreter does at its end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status if isinstance(status, int) else 1)


def _fork_ranks(forget_agent: Callable[[], None]) -> None:
    """Has the agent fork its ranks where forks are whole, and none of them will use a GPU."""
    if torch.cuda.is_available():
        return
    import_module(LOADED)
    start_interpreter: Any = SubprocessHandler._popen

    def start(handler: SubprocessHandler, words: Sequence[str], environment: dict[str, str]) -> Any:
        if not forks_whole():
            return start_interpreter(handler, words, environment)
        return ForkedRank(words[words.index(RANK) + 1 :], environment, forget_agent)

    SubprocessHandler._popen = start  # type: ignore[assignment] - of what torch asks of a Popen, a rank has all


def _report_starts(launcher: socket.socket) -> None:
    """Has the agent tell the launcher, whenever it starts ranks, how often they have failed and which they are.

    Ranks that die at once leave no record of their own, so that nobody else can count them. After a failure the agent
    waits for an answer: a launcher that sees that a restart is in vain ends it by a signal.
    """
    start_workers: Any = LocalElasticAgent._start_workers
    answered = 0

    def reporting(agent: Any, worker_group: WorkerGroup) -> dict[int, Any]:
        nonlocal answered
        failed = worker_group.spec.max_restarts - agent._remaining_restarts
        first = worker_group.workers[0].global_rank
        with suppress(OSError):  # the launcher has died, which ends this agent too
            launcher.send(f"{failed} {first} {len(worker_group.workers)}\n".encode(), socket.MSG_NOSIGNAL)
            if failed > answered:
                launcher.recv(len(START_AGAIN))
            answered = failed
        return start_workers(agent, worker_group)

    LocalElasticAgent._start_workers = reporting  # type: ignore[assignment] - a method, which torch has wrapped


def remember_signals() -> None:
    """Has the agent end at the next look at its ranks, if the exception of a signal was lost on its way.

    torch's handler raises in the middle of whatever runs. In a destructor or a hook, Python prints the exception and
    goes on, and the agent would start its ranks again for ever. A second one would interrupt the agent as it hands the
    first on: the ranks would get SIGTERM, which stops them for a restart. Linux sends the signal of a parent's death
    once for each thread of the parent.
    """
    raise_at_once: Any = processes._terminate_process_handler
    monitor: Any = LocalElasticAgent._monitor_workers
    received: list[int] = []

    def remembering(number: int, frame: Any) -> None:
        received.append(number)
        if len(received) == 1:
            raise_at_once(number, frame)

    def monitoring(agent: Any, worker_group: WorkerGroup) -> Any:
        if received:
            raise_at_once(received[0], None)
        return monitor(agent, worker_group)

    processes._terminate_process_handler = remembering
    LocalElasticAgent._monitor_workers = monitoring  # type: ignore[assignment] - a method, which torch has wrapped


class OneMachine(RendezvousHandler):
    """The rendezvous of an agent that waits for no other: what it writes down for its ranks stays in this process.

    Args:
        identity: of the launch.
    """

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def get_backend(self) -> str:
        return ONE_MACHINE

    def next_rendezvous(self) -> RendezvousInfo:
        # The ranks are given a port, as torchrun does, but meet in a file: see `environment.store_file`.
        return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo("localhost", 0))

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        pass

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self._identity

    def shutdown(self) -> bool:
        return True


def _log_to(path: str) -> Callable[[], None]:
    """Sends what torch logs to a file alone; gives what undoes that."""
    before = [(logger, logger.handlers[:], logger.propagate) for logger in _loggers_of_torch()]
    shown = logging.raiseExceptions

    def undo() -> None:
        logging.raiseExceptions = shown
        for logger, handlers, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate

    logging.raiseExceptions = False  # what cannot be logged, as on a full disk, is no reason to say so on the console
    for logger, _, _ in before:
        logger.handlers.clear()
        logger.propagate = logger.name != "torch"
    with suppress(OSError):
        file = logging.FileHandler(path)
        file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
        logging.getLogger("torch").addHandler(file)
    return undo


def _loggers_of_torch() -> list[logging.Logger]:
    names = [name for name in logging.root.manager.loggerDict if name.startswith("torch.")]
    return [logging.getLogger(name) for name in ["torch", *names]]


def main() -> int:
    """Runs the agent with torchrun's own flags; 0 if all ranks succeeded, `RENDEZVOUS_LOST` or 1 otherwise."""
    guard_streams()
    outlive_terminal()
    launcher = socket.socket(fileno=int(os.environ.pop(STARTS_VARIABLE)))
    logger, undo_logging = logging.getLogger("torch"), _log_to(os.environ.pop(LOG_VARIABLE))

    def forget_agent() -> None:
        launcher.close()
        undo_logging()

    _fork_ranks(forget_agent)
    _report_starts(launcher)
    remember_signals()
    try:
        rendezvous_handler_registry.register(ONE_MACHINE, lambda parameters: OneMachine(parameters.run_id))
        run_agent(parse_args(sys.argv[1:]))
    except (ChildFailedError, SignalException) as error:
        logger.error("%s", error)
        return 1
    except (RendezvousConnectionError, DistNetworkError):
        logger.exception("the rendezvous is lost")
        return RENDEZVOUS_LOST
    except Exception:
        logger.exception("the agent failed")
        return 1
    finally:
        if stores := os.environ[STORES_VARIABLE]:  # the launcher removes them too, unless it was killed
            shutil.rmtree(stores, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
