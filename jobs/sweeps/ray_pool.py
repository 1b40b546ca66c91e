"""Processes that train one trial after another, on an embedded Ray or on a cluster; of sweeps only this file knows Ray.

These are plain actors, not Ray Tune: what is tried next, what goes on and what is tried again follows from the sweep's
ledger. Tune keeps an account of its own, starts interrupted trials anew and cannot take a wider space.

It is imported inside a `ray_session` alone, which sets what Ray reads when it is imported.
"""

import pickle
import socket
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray._private.state import actors
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from cluster.code import Message, opened_work
from cluster.errors import TargetError
from cluster.ray_session import NODES_SECONDS, RaySession, amounts
from jobs.sweeps.pools import Lost, room_on, too_small
from jobs.sweeps.settings import TrialResources
from jobs.training.messages import StopRequest
from musicvae.training.stopping import Stop

if TYPE_CHECKING:
    from jobs.sweeps.trial import Trainer, TrialEnd, TrialJob

WORDS = "words"
FRUITLESS_BIRTHS = 3
"""Processes in a row that die on a node before they are ready; then it is left out."""
SAME_PACKAGES = ("torch",)
"""Of the driver and all nodes."""


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
        must_see: a file that the driver has made; a node that does not see it does not share the folder, and is left
            out.

    Raises:
        ConfigError: no node could hold a trial.
    """

    def __init__(self, session: RaySession, resources: TrialResources, trainer: "Trainer", must_see: Path) -> None:
        self.resources, self._session = resources, session
        self._work = pickle.dumps(Message.of((trainer, partial(_blind_spot, must_see)), *SAME_PACKAGES))
        self._workers: list[_Worker] = []
        self._fruitless: Counter[str] = Counter()
        self._capacity, self._looked_at = self._count(), time.monotonic()
        if not self._holds_a_trial() and not session.wait_for_nodes(resources.needs, 1, who="each trial"):
            raise too_small(resources, [node["Resources"] for node in session.nodes()])

    def room(self) -> bool:
        """Whether a trial can be started at once."""
        self._grow()
        return any(worker.ready is None and worker.job is None for worker in self._workers)

    def start(self, job: "TrialJob") -> None:
        """Begins to train a trial; there has to be room."""
        worker = next(worker for worker in self._workers if worker.ready is None and worker.job is None)
        worker.job, worker.end = job, worker.actor.train.remote(Message.of(job, *SAME_PACKAGES))

    def ended(self, seconds: float) -> "list[tuple[TrialJob, TrialEnd | Lost]]":
        """Waits a while; gives what came of trials that ended meanwhile.

        Raises:
            TargetError: no node is left that can train, or the head of the cluster is lost.
            ConfigError: the nodes that are left are too small.
        """
        refs = {ref: worker for worker in self._workers if (ref := worker.ready or worker.end) is not None}
        if not refs:
            time.sleep(seconds)
            return []
        ended_trials = []
        if self.running:
            self._session.note_progress()
        for ref in self._session.wait(list(refs), seconds=seconds, who="each trial", needs=self.resources.needs):
            worker = refs[ref]
            if worker.ready is not None:
                self._begin(worker)
            elif worker.job is not None:
                ended_trials.append((worker.job, self._end(worker)))
        return ended_trials

    @property
    def running(self) -> list[str]:
        """The trials that are being trained."""
        return [worker.job.trial for worker in self._workers if worker.job is not None]

    def why_waiting(self) -> str:
        """Why no more trials run than do: what is asked for, and what is free; empty if nothing waits for room."""
        unready = sum(worker.ready is not None for worker in self._workers)
        if not unready:
            return ""
        free, needs = self._session.free(), self.resources.needs
        return (
            f"{unready} process(es) to start. Each requests {amounts(needs)}; "
            f"free on the cluster: {amounts({kind: free.get(kind, 0) for kind in needs})}"
        )

    def ask_to_stop(self, stop: Stop) -> None:
        """Lets running trials save and leave."""
        for worker in self._workers:
            worker.actor.ask.options(concurrency_group=WORDS).remote(StopRequest(stop))

    def _count(self) -> int:
        """How many trials the nodes hold if nobody else uses them, at most `at_once`.

        Where nodes can be added it is `at_once`, or one more than there is room for: what waits is what they are for.
        """
        room = sum(room_on(node["Resources"], self.resources) for node in self._session.nodes())
        wanted = self.resources.at_once or room + self._session.grows
        return wanted if self._session.grows else min(room, wanted)

    def _holds_a_trial(self) -> bool:
        return any(room_on(node["Resources"], self.resources) for node in self._session.nodes())

    def _grow(self) -> None:
        if time.monotonic() - self._looked_at > NODES_SECONDS:
            self._capacity, self._looked_at = self._count(), time.monotonic()
        while len(self._workers) < self._capacity:
            self._workers.append(self._new_worker())

    def _new_worker(self) -> _Worker:
        options: dict[str, Any] = {"num_cpus": self.resources.cpus, "num_gpus": self.resources.gpus}
        options |= {"memory": int(self.resources.needs.get("memory", 0)) or None}
        options |= {"concurrency_groups": {WORDS: 1}, **self._session.placement()}
        kind: Any = ray.remote(**options)(_Trials)
        actor = kind.remote(self._work)
        return _Worker(actor, actor.ready.remote())

    def _begin(self, worker: _Worker) -> None:
        """After the first word of a process.

        Raises:
            TargetError, ConfigError: no node is left that can train.
        """
        try:
            node, host, problem = ray.get(worker.ready)
        except (RayActorError, RayTaskError) as error:
            self._session.check_head(now=True)
            self._workers.remove(worker)
            self._note_fruitless(worker, error)
            ray.kill(worker.actor)
            return
        if not problem:
            worker.ready = None
            self._fruitless[node] = 0
            return
        self._workers.remove(worker)
        ray.kill(worker.actor)
        self._leave_out(node, host, problem)

    def _note_fruitless(self, worker: _Worker, error: RayError) -> None:
        """A process has died at its birth; one that went with its node does not count."""
        node = actors(worker.actor._actor_id.hex()).get("Address", {}).get("NodeID", "")
        about = next((other for other in ray.nodes() if other["NodeID"] == node), None)
        if about and not about["Alive"]:
            return
        self._fruitless[node] += 1
        if self._fruitless[node] >= FRUITLESS_BIRTHS:
            last = str(error).strip().splitlines()[-1].strip()
            problem = f"{FRUITLESS_BIRTHS} processes in a row died as they started; the last one: {last}"
            if not about:  # Ray does not say where
                raise TargetError("no trial can be started", found=problem, do="look at the logs of the nodes")
            self._leave_out(node, about["NodeManagerHostname"], problem)

    def _leave_out(self, node: str, host: str, problem: str) -> None:
        self._session.leave_out(node, host, problem)
        self._capacity, self._looked_at = self._count(), time.monotonic()
        if not self._capacity:
            raise too_small(self.resources, [other["Resources"] for other in self._session.nodes()])

    def _end(self, worker: _Worker) -> "TrialEnd | Lost":
        try:
            end: TrialEnd = ray.get(worker.end)  # pyright: ignore[reportAssignmentType]
        except RayError as error:
            self._session.check_head(now=True)  # its loss is no failure of the trial
            self._workers.remove(worker)
            out_of_memory = isinstance(error, OutOfMemoryError) or "running low on memory" in str(error)
            return Lost(str(error).strip().splitlines()[-1].strip(), out_of_memory)
        worker.job = worker.end = None
        if end.category == "memory":
            self._workers.remove(worker)
            ray.kill(worker.actor)
        return end


def _blind_spot(must_see: Path) -> str:
    return "" if must_see.exists() else f"it does not see {must_see}"


class _Trials:
    """The actor.

    Args:
        work: a pickled `Message` of the trainer, and of what looks at the node.
    """

    def __init__(self, work: bytes) -> None:
        self._work, self._asked = work, StopRequest()

    def ready(self) -> tuple[str, str, str]:
        """Node id, host, and what is wrong with the node; empty if nothing is."""
        problem, _ = opened_work(self._work)
        return ray.get_runtime_context().get_node_id(), socket.gethostname(), problem

    def train(self, message: Message) -> "TrialEnd":
        _, trainer = opened_work(self._work)
        return trainer(message.open(), lambda: self._asked)

    def ask(self, asked: StopRequest) -> None:
        self._asked = asked
