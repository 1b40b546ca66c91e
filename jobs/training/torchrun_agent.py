"""The torchrun agent of one node, started by `jobs.train --ranks`: torchrun without its wall of text.

What it has to say goes to RUN/logs; why a rank failed is told by the rank itself, in RUN/ranks.
"""

import logging
import os
import shutil
import socket
import sys
from contextlib import suppress
from typing import Any

from torch._C._distributed_c10d import HashStore
from torch.distributed import DistNetworkError
from torch.distributed.elastic.agent.server.api import WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import api as processes
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.run import parse_args
from torch.distributed.run import run as run_agent

from cluster.torchrun import ONE_MACHINE, RENDEZVOUS_LOST
from jobs.command.streams import guard_streams, outlive_terminal
from jobs.training.environment import LOG_VARIABLE, START_AGAIN, STARTS_VARIABLE, STORES_VARIABLE


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
    goes on, and the agent would start its ranks again for ever.
    """
    raise_at_once: Any = processes._terminate_process_handler
    monitor: Any = LocalElasticAgent._monitor_workers
    received: list[int] = []

    def remembering(number: int, frame: Any) -> None:
        received.append(number)
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


def main() -> int:
    """Runs the agent with torchrun's own flags; 0 if all ranks succeeded, `RENDEZVOUS_LOST` or 1 otherwise."""
    guard_streams()
    outlive_terminal()
    _report_starts(socket.socket(fileno=int(os.environ.pop(STARTS_VARIABLE))))
    remember_signals()
    logging.raiseExceptions = False  # what cannot be logged, as on a full disk, is no reason to say so on the console
    logger = logging.getLogger("torch")
    for name in ["torch", *(name for name in logging.root.manager.loggerDict if name.startswith("torch."))]:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "torch"
    with suppress(OSError):
        file = logging.FileHandler(os.environ.pop(LOG_VARIABLE))
        file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(file)
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
