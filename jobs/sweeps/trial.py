"""One start of a trial, in a process of its own or one that trained others before: an ordinary run of one rank."""

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.sweeps.ledger import EndState
from jobs.training import failures
from jobs.training.messages import RankJob, Stopped, StopRequest
from jobs.training.rank import train_as_rank
from jobs.training.settings import TrainConfig
from musicvae.data.manifest import open_shards
from musicvae.durable import read_lines
from musicvae.errors import Category, DiskFullError, DivergedError, FolderInUseError
from musicvae.folder_lock import DEAD_SECONDS
from musicvae.settings import parse_settings
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder, RunIdentity

HELD_SECONDS = 3 * DEAD_SECONDS
"""The process of the start before may live on for a moment, after its driver or its node was lost."""
TRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TrialJob:
    """A start of a trial; paths are absolute and mean the same on all nodes.

    Attributes:
        settings: all of them, of the whole trial.
        steps: optimizer steps that this start comes to.
        provenance: of a run folder that is new.
        launch_id: names this start.
        metric, maximize: which figure is the trial's value.
    """

    trial: str
    attempt: int
    settings: dict[str, Any]
    steps: int
    shards: str
    run: Path
    provenance: dict[str, Any]
    launch_id: str
    metric: str
    maximize: bool
    cpus: int
    use_gpu: bool


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """What came of it; fields as in the ledger's `End`."""

    state: EndState
    step: int = 0
    value: float | None = None
    figures: Mapping[str, float] | None = None
    category: Category | None = None
    message: str = ""
    host: str = ""


Trainer = Callable[[TrialJob, Callable[[], StopRequest]], TrialEnd]
"""Trains one trial until it ends or is asked to stop. It runs in another process and raises nothing of its own."""


def train_trial(job: TrialJob, asked: Callable[[], StopRequest]) -> TrialEnd:
    """Trains a trial up to `job.steps`; whatever goes wrong is its end, and no affair of others."""
    folder, stopped = RunFolder(job.run), False
    try:
        stopped = _train(job, folder, asked)
    except DivergedError as error:
        return _ended(job, folder, "diverged", "diverged", error)
    except DiskFullError as error:
        return _ended(job, folder, "stopped", "disk", error)  # no fault of the trial, which goes on when there is room
    except Exception as error:
        if folder.config.exists() and not isinstance(error, FolderInUseError):
            folder.finish_status("failed")
        return _ended(job, folder, "failed", failures.category_of(error), error)
    end = _ended(job, folder, "stopped" if stopped else "finished")
    if end.state == "finished" and end.value is None:
        message = f"no evaluation gave a finite {job.metric}: see {folder.metrics}"
        return TrialEnd("failed", step=end.step, category="config", message=message, host=end.host)
    return end


def end_of_lost(job: TrialJob, reason: str, *, out_of_memory: bool, leaving: bool) -> TrialEnd:
    """The end of a start whose process has vanished, from what it wrote down before.

    Args:
        reason: why it is gone, as far as one can tell from outside.
        out_of_memory: whether its node ended it to save itself.
        leaving: whether the driver was told to leave. A signal to all processes, as scancel sends it, ends Ray's before
            they can save, and that is no failure of the trial.
    """
    folder, records = RunFolder(job.run), RankRecords(RunFolder(job.run).ranks)
    failure = failures.first_failure(records.of(job.launch_id), records.errors_of(job.launch_id))
    category: Category = failure.category if failure else "killed"
    if out_of_memory:
        category = "memory"
    stopped = leaving and category == "killed"
    if folder.config.exists():
        folder.finish_status("preempted" if stopped else "failed")
    if stopped:
        return TrialEnd("stopped", step=_step(folder), host=failure.host if failure else "")
    state: EndState = "diverged" if category == "diverged" else "failed"
    return TrialEnd(
        state,
        step=_step(folder),
        category=category,
        message=failure.message if failure else reason,
        host=failure.host if failure else "",
    )


def open_trial(job: TrialJob) -> TrainConfig:
    """Makes the trial's run folder, or finds that it is there; gives its settings.

    Raises:
        ConfigError: it cannot be made, or holds something else.
    """
    settings = parse_settings(TrainConfig, job.settings)
    data = settings.data
    manifest = open_shards(job.shards, cache_dir=data.cache_dir, cache_gib=data.cache_gib).manifest()
    identity = RunIdentity.of(settings.result_settings(), manifest)
    RunFolder(job.run).open(identity, job.settings, job.provenance)
    return settings


def _train(job: TrialJob, folder: RunFolder, asked: Callable[[], StopRequest]) -> bool:
    """Gives whether it was stopped."""
    settings = open_trial(job)
    train = settings.train.model_copy(update={"steps": job.steps})
    rank_job = RankJob(
        settings.model_copy(update={"train": train}).model_dump(mode="json"),
        job.shards,
        job.run,
        None,
        folder.read_config()["provenance"],
        job.launch_id,
        job.attempt,
    )
    give_up_at = time.monotonic() + HELD_SECONDS
    while True:
        try:
            ended = train_as_rank(
                rank_job,
                rank=0,
                world_size=1,
                device=torch.device("cuda", 0) if job.use_gpu else torch.device("cpu"),
                cpus=job.cpus,
                asked=asked,
                emit=lambda line: None,
            )
        except FolderInUseError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(TRY_SECONDS)
            continue
        if isinstance(ended, DivergedError):
            raise ended
        return isinstance(ended, Stopped)


def _ended(
    job: TrialJob,
    folder: RunFolder,
    state: EndState,
    category: Category | None = None,
    error: BaseException | None = None,
) -> TrialEnd:
    evaluations = [line for line in read_lines(folder.metrics) if job.metric in line and line["step"] <= job.steps]
    choose = max if job.maximize else min
    best = choose(evaluations, key=lambda line: line[job.metric], default={})
    return TrialEnd(
        state,
        step=_step(folder),
        value=best.get(job.metric),
        figures={name: value for name, value in best.items() if name.startswith("validation.") or name == "step"},
        category=category,
        message=failures.message_of(error)[0] if error else "",
        host=socket.gethostname(),
    )


def _step(folder: RunFolder) -> int:
    return folder.read_status().get("step", 0)
