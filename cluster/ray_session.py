"""A connection to Ray: waits that hear signals and notice a lost head, and nodes that get no work.

`cluster.tasks.ray_session` opens it.
"""

import atexit
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cluster.code import Look, Message
from cluster.errors import ExitCode, TargetError
from cluster.ray_jobs import answers, check_ray_address, no_cluster, refuses

LOOK_SECONDS = 0.5
"""A handler of a signal is not called while Ray waits."""
HEAD_SECONDS, HEAD_PAUSE = 15.0, 2.0
"""For which a head that cannot be reached is waited for. Ray waits a minute, and then aborts the process."""
LOSS_SECONDS = 5.0
"""For the main thread to end by itself when the head is lost."""
IDLE_SECONDS = 10.0
"""After which a wait is explained; the next time after six times as long."""
NODES_SECONDS = 5.0
"""Between two looks at what nodes there are."""
START_SECONDS = 20.0
"""Within which an autoscaler begins to start nodes for a request, if it can."""
NODE_SECONDS = 90.0
"""For the answer of a node, which unpacks the code first."""
NODE = "ray.io/node-id"
CONNECT_TRIES = "6"
"""Of Ray, about one a second."""


def amounts(resources: Mapping[str, float]) -> str:
    """Resources by Ray's names, as people read them; memory is in bytes."""
    texts = (f"{x / 2**30:.3g} GiB of memory" if kind == "memory" else f"{x:g} {kind}" for kind, x in resources.items())
    return " and ".join(texts)


def attach(address: str, code: Mapping[str, Any]) -> None:
    """Connects this process to a cluster.

    Args:
        address: HOST:PORT of its head.
        code: the runtime environment that brings our code to its nodes.

    Raises:
        TargetError: no cluster answers there.
    """
    import ray

    # Ray waits many minutes for a port where nobody listens, so that is found out first.
    check_ray_address(address)
    for name in code.get("excludes", ()):
        if Path(code["working_dir"], name.lstrip("/")).is_symlink():
            print(f"{name.lstrip('/')!r} is a link and is not sent to the cluster", file=sys.stderr)
    # And twenty seconds for a port where another part of Ray listens, such as its client's.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", CONNECT_TRIES)
    # Else Ray refuses what a Ray Job that runs this process sets too: variables, or other code than runs here.
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"
    try:
        ray.init(address=address, runtime_env=dict(code), log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise no_cluster(address, error) from None


class RaySession:
    """Ray, as long as this process is connected to it.

    Args:
        address: HOST:PORT of a cluster; None for a Ray of this process's own.

    Attributes:
        left_out: what is wrong with nodes that get no work, by their ids.
        lost: whether the head is gone.
    """

    def __init__(self, address: str | None) -> None:
        self.left_out: dict[str, str] = {}
        self.lost = False
        self._address = address
        self._idle_since, self._explain_after = time.monotonic(), IDLE_SECONDS
        self._cpus, self._counted_at = 0, -NODES_SECONDS

    @property
    def attached(self) -> bool:
        """Whether this is a cluster that others may use, too, and not a Ray of our own."""
        return bool(self._address)

    @contextmanager
    def watching_head(self) -> Iterator[None]:
        """Notices in the block that the head of a cluster is lost; `wait` says so."""
        over = threading.Event()
        if self._address:
            threading.Thread(target=self._watch_head, args=(self._address, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def wait(
        self,
        refs: Sequence[Any],
        *,
        seconds: float | None = None,
        who: str = "",
        needs: Mapping[str, float] = MappingProxyType({}),
    ) -> list[Any]:
        """Those of some results that are there, at least one unless the time is over.

        A signal is answered within `LOOK_SECONDS`, by its handler and outside Ray.

        Args:
            who, needs: what requests how much, by Ray's names; a long wait for it is explained to the user.

        Raises:
            TargetError: the head is lost.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            ready = self._wait_a_while(refs)
            self.check_head()
            if ready:
                return ready
            if needs:
                self._explain(who, needs)
            if deadline is not None and time.monotonic() >= deadline:
                return []

    def _wait_a_while(self, refs: Sequence[Any]) -> list[Any]:
        import ray
        from ray.exceptions import RayError

        heard: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        try:
            ready, _ = ray.wait(list(refs), num_returns=1, timeout=LOOK_SECONDS)
            return ray.wait(list(refs), num_returns=len(refs), timeout=0)[0] if ready else []
        except RayError:
            self.check_head(now=True)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
            if heard:
                os.kill(os.getpid(), signal.SIGTERM)

    def wait_for_cpu(self) -> None:
        """Waits until the cluster has room for a task.

        Raises:
            TargetError: the head is lost.
        """
        if self.attached:
            self.note_progress()
            first = self.remote(_ignore, None, ()).options(**self.placement()).remote(pickle.dumps(Message.of(None)))
            self.wait([first], who="a task", needs={"CPU": 1})

    @cached_property
    def grows(self) -> bool:
        """Whether an autoscaler may start nodes for what waits; that of KubeRay and of `ray up`, its second version."""
        from ray.autoscaler.v2.utils import is_autoscaler_v2

        return self.attached and is_autoscaler_v2(fetch_from_server=True)

    def wait_for_nodes(
        self, needs: Mapping[str, float], count: int, *, who: str, stopping: Callable[[], object] = lambda: False
    ) -> bool:
        """Waits until the cluster holds something several times at once, as long as its autoscaler starts nodes.

        Args:
            needs: how much each of them requests of one node, by Ray's names.
            who: all of them together, as of `wait`.
            stopping: ends the wait early if it is true.

        Returns:
            False if no node was started.

        Raises:
            TargetError: the head is lost.
        """
        if not self.grows:
            return False
        from ray.autoscaler.v2.sdk import get_cluster_status
        from ray.util.placement_group import placement_group, remove_placement_group

        self.note_progress()
        # A group is held all at once, where tasks would take turns; and Ray withdraws it if this process is killed.
        group, total = placement_group([dict(needs)] * count), {kind: count * amount for kind, amount in needs.items()}
        try:
            ready, give_up_at = group.ready(), time.monotonic() + START_SECONDS
            while not stopping() and not self.wait([ready], seconds=LOOK_SECONDS, who=who, needs=total):
                self.check_head(now=True)
                status = get_cluster_status(str(self._address))
                if status.pending_launches or status.pending_nodes:
                    give_up_at = time.monotonic() + START_SECONDS
                elif time.monotonic() > give_up_at:
                    return False
            return True
        finally:
            if not self.lost:
                remove_placement_group(group)

    def note_progress(self) -> None:
        """Nobody waits any more."""
        self._idle_since, self._explain_after = time.monotonic(), IDLE_SECONDS

    def _explain(self, who: str, needs: Mapping[str, float]) -> None:
        """Says what is waited for, if it has taken long and the cluster has no room."""
        gone = time.monotonic() - self._idle_since
        if not self.attached or gone < self._explain_after:
            return
        self._explain_after *= 6
        free, have = self.free(), self.resources()
        if any(free.get(kind, 0) < amount for kind, amount in needs.items()):
            room, whole = ({kind: amount.get(kind, 0) for kind in needs} for amount in (free, have))
            asked = f"{who} requests {amounts(needs)}"
            more = "; its autoscaler sees the request" if self.grows else ""
            share = f"{amounts(room)} of {amounts(whole)}"
            _say(f"waiting for {gone:.0f} s: {asked}; free on the Ray cluster: {share}{more}")

    def check_head(self, *, now: bool = False) -> None:
        """Makes sure that the cluster is there.

        Args:
            now: asks the head, where Ray has failed for a reason that may be its loss.

        Raises:
            TargetError: its head is not; Ray must not be used any more.
        """
        self.lost = self.lost or (now and self.attached and refuses(str(self._address)))
        if self.lost:
            # Ray's own end would wait a minute for the head, and then abort this process.
            atexit.register(os._exit, ExitCode.PREEMPTED)
            raise self._loss()

    def _loss(self) -> TargetError:
        return TargetError(
            f"the Ray cluster at {self._address} has ended",
            expected="a head node that runs until the command has ended",
            found=f"nothing answers at {self._address} any more",
            likely="the head node was stopped, or its machine was lost",
            do="start the cluster, then run the same command again to resume; finished work is kept",
            exit_code=ExitCode.PREEMPTED,
        )

    def _watch_head(self, address: str, over: threading.Event) -> None:
        seen = time.monotonic()
        while not over.wait(HEAD_PAUSE):
            if answers(address):
                seen = time.monotonic()
            elif time.monotonic() - seen > HEAD_SECONDS:
                self.lost = True
                if not over.wait(LOSS_SECONDS):  # the main thread waits in Ray, which would abort the process
                    loss = self._loss()
                    _say(
                        "\n".join(
                            [f"error: {loss.problem}", *(f"  {key:<9} {text}" for key, text in loss.details.items())]
                        )
                    )
                    os._exit(ExitCode.PREEMPTED)
                return

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that get work, as `ray.nodes` describes them."""
        import ray

        self.check_head(now=True)  # Ray would ask it for a minute
        return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in self.left_out]

    def resources(self) -> dict[str, float]:
        """What the nodes that get work have."""
        total: dict[str, float] = {}
        for node in self.nodes():
            for kind, amount in node["Resources"].items():
                total[kind] = total.get(kind, 0) + amount
        return total

    def cpus(self) -> int:
        """Those of the nodes that get work, at least one, as counted within the last `NODES_SECONDS`."""
        if time.monotonic() - self._counted_at >= NODES_SECONDS:
            self._cpus, self._counted_at = max(1, int(self.resources().get("CPU", 0))), time.monotonic()
        return self._cpus

    def free(self) -> dict[str, float]:
        """What is free of it, at least: others may use nodes that get no work from here."""
        import ray

        self.check_head(now=True)
        free: dict[str, float] = dict(ray.available_resources())
        for node in ray.nodes() if self.left_out else []:
            if node["Alive"] and node["NodeID"] in self.left_out:
                for kind, amount in node["Resources"].items():
                    free[kind] = max(0.0, free.get(kind, 0) - amount)
        return free

    def placement(self) -> dict[str, Any]:
        """Options of a task or actor that keep it off the nodes that get no work."""
        return {"label_selector": {NODE: f"!in({','.join(self.left_out)})"}} if self.left_out else {}

    def leave_out(self, node: str, host: str, problem: str) -> None:
        """Gives a node no work any more, and says so once.

        Raises:
            TargetError: no node is left.
        """
        if node in self.left_out:
            return
        self.left_out[node] = problem
        if not any(other["Resources"].get("CPU", 0) >= 1 for other in self.nodes()):
            raise TargetError(
                f"no node of the Ray cluster at {self._address} can do the work"
                if self.attached
                else "Ray cannot do the work",
                expected="the versions of the driver, and the same files under the same paths",
                found=f"node {host}: {problem}",
                likely="a folder on the local disk of one machine, or another environment on the nodes",
                do="correct the nodes, or leave --ray-address out; then run the same command again to resume"
                if self.attached
                else "correct what the message names, then run the same command again to resume",
            )
        _say(f"node {host} is left out: {problem}")

    def remote(self, function: Callable[[Any], Any], look: Look | None, packages: Sequence[str], **options: Any) -> Any:
        """A remote function of a pickled `Message`; it gives node id, host, what is wrong with the node, the answer.

        Args:
            look: called once in each process of a cluster that runs it.
            packages: distributions that have to be the same there.
            options: of `ray.remote`.
        """
        import ray

        # A Ray of our own runs where this process runs.
        work = pickle.dumps(Message.of((function, look if self.attached else None), *packages))

        def run(task: bytes) -> Any:
            # Sent by value, with nothing but bytes: it answers where our code cannot be imported, too.
            node, host = ray.get_runtime_context().get_node_id(), socket.gethostname()
            try:
                from cluster.code import done_here

                return node, host, *done_here(work, task)
            except ImportError as error:
                return node, host, f"it lacks what the job imports: {error}", None

        return ray.remote(**options)(run) if options else ray.remote(run)

    def look_at_nodes(self, look: Look, *packages: str, stopping: Callable[[], object]) -> bool:
        """Looks at every node that gets work, unless it has no CPU, and leaves out those with which something is wrong.

        Args:
            packages: as of `remote`.
            stopping: ends the look early if it is true.

        Returns:
            Whether a node was left out.

        Raises:
            TargetError: no node is left.
        """
        import ray
        from ray.exceptions import RayError, RuntimeEnvSetupError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if not self.attached:
            return False
        before, deadline = len(self.left_out), time.monotonic() + NODE_SECONDS
        # No CPU is requested, so that a node that is busy with another job answers too.
        run = self.remote(_ignore, look, packages, num_cpus=0)
        message = pickle.dumps(Message.of(None, *packages))
        asked = {
            run.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                message
            ): node
            for node in self.nodes()
            if node["Resources"].get("CPU", 0)
        }
        while asked and not stopping() and time.monotonic() < deadline:
            for done in self.wait(list(asked), seconds=LOOK_SECONDS):
                node = asked.pop(done)
                with suppress(RayError):  # the node has gone
                    try:
                        _, host, problem, _ = ray.get(done)
                    except RuntimeEnvSetupError as error:
                        host, problem = node["NodeManagerHostname"], str(error).partition("\n")[0]
                    if problem:
                        self.leave_out(node["NodeID"], host, problem)
        if not stopping():
            for node in asked.values():
                problem = f"it does not answer within {NODE_SECONDS:.0f} seconds"
                self.leave_out(node["NodeID"], node["NodeManagerHostname"], problem)
        return len(self.left_out) > before


def _ignore(_: Any) -> None:
    """The work of a task that only looks at its node."""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
