"""The driver of `jobs.train_on_ray`: starts the ranks, starts them again where that helps, says how it ended."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import ExitCode, TargetError
from cluster.tasks import ray_session
from jobs.command.provenance import code_for_ray, provenance
from jobs.command.stop_signals import StopSignals
from jobs.training import environment, failures, rank_logs
from jobs.training.messages import Lost, RankJob, Size, Stopped, StopRequest
from jobs.training.plan import TrainPlan
from musicvae.errors import DivergedError, FolderInUseError, StoppedError, UserError
from musicvae.training.rank_records import RankRecords
from musicvae.training.stopping import Stop

if TYPE_CHECKING:
    from jobs.training.ray_train import Ranks

LOOK_SECONDS = 0.5
GROW_SECONDS = 60.0
"""Between two looks for room for more workers; twice as long after each restart for it, since it costs time."""
UNBORN_SECONDS = 1.0
"""Ranks that have not begun have nothing to save; those that begin right now find the request."""


@dataclass(slots=True)
class RayLaunch:
    """One launch: attempts on Ray, until the run is finished, stopped, or cannot go on.

    Args:
        plan: of a run whose folder this opens.
        shards: where the ranks find them.
        init_from: what the ranks load a new run's weights from.
        launch_id: its identity.
        signals: what this process hears.
    """

    plan: TrainPlan
    shards: str
    init_from: Path | None
    launch_id: str
    signals: StopSignals

    def train(self, ranks: "Ranks") -> None:
        """Returns when the run is finished.

        Raises:
            StoppedError: it was asked to stop; everything is saved.
            UserError: it cannot go on; what no restart cures, or too many that brought no new checkpoint.
            TargetError: the head of the cluster is lost, or no node can do the work.
        """
        settings = self.plan.settings.model_dump(mode="json")
        self.plan.folder.open(self.plan.identity, settings, provenance())
        with self.plan.folder.launching(self.launch_id):
            try:
                self._train(ranks, settings)
            except TargetError as error:
                is_saved = error.exit_code is ExitCode.PREEMPTED
                self.plan.folder.close_status(self.launch_id, "preempted" if is_saved else "failed")
                raise

    def _train(self, ranks: "Ranks", settings: dict[str, Any]) -> None:
        plan, resources = self.plan, self.plan.settings.resources
        origin = plan.folder.read_config()["provenance"]
        attempt, grow_seconds = 0, GROW_SECONDS
        restarts = failures.Restarts(plan.folder, resources.max_restarts)
        while True:
            job = RankJob(settings, self.shards, plan.folder.path, self.init_from, origin, self.launch_id, attempt)
            ranks.start(job)
            self._attend(ranks, grow_seconds)
            match ranks.outcome():
                case None:
                    return
                case DivergedError() as diverged:
                    raise diverged
                case Stopped(again=True) as stopped if not self.signals.any:
                    print(f"nodes joined or left; all ranks restart from step {stopped.step}", file=sys.stderr)
                    grow_seconds *= 2
                case Stopped() as stopped:
                    raise StoppedError(stopped.step, by_user=stopped.by_user)
                case Lost() as lost:
                    self._leave_if_asked()
                    failure = self._failure(attempt, lost)
                    restarts.count_failure()
                    if restarts.used_up or self._is_final(failure, lost, attempt):
                        raise self._give_up(failure, lost, restarts)
                    restarts.tell(_one_line(failure, lost))
            attempt += 1

    def _attend(self, ranks: "Ranks", grow_seconds: float) -> None:
        """Shows what rank 0 says and hands signals on, until the attempt has ended.

        Raises:
            StoppedError: no rank was left to end it.
        """
        grow_at, give_up_at, world_size = time.monotonic() + grow_seconds, None, 0
        while not ranks.ended(LOOK_SECONDS, begun=bool(world_size)):
            world_size = self._show(ranks)
            if self.signals.any:
                ranks.ask(StopRequest(Stop.STOP_FOR_USER if self.signals.user else Stop.STOP_FOR_SCHEDULER))
                allowed = self.plan.settings.resources.shutdown_seconds if world_size else UNBORN_SECONDS
                give_up_at = give_up_at or time.monotonic() + allowed
                if time.monotonic() > give_up_at:
                    self._leave_if_asked()
            elif 0 < world_size < ranks.size.most and time.monotonic() > grow_at:
                grow_at = time.monotonic() + grow_seconds
                if ranks.room():
                    ranks.ask(StopRequest(again=True))
        self._show(ranks)

    def _show(self, ranks: "Ranks") -> int:
        lines, world_size = ranks.lines()
        for line in lines:
            print(line, flush=True)
        return world_size

    def _leave_if_asked(self) -> None:
        if self.signals.any:
            self.plan.folder.close_status(self.launch_id, "interrupted" if self.signals.user else "preempted")
            raise StoppedError(self.plan.folder.saved_step(), by_user=self.signals.user)

    def _failure(self, attempt: int, lost: Lost) -> failures.Failure | None:
        """What the failed ranks wrote down; the others were ended by Ray and say nothing of the cause."""
        if not lost.errors:
            return None
        files = RankRecords(self.plan.folder.ranks)
        records = [record for record in files.of(self.launch_id) if record.attempt == attempt]
        errors = [error for error in files.errors_of(self.launch_id) if error.attempt == attempt]
        return failures.first_failure(records, errors, failed=lost.errors)

    def _is_final(self, failure: failures.Failure | None, lost: Lost, attempt: int) -> bool:
        """Whether a restart would fail in the same way."""
        if attempt and any(isinstance(error, FolderInUseError) for error in lost.errors.values()):
            return False  # by a rank of the attempt before, on a node that Ray cannot reach
        user_categories = {
            failures.category_of(error) for error in lost.errors.values() if isinstance(error, UserError)
        }
        return bool(failures.FINAL & (user_categories | ({failure.category} if failure else set())))

    def _give_up(self, failure: failures.Failure | None, lost: Lost, restarts: failures.Restarts) -> UserError:
        diverged = failure is not None and failure.category == "diverged"
        verdict = asdict(failure) if failure else None
        self.plan.folder.close_status(self.launch_id, "diverged" if diverged else "failed", failure=verdict)
        for error in lost.errors.values():
            if isinstance(error, UserError) and failures.category_of(error) in failures.FINAL:
                return error
        log = rank_logs.log_of(self.plan.folder.path, failure.rank if failure else 0)
        message = f"{failure.message}\n{failure.traceback}".strip() if failure else lost.reason.strip()
        return UserError(
            f"{_one_line(failure, lost)}; {restarts.fruitless - 1} restart(s) without a new checkpoint",
            expected=f"a new checkpoint within {restarts.most} restarts (resources.max_restarts)",
            found=message.replace("\n", "\n            "),
            do=f"read {log}; then run the same command again to resume",
        )


@contextmanager
def ranks_on_ray(address: str | None, size: Size, stopping: Callable[[], object]) -> Iterator["Ranks"]:
    """Ranks on the cluster at an address, or on a Ray of this process's own.

    Args:
        stopping: as of `Ranks`.

    Raises:
        TargetError: no cluster answers, or as `Ranks`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ray-train-") as storage,
        ray_session(address, cpus=size.most * size.cpus, code=code_for_ray(variables=True)) as session,
    ):
        from jobs.training.ray_train import Ranks

        ranks = Ranks(size, Path(storage), session, stopping)
        try:
            yield ranks
        finally:
            ranks.end()


def size_of(workers: str, *, cpus: int, device: str, lanes: int) -> Size:
    """The size of a launch from `--workers`.

    Args:
        lanes: the largest world that the data can be shared among.

    Raises:
        ConfigError: no number of workers, or more than lanes.
    """
    least, most = environment.least_and_most("--workers", workers, unit="workers", do="--workers 8")
    environment.check_lanes(most, lanes, given=f"--workers {workers}", fewer="workers")
    return Size(least, most, cpus, device)


def _one_line(failure: failures.Failure | None, lost: Lost) -> str:
    return failure.one_line() if failure else f"the ranks were lost: {lost.reason.strip().splitlines()[-1]}"
