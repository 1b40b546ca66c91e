"""Ranks as workers of Ray Train, and what they and the driver tell each other; the only file that knows Ray Train."""

import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.tasks import ray_session
from jobs.command.provenance import our_code
from musicvae.errors import ConfigError, DivergedError
from musicvae.training.stopping import Wish

if TYPE_CHECKING:
    from jobs.training.messages import Asked, RankJob, Stopped

ASK_SECONDS = 1.0
"""Between two looks of a rank at what the driver asks."""
DRAIN_SECONDS = 5.0
"""Between two looks at whether a node is about to be taken away."""
GROUP_SECONDS = 600
NEVER_SECONDS = 1e9
"""Ray's own way to more workers kills those that run; `Ranks.room` lets them save first."""
LINES_KEPT = 10_000
WORDS = "words"
TRAIN_VARIABLES = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
"""A group that was planned for a node which has gone is planned anew after so long."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers there may be, and what each of them gets."""

    least: int
    most: int
    cpus: int
    device: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Ranks ended without an agreement to do so.

    Attributes:
        reason: in Ray's words.
        errors: what each failed rank raised, as far as Ray knows; empty if no rank came so far.
    """

    reason: str
    errors: Mapping[int, BaseException]


class Ranks:
    """One launch on Ray: attempts follow one another, each with all its workers anew."""

    def __init__(self, size: Size, storage: Path, *, use_gpu: bool) -> None:
        self.size, self.use_gpu = size, use_gpu
        self._storage = storage
        self._desk: Any = None
        self._end: Any = None

    def start(self, job: "RankJob") -> None:
        """Begins an attempt."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.end()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        # Words have a thread of their own, one, so that they keep their order.
        options: dict[str, Any] = {"num_cpus": 0, "concurrency_groups": {WORDS: 1}, "scheduling_strategy": here}
        self._desk = ray.remote(**options, runtime_env={"env_vars": TRAIN_VARIABLES})(_Desk).remote()
        self._end = self._desk.run.remote(job, self.size, str(self._storage), use_gpu=self.use_gpu)

    def ended(self, seconds: float) -> bool:
        """Waits a while for the end of the attempt; gives whether it has come."""
        import ray

        return bool(ray.wait([self._end], timeout=seconds)[0])

    def outcome(self) -> "Stopped | DivergedError | Lost | None":
        """What all ranks ended with alike, None for a finished run; or that some ended otherwise."""
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(self._end)
        except RayError as error:
            return Lost(str(error), {})

    def end(self) -> None:
        """Ends the attempt at once, with all its workers."""
        import ray

        if self._desk is not None:
            ray.kill(self._desk)

    def ask(self, asked: "Asked") -> None:
        """Lets the ranks know, now and as long as the attempt lasts."""
        self._desk.ask.options(concurrency_group=WORDS).remote(asked)

    def said(self) -> tuple[list[str], int]:
        """The lines that rank 0 has for the user, each once, and the world size; 0 before the ranks have begun."""
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(self._desk.take.options(concurrency_group=WORDS).remote())
        except RayError:  # the attempt has ended: `outcome` tells why
            return [], 0

    def room(self) -> int:
        """How many workers more the free part of the cluster would hold."""
        import ray

        free = ray.available_resources()
        room = int(free.get("CPU", 0) // self.size.cpus)
        return min(room, int(free.get("GPU", 0))) if self.use_gpu else room


@contextmanager
def ranks_on_ray(address: str | None, size: Size) -> Iterator[Ranks]:
    """Ranks on the cluster at an address, or on a Ray of this process's own.

    Raises:
        TargetError: no cluster answers.
        ConfigError: it could not even hold the fewest workers if it were empty.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ray-train-") as storage,
        ray_session(address, cpus=size.most * size.cpus, code=our_code()),
    ):
        ranks = Ranks(size, Path(storage), use_gpu=_use_gpu(size))
        try:
            yield ranks
        finally:
            ranks.end()


def _use_gpu(size: Size) -> bool:
    import ray

    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 0))
    use_gpu = size.device == "cuda" or (size.device == "auto" and gpus >= size.least)
    lacking = [f"{cpus} CPUs"] if cpus < size.least * size.cpus else []
    if use_gpu and gpus < size.least:
        lacking.append(f"{gpus} GPUs")
    if lacking:
        raise ConfigError(
            f"the Ray cluster is too small for {size.least} worker(s)",
            expected=f"{size.cpus} CPU(s){' and a GPU' if use_gpu else ''} for each",
            found=" and ".join(lacking) + " in all",
            likely="nodes that have not joined yet",
            do="fewer --workers, or MIN:MAX to begin with the nodes that are there",
        )
    return use_gpu


class _Desk:
    """An actor on the driver's node that runs one attempt, and where driver and ranks leave each other word.

    The attempt ends with it, and it ends with the driver.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._asked: Asked | None = None
        self._world_size = 0

    def run(
        self, job: "RankJob", size: Size, storage: str, *, use_gpu: bool
    ) -> "Stopped | DivergedError | Lost | None":
        import ray
        from ray.exceptions import RayError
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

        desk = ray.get_runtime_context().current_actor
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job, "desk": desk, "use_gpu": use_gpu, "cpus": size.cpus},
            torch_config=TorchConfig(timeout_s=GROUP_SECONDS),
            scaling_config=ScalingConfig(
                num_workers=size.least if size.least == size.most else (size.least, size.most),
                use_gpu=use_gpu,
                resources_per_worker={"CPU": size.cpus, **({"GPU": 1} if use_gpu else {})},
                elastic_resize_monitor_interval_s=NEVER_SECONDS,
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

    def ask(self, asked: "Asked") -> None:
        self._asked = asked

    def asked(self) -> "Asked | None":
        return self._asked

    def begun(self, world_size: int) -> None:
        self._world_size = world_size

    def say(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> tuple[list[str], int]:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        return lines, self._world_size


class _Ears:
    """Listens, beside a rank's work, to the driver and to Ray's word that a node is to be taken away."""

    def __init__(self, desk: Any) -> None:
        self._desk = desk
        self._asked: Asked | None = None
        self._draining = False
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch_nodes, daemon=True).start()

    def asked(self) -> "Asked":
        from jobs.training.messages import Asked

        own = self._asked or Asked()
        return Asked(own.leave, own.again or self._draining)

    def _listen(self) -> None:
        import ray
        from ray.exceptions import RayError

        from jobs.training.messages import Asked

        while True:
            try:
                self._asked = ray.get(self._desk.asked.options(concurrency_group=WORDS).remote())
            except RayError:  # the driver or its node is gone: nobody would read what this rank ends with
                self._asked = Asked(Wish.STOP_FOR_SCHEDULER)
                return
            time.sleep(ASK_SECONDS)

    def _watch_nodes(self) -> None:
        import ray.train
        from ray.exceptions import RayError

        with suppress(RayError):
            while ray.train.get_preemption_info() is None:  # waits for the same call of all other ranks
                time.sleep(DRAIN_SECONDS)
            self._draining = True


def _work(config: dict[str, Any]) -> "Stopped | DivergedError | None":
    import ray.train
    import torch
    from ray.train.torch import get_device

    from jobs.training.worker import train_as_rank

    desk, context = config["desk"], ray.train.get_context()
    if context.get_world_rank() == 0:
        desk.begun.options(concurrency_group=WORDS).remote(context.get_world_size())
    return train_as_rank(
        config["job"],
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        device=get_device() if config["use_gpu"] else torch.device("cpu"),
        cpus=config["cpus"],
        asked=_Ears(desk).asked,
        tell=desk.say.options(concurrency_group=WORDS).remote,
    )
