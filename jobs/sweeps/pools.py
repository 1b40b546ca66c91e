"""Where trials are trained: what the driver of a sweep needs of a pool, and processes of one machine.

The processes train one trial after another, without Ray, as for an element of a SLURM array.
"""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Protocol

from cluster.local import usable_cpus, usable_memory
from cluster.ray_session import amounts
from cluster.tasks import WorkerContext, end_with_parent, worker_processes
from jobs.command.stop_signals import HANDLED
from jobs.sweeps.settings import TrialResources
from jobs.training.messages import StopRequest
from musicvae.errors import ConfigError
from musicvae.training.stopping import Stop

if TYPE_CHECKING:
    from jobs.sweeps.trial import Trainer, TrialEnd, TrialJob

VISIBLE = "CUDA_VISIBLE_DEVICES"
END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Lost:
    """A process vanished while it trained.

    Attributes:
        reason: in the words of whoever ran it.
        out_of_memory: whether it was ended before its node ran out of memory.
    """

    reason: str
    out_of_memory: bool


class TrialPool(Protocol):
    """Processes that train one trial after another; one that crashed or used up its memory is replaced."""

    def room(self) -> bool:
        """Whether a trial can be started at once."""
        ...

    def start(self, job: "TrialJob") -> None:
        """Begins to train a trial; there has to be room."""
        ...

    def ended(self, seconds: float) -> "Sequence[tuple[TrialJob, TrialEnd | Lost]]":
        """Waits a while; gives what came of trials that ended meanwhile."""
        ...

    @property
    def running(self) -> Sequence[str]:
        """The trials that are being trained."""
        ...

    def why_waiting(self) -> str:
        """Why no more trials run than do; empty if nothing waits for room."""
        ...

    def ask_to_stop(self, stop: Stop) -> None:
        """Lets running trials save and leave."""
        ...


def room_on(node: Mapping[str, float], resources: TrialResources) -> int:
    """How many trials a node holds, by its CPU, GPU and memory (bytes) in all."""
    needs = resources.needs
    gpus = int(node.get("GPU", 0)) * int(1 / needs.pop("GPU", 1))  # no trial has parts of two
    room = min(int(node.get(kind, 0) // amount) for kind, amount in needs.items())
    return min(room, gpus) if resources.gpus else room


def too_small(resources: TrialResources, nodes: Sequence[Mapping[str, float]]) -> ConfigError:
    """That none of some nodes holds a trial."""
    most = {kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in resources.needs}
    return ConfigError(
        "no node can hold a trial",
        expected=f"{amounts(resources.needs)} on one node",
        found=f"at most {amounts(most)}",
        likely="nodes have not joined yet, or a trial requests too much",
        do="start larger nodes, or lower `resources` of the sweep",
    )


@dataclass(slots=True, eq=False)
class _Worker:
    """Attributes:
    work: jobs go there, and ends come from there.
    words: what is asked goes there.
    """

    process: BaseProcess
    work: Connection
    words: Connection
    job: "TrialJob | None" = None


class ProcessPool:
    """A `TrialPool`.

    Args:
        devices: CUDA's name of the GPU that each process sees, a process for each.
        context: what starts the processes.
    """

    def __init__(self, devices: Sequence[str], trainer: "Trainer", context: WorkerContext) -> None:
        self._devices, self._trainer, self._context = devices, trainer, context
        self._workers: dict[int, _Worker] = {}

    def room(self) -> bool:
        return self._free_slot() is not None

    def start(self, job: "TrialJob") -> None:
        slot = self._free_slot()
        assert slot is not None, "the driver asks for room first"
        if slot not in self._workers:
            self._workers[slot] = self._new_worker(self._devices[slot])
        worker = self._workers[slot]
        worker.job = job
        with suppress(BrokenPipeError):  # it has died between two trials: its end tells
            worker.work.send(job)

    def ended(self, seconds: float) -> "list[tuple[TrialJob, TrialEnd | Lost]]":
        watched = {worker.work: slot for slot, worker in self._workers.items()}
        ended_trials = []
        for connection in wait(list(watched), timeout=seconds):
            slot = watched[connection]  # pyright: ignore[reportArgumentType]
            worker = self._workers[slot]
            end = self._end_of(worker)
            if isinstance(end, Lost) or end.category == "memory":
                del self._workers[slot]
                _finish(worker)
            if worker.job is not None:
                ended_trials.append((worker.job, end))
            worker.job = None
        return ended_trials

    @property
    def running(self) -> list[str]:
        return [worker.job.trial for worker in self._workers.values() if worker.job is not None]

    def why_waiting(self) -> str:
        return ""

    def ask_to_stop(self, stop: Stop) -> None:
        for worker in self._workers.values():
            with suppress(BrokenPipeError):
                worker.words.send(StopRequest(stop))

    def end(self) -> None:
        """Ends all processes at once."""
        for worker in self._workers.values():
            _finish(worker)

    def _free_slot(self) -> int | None:
        busy = {slot for slot, worker in self._workers.items() if worker.job is not None}
        return next((slot for slot in range(len(self._devices)) if slot not in busy), None)

    def _new_worker(self, devices: str) -> _Worker:
        (work, their_work), (words, their_words) = self._context.Pipe(), self._context.Pipe()
        arguments = (self._trainer, devices, their_work, their_words)
        process = self._context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        # Ours alone may be open for an end of the process to be seen.
        their_work.close()
        their_words.close()
        return _Worker(process, work, words)

    def _end_of(self, worker: _Worker) -> "TrialEnd | Lost":
        try:
            return worker.work.recv()
        except (EOFError, OSError):
            worker.process.join()
            status = worker.process.exitcode or 0
            return Lost(f"its process ended by signal {-status}" if status < 0 else f"exit status {status}", False)


@contextmanager
def process_pool(
    resources: TrialResources, trainer: "Trainer", environment: Mapping[str, str] = os.environ
) -> Iterator[ProcessPool]:
    """As many processes as this machine, or what SLURM gave of it, has room for; they end with the block.

    Raises:
        ConfigError: it has room for none.
    """
    import torch

    names = [name for name in environment.get(VISIBLE, "").split(",") if name]
    gpus = names or [str(number) for number in range(torch.cuda.device_count())]
    here = {"CPU": usable_cpus(environment), "GPU": len(gpus), "memory": usable_memory(environment)}
    room = room_on(here, resources)
    if not room:
        raise too_small(resources, [here])
    devices = _devices(gpus, resources.gpus, min(room, resources.at_once or room))
    # CUDA does not work in a fork of a process that has begun with it.
    processes = (
        nullcontext(get_context("spawn")) if any(devices) else worker_processes(len(devices), trainer.__module__)
    )
    with processes as context:
        pool = ProcessPool(devices, trainer, context)
        try:
            yield pool
        finally:
            pool.end()


def _devices(gpus: Sequence[str], each: float, processes: int) -> list[str]:
    """The GPU of each process, which others may share; none where `each` is 0."""
    return [gpus[process // int(1 / each)] if each else "" for process in range(processes)]


def _finish(worker: _Worker) -> None:
    worker.work.close()
    worker.words.close()
    worker.process.join(0 if worker.job else END_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()


def _serve(trainer: "Trainer", devices: str, work: Connection, words: Connection) -> None:
    """What a process does until its pool ends."""
    # scancel and a terminal that closes reach every process; the driver is told too, and asks for what there is to do.
    for number in HANDLED:
        signal.signal(number, lambda number, frame: None)
    end_with_parent()
    os.environ[VISIBLE] = devices
    request = StopRequest()

    def asked() -> StopRequest:
        nonlocal request
        while words.poll():
            request = words.recv()
        return request

    with suppress(EOFError):
        while True:
            work.send(trainer(work.recv(), asked))
