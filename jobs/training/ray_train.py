"""Ranks as workers of Ray Train, and what they and the driver tell each other; the only file that knows Ray Train.

It is imported inside a `ray_session` alone, which sets what Ray reads when it is imported.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.code import Message
from cluster.errors import TargetError
from cluster.ray_session import RaySession
from cluster.torchrun import ON_LOOPBACK
from jobs.training.environment import STORES_VARIABLE
from jobs.training.messages import Lost, RankJob, Size, Stopped, StopRequest
from musicvae.errors import DivergedError
from musicvae.training.heartbeat import group_seconds
from musicvae.training.stopping import Stop

ASK_SECONDS = 1.0
"""Between two looks of a rank at what the driver asks."""
DRAIN_SECONDS = 5.0
"""Between two looks at whether a node is about to be taken away."""
NEVER_SECONDS = 1e9
"""Ray's own way to more workers kills those that run; `Ranks.room` lets them save first."""
LINES_KEPT = 10_000
LINES_SECONDS = 5.0
WORDS = "words"
SAME_PACKAGES = ("torch",)
"""Of the driver and all nodes."""
TRAIN_VARIABLES = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
"""A group that was planned for a node which has gone is planned anew after so long."""


class Ranks:
    """One launch on Ray: attempts follow one another, each with all its workers anew.

    Args:
        stopping: whether the launch is to stop, so that nobody waits for nodes.

    Raises:
        TargetError: the cluster could not even hold the fewest workers if it were empty, and no nodes are added to it.
    """

    def __init__(self, size: Size, storage: Path, session: RaySession, stopping: Callable[[], object]) -> None:
        self.size, self._stopping = size, stopping
        self.use_gpu = _use_gpu(size, session, stopping)
        self._storage, self._session = storage, session
        self._mailbox: Any = None
        self._end: Any = None
        self._said: Any = None
        self._world_size = 0

    def start(self, job: RankJob) -> None:
        """Begins an attempt on the nodes that see the run and have the same versions.

        Raises:
            TargetError: there is no such node, they are too small, or the head is lost.
        """
        self.end()
        self._said, self._world_size = None, 0
        session = self._session
        if session.look_at_nodes(job.blind_spot, *SAME_PACKAGES, stopping=self._stopping):
            _use_gpu(self.size, session, self._stopping)
        session.note_progress()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Words have a thread of their own, one, so that they keep their order.
        options: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": {WORDS: 1}, "scheduling_strategy": here}
        self._mailbox = ray.remote(**options, runtime_env={"env_vars": TRAIN_VARIABLES})(_Mailbox).remote()
        self._end = self._mailbox.run.remote(
            Message.of(job, *SAME_PACKAGES),
            self.size,
            str(self._storage),
            # On a cluster workers may be another user's, or on machines that do not see this folder.
            stores="" if session.attached else str(self._storage),
            use_gpu=self.use_gpu,
            label_selector=session.placement().get("label_selector"),
        )

    def ended(self, seconds: float, *, begun: bool) -> bool:
        """Waits a while for the end of the attempt; gives whether it has come.

        Args:
            begun: whether the ranks have; until then they may wait for room, which is said.

        Raises:
            TargetError: the head is lost.
        """
        who, gpus = f"{self.size.least} worker(s)", {"GPU": self.size.least} if self.use_gpu else {}
        needs = {} if begun else {"CPU": self.size.least * self.size.cpus, **gpus}
        return bool(self._session.wait([self._end], seconds=seconds, who=who, needs=needs))

    def outcome(self) -> Stopped | DivergedError | Lost | None:
        """What all ranks ended with alike, None for a finished run; or that some ended otherwise."""
        try:
            return ray.get(self._end)
        except RayError as error:
            self._session.check_head(now=True)
            return Lost(str(error), {})

    def end(self) -> None:
        """Ends the attempt at once, with all its workers."""
        if self._mailbox is not None and not self._session.lost:
            ray.kill(self._mailbox)

    def ask(self, asked: StopRequest) -> None:
        """Lets the ranks know, now and as long as the attempt lasts."""
        self._mailbox.ask.options(concurrency_group=WORDS).remote(asked)

    def lines(self) -> tuple[list[str], int]:
        """The lines that rank 0 has for the user, each once, and the world size; 0 before the ranks have begun.

        Raises:
            TargetError: the head is lost.
        """
        self._said = self._said or self._mailbox.drain.options(concurrency_group=WORDS).remote()
        if not self._session.wait([self._said], seconds=LINES_SECONDS):
            return [], self._world_size
        said, self._said = self._said, None
        try:
            lines, self._world_size = ray.get(said)
        except RayError:  # the attempt has ended: `outcome` tells why
            return [], 0
        return lines, self._world_size

    def room(self) -> int:
        """How many workers more the free part of the cluster would hold."""
        free = self._session.free()
        room = int(free.get("CPU", 0) // self.size.cpus)
        return min(room, int(free.get("GPU", 0))) if self.use_gpu else room


def _use_gpu(size: Size, session: RaySession, stopping: Callable[[], object]) -> bool:
    have = session.resources()
    gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 0))
    use_gpu = size.device == "cuda" or (size.device == "auto" and gpus >= size.least)
    lacking = [f"{cpus} CPUs"] if cpus < size.least * size.cpus else []
    if use_gpu and gpus < size.least:
        lacking.append(f"{gpus} GPUs")
    needs = {"CPU": size.cpus, **({"GPU": 1} if use_gpu else {})}
    if lacking and not session.wait_for_nodes(needs, size.least, who=f"{size.least} worker(s)", stopping=stopping):
        raise TargetError(
            f"the Ray cluster is too small for {size.least} worker(s)",
            expected=f"{size.cpus} CPU(s){' and a GPU' if use_gpu else ''} for each",
            found=" and ".join(lacking) + " in all",
            likely="nodes have not joined yet",
            do="use fewer --workers, or MIN:MAX to start with the available nodes",
        )
    return use_gpu


class _Mailbox:
    """An actor on the driver's node that runs one attempt, and where driver and ranks leave each other word.

    The attempt ends with it, and it ends with the driver.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._asked: StopRequest | None = None
        self._world_size = 0

    def run(
        self,
        message: Message,
        size: Size,
        storage: str,
        *,
        stores: str,
        use_gpu: bool,
        label_selector: dict[str, str] | None,
    ) -> Stopped | DivergedError | Lost | None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

        mailbox, job = ray.get_runtime_context().current_actor, message.open()
        trainer = TorchTrainer(
            _work,
            train_loop_config={"message": message, "mailbox": mailbox, "use_gpu": use_gpu, "cpus": size.cpus},
            torch_config=_torch_config(int(group_seconds(job.settings["resources"]["hang_seconds"])), stores),
            scaling_config=ScalingConfig(
                num_workers=size.least if size.least == size.most else (size.least, size.most),
                use_gpu=use_gpu,
                resources_per_worker={"CPU": size.cpus, **({"GPU": 1} if use_gpu else {})},
                elastic_resize_monitor_interval_s=NEVER_SECONDS,
                label_selector=label_selector,
            ),
            run_config=RunConfig(
                name=f"attempt-{job.attempt}",
                storage_path=storage,
                # Whether to try again is the driver's to decide: it knows what a restart cannot cure.
                failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
            ),
        )
        try:
            return trainer.fit().return_value
        except WorkerGroupError as error:
            return Lost(str(error), error.worker_failures)
        except ControllerError as error:
            return Lost(str(error.controller_failure), {})
        except (TrainingFailedError, RayError) as error:
            return Lost(str(error), {})

    def ask(self, asked: StopRequest) -> None:
        self._asked = asked

    def asked(self) -> StopRequest | None:
        return self._asked

    def begun(self, world_size: int) -> None:
        self._world_size = world_size

    def say(self, line: str) -> None:
        self._lines.append(line)

    def drain(self) -> tuple[list[str], int]:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return lines, self._world_size


def _torch_config(seconds: int, stores: str) -> Any:
    """How Ray Train has the ranks meet: those of one node in a file that only they can open, and on loopback.

    torch's own store is a port on all interfaces, where everybody may read and write.

    Args:
        seconds: that a collective may take.
        stores: a folder of the driver's for such files; if empty, that of the node for temporary files.
    """
    from ray.train.torch import TorchConfig

    class Meetings(TorchConfig().backend_cls):
        folder = ""

        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            if len({*worker_group.execute(_node)}) > 1:
                super().on_start(worker_group, backend_config)
                return
            self.folder = worker_group.execute_single(0, mkdtemp, prefix="musicvae-ranks-", dir=stores or None)
            worker_group.execute(_take_place, self.folder)

        def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
            try:
                super().on_shutdown(worker_group, backend_config)
            finally:  # also where another rank has died
                if self.folder:
                    worker_group.execute_single(0, rmtree, self.folder, ignore_errors=True)

    class Config(TorchConfig):
        @property
        def backend_cls(self) -> type:
            return Meetings

    return Config(timeout_s=seconds)


def _node() -> str:
    return ray.get_runtime_context().get_node_id()


def _take_place(stores: str) -> None:
    """Tells a rank in torchrun's words which one it is, as Ray Train does, and where it meets the others."""
    import ray.train

    context = ray.train.get_context()
    os.environ |= {
        **ON_LOOPBACK,
        STORES_VARIABLE: stores,
        "RANK": str(context.get_world_rank()),
        "WORLD_SIZE": str(context.get_world_size()),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
    }


class _Listener:
    """Listens, beside a rank's work, to the driver and to Ray's word that a node is to be taken away."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox
        self._asked: StopRequest | None = None
        self._draining = False
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch_nodes, daemon=True).start()

    def asked(self) -> StopRequest:
        requested = self._asked or StopRequest()
        return StopRequest(requested.leave, requested.again or self._draining)

    def _listen(self) -> None:
        while True:
            try:
                self._asked = ray.get(self._mailbox.asked.options(concurrency_group=WORDS).remote())
            except RayError:  # the driver or its node is gone: nobody would read what this rank ends with
                self._asked = StopRequest(Stop.STOP_FOR_SCHEDULER)
                return
            time.sleep(ASK_SECONDS)

    def _watch_nodes(self) -> None:
        import ray.train

        with suppress(RayError):
            while ray.train.get_preemption_info() is None:  # waits for the same call of all other ranks
                time.sleep(DRAIN_SECONDS)
            self._draining = True


def _work(config: dict[str, Any]) -> Stopped | DivergedError | None:
    import ray.train
    import torch
    from ray.train.torch import get_device

    from jobs.training.rank import train_as_rank

    job, mailbox, context = config["message"].open(), config["mailbox"], ray.train.get_context()
    if context.get_world_rank() == 0:
        mailbox.begun.options(concurrency_group=WORDS).remote(context.get_world_size())
    return train_as_rank(
        job,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=get_device() if config["use_gpu"] else torch.device("cpu"),
        cpus=config["cpus"],
        asked=_Listener(mailbox).asked,
        emit=mailbox.say.options(concurrency_group=WORDS).remote,
    )
