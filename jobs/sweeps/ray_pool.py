"""Processes that train one trial after another, on an embedded Ray or on a cluster; of sweeps only this file knows Ray.

These are plain actors, not Ray Tune: what is tried next, what goes on and what is tried again follows from the sweep's
ledger. Tune keeps an account of its own, which forgets trials with a killed driver and cannot take a wider space.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.tasks import ray_session
from jobs.command.provenance import our_code
from jobs.sweeps.pools import Lost, room_on, too_small
from jobs.sweeps.settings import TrialResources
from musicvae.errors import ConfigError
from musicvae.training.stopping import Wish

if TYPE_CHECKING:
    from jobs.sweeps.trial import Trainer, TrialEnd, TrialJob
    from jobs.training.messages import Asked

WORDS = "words"
NODES_SECONDS = 5.0
"""Between two looks at what nodes there are."""


@dataclass(slots=True, eq=False)
class _Worker:
    """Attributes:
    ready: refers to its first answer; None once that has come.
    job, end: what it trains, and the reference to what comes of it.
    """

    actor: Any
    ready: Any
    job: "TrialJob | None" = None
    end: Any = None


class RayPool:
    """A `TrialPool` of as many actors as there is room for, each with the resources of a trial.

    Args:
        trainer: what they do with a trial.
        must_see: a file that the driver has made; a node that does not see it does not share the folder.

    Raises:
        ConfigError: no node could hold a trial.
    """

    def __init__(self, resources: TrialResources, trainer: "Trainer", must_see: Path) -> None:
        self.resources, self._trainer, self._must_see = resources, trainer, must_see
        self._workers: list[_Worker] = []
        self._capacity, self._looked_at = self._count(), time.monotonic()
        if not self._capacity:
            raise too_small(resources, _alive())

    def room(self) -> bool:
        """Whether a trial can be started at once."""
        self._grow()
        return any(worker.ready is None and worker.job is None for worker in self._workers)

    def start(self, job: "TrialJob") -> None:
        """Begins to train a trial; there has to be room."""
        worker = next(worker for worker in self._workers if worker.ready is None and worker.job is None)
        worker.job, worker.end = job, worker.actor.train.remote(job)

    def ended(self, seconds: float) -> "list[tuple[TrialJob, TrialEnd | Lost]]":
        """Waits a while; gives what came of trials that ended meanwhile.

        Raises:
            ConfigError: a node does not see the sweep folder.
        """
        import ray

        refs = {ref: worker for worker in self._workers if (ref := worker.ready or worker.end) is not None}
        if not refs:
            time.sleep(seconds)
            return []
        found = []
        done, _ = ray.wait(list(refs), num_returns=1, timeout=seconds)
        more, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        for ref in {*done, *more}:
            worker = refs[ref]
            if worker.ready is not None:
                self._begin(worker)
            elif worker.job is not None:
                found.append((worker.job, self._end(worker)))
        return found

    @property
    def running(self) -> list[str]:
        """The trials that are being trained."""
        return [worker.job.trial for worker in self._workers if worker.job is not None]

    def why_waiting(self) -> str:
        """Why no more trials run than do: what is asked for, and what is free; empty if nothing waits for room."""
        import ray

        unready = sum(worker.ready is not None for worker in self._workers)
        if not unready:
            return ""
        free = ray.available_resources()
        asked = [f"{self.resources.cpus} CPU", *([f"{self.resources.gpus:g} GPU"] if self.resources.gpus else [])]
        return (
            f"{unready} process(es) to be started: {' and '.join(asked)} asked for each, "
            f"{free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU free on the cluster"
        )

    def ask_to_stop(self, wish: Wish) -> None:
        """Lets running trials save and leave."""
        from jobs.training.messages import Asked

        for worker in self._workers:
            worker.actor.ask.options(concurrency_group=WORDS).remote(Asked(wish))

    def _count(self) -> int:
        """How many trials the nodes hold if nobody else uses them, at most `at_once`."""
        room = sum(room_on(node, self.resources) for node in _alive())
        return min(room, self.resources.at_once or room)

    def _grow(self) -> None:
        if time.monotonic() - self._looked_at > NODES_SECONDS:
            self._capacity, self._looked_at = self._count(), time.monotonic()
        while len(self._workers) < self._capacity:
            self._workers.append(self._new_worker())

    def _new_worker(self) -> _Worker:
        import ray

        options: dict[str, Any] = {"num_cpus": self.resources.cpus, "num_gpus": self.resources.gpus}
        options["concurrency_groups"] = {WORDS: 1}
        kind: Any = ray.remote(**options)(_Trials)
        actor = kind.remote(self._trainer, self._must_see)
        return _Worker(actor, actor.ready.remote())

    def _begin(self, worker: _Worker) -> None:
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            ray.get(worker.ready)
            worker.ready = None
        except RayActorError:  # its node has gone; another one will be made
            self._workers.remove(worker)
        except RayTaskError as error:
            raise error.cause from None

    def _end(self, worker: _Worker) -> "TrialEnd | Lost":
        import ray
        from ray.exceptions import OutOfMemoryError, RayError

        try:
            end: TrialEnd = ray.get(worker.end)  # pyright: ignore[reportAssignmentType]
        except RayError as error:
            self._workers.remove(worker)
            out_of_memory = isinstance(error, OutOfMemoryError) or "running low on memory" in str(error)
            return Lost(str(error).strip().splitlines()[-1].strip(), out_of_memory)
        worker.job = worker.end = None
        if end.category == "memory":
            self._workers.remove(worker)
            ray.kill(worker.actor)
        return end


@contextmanager
def ray_pool(address: str | None, resources: TrialResources, trainer: "Trainer", must_see: Path) -> Iterator[RayPool]:
    """Processes on the cluster at an address, or on a Ray of this process's own; they end with the block.

    Raises:
        TargetError: no cluster answers.
        ConfigError: it has no node that could hold a trial.
    """
    with ray_session(address, cpus=None, code=our_code()):
        yield RayPool(resources, trainer, must_see)


def _alive() -> list[dict[str, float]]:
    """What each node has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class _Trials:
    """The actor."""

    def __init__(self, trainer: "Trainer", must_see: Path) -> None:
        from jobs.training.messages import Asked

        self._trainer, self._must_see, self._asked = trainer, must_see, Asked()

    def ready(self) -> None:
        if not self._must_see.exists():
            raise ConfigError(
                f"node {socket.gethostname()} does not see the sweep folder",
                expected="a folder that all nodes share, under the same path",
                found=f"no {self._must_see}",
                likely="a folder on one machine's own disk",
                do="put --out and --shards on the shared file system, or leave --ray-address out",
            )

    def train(self, job: "TrialJob") -> "TrialEnd":
        return self._trainer(job, lambda: self._asked)

    def ask(self, asked: "Asked") -> None:
        self._asked = asked
