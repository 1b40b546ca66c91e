"""The driver of `jobs.train_on_ray`: starts the ranks, starts them again where that helps, says how it ended."""

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from jobs.command.provenance import provenance
from jobs.command.stop_signals import StopSignals
from jobs.training.failures import FINAL, Failure, category_of, first_failure
from jobs.training.messages import Asked, RankJob, Stopped
from jobs.training.plan import TrainPlan
from jobs.training.rank_logs import log_of
from jobs.training.ray_train import Lost, Ranks, Size
from musicvae.errors import ConfigError, DivergedError, FolderInUseError, StoppedError, UserError
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import checkpoints, step_of
from musicvae.training.stopping import Wish

LOOK_SECONDS = 0.5
GROW_SECONDS = 60.0
"""Between two looks for room for more workers; twice as long after each restart for it, since it costs time."""
UNBORN_SECONDS = 5.0
"""Ranks that have not begun have nothing to save; those that begin right now find the wish."""


@dataclass(slots=True)
class RayLaunch:
    """One launch: attempts on Ray, until the run is finished, stopped, or cannot go on.

    Args:
        plan: of a run whose folder this opens.
        shards: where the ranks find them.
        init_from: what the ranks load a new run's weights from.
        launch: its identity.
        signals: what this process hears.
    """

    plan: TrainPlan
    shards: str
    init_from: Path | None
    launch: str
    signals: StopSignals

    def train(self, ranks: Ranks) -> None:
        """Returns when the run is finished.

        Raises:
            StoppedError: it was asked to stop; everything is saved.
            UserError: it cannot go on; what no restart cures, or too many that brought no new checkpoint.
        """
        plan, resources = self.plan, self.plan.settings.resources
        settings = plan.settings.model_dump(mode="json")
        plan.folder.open(plan.identity, settings, provenance())
        origin = plan.folder.read_config()["provenance"]
        attempt, fruitless, saved, grow_seconds = 0, 0, self._saved_step(), GROW_SECONDS
        while True:
            job = RankJob(settings, self.shards, plan.folder.path, self.init_from, origin, self.launch, attempt)
            ranks.start(job)
            self._attend(ranks, grow_seconds)
            match ranks.outcome():
                case None:
                    return
                case DivergedError() as diverged:
                    raise diverged
                case Stopped(again=True) as stopped if not self.signals.any:
                    print(f"nodes come or go; all ranks start again from step {stopped.step}", file=sys.stderr)
                    grow_seconds *= 2
                case Stopped() as stopped:
                    raise StoppedError(stopped.step, by_user=stopped.by_user)
                case Lost() as lost:
                    self._leave_if_asked()
                    failure = self._failure(attempt, lost)
                    step = self._saved_step()
                    fruitless, saved = (1 if step > saved else fruitless + 1), step
                    if fruitless > resources.max_restarts or self._is_final(failure, lost, attempt):
                        raise self._give_up(failure, lost, fruitless)
                    print(f"{_one_line(failure, lost)}; all ranks start again from step {step}", file=sys.stderr)
            attempt += 1

    def _attend(self, ranks: Ranks, grow_seconds: float) -> None:
        """Shows what rank 0 says and hands signals on, until the attempt has ended.

        Raises:
            StoppedError: no rank was left to end it.
        """
        grow_at, give_up_at = time.monotonic() + grow_seconds, None
        while not ranks.ended(LOOK_SECONDS):
            world_size = self._show(ranks)
            if self.signals.any:
                ranks.ask(Asked(Wish.STOP_FOR_USER if self.signals.user else Wish.STOP_FOR_SCHEDULER))
                allowed = self.plan.settings.resources.shutdown_seconds if world_size else UNBORN_SECONDS
                give_up_at = give_up_at or time.monotonic() + allowed
                if time.monotonic() > give_up_at:
                    self._leave_if_asked()
            elif 0 < world_size < ranks.size.most and time.monotonic() > grow_at:
                grow_at = time.monotonic() + grow_seconds
                if ranks.room():
                    ranks.ask(Asked(again=True))
        self._show(ranks)

    def _show(self, ranks: Ranks) -> int:
        lines, world_size = ranks.said()
        for line in lines:
            print(line, flush=True)
        return world_size

    def _leave_if_asked(self) -> None:
        if self.signals.any:
            self.plan.folder.close_status(self.launch, "interrupted" if self.signals.user else "preempted")
            raise StoppedError(self._saved_step(), by_user=self.signals.user)

    def _failure(self, attempt: int, lost: Lost) -> Failure | None:
        """What the failed ranks wrote down; the others were ended by Ray and say nothing of the cause."""
        if not lost.errors:
            return None
        files = RankRecords(self.plan.folder.ranks)
        records = [record for record in files.of(self.launch) if record.attempt == attempt]
        errors = [error for error in files.errors_of(self.launch) if error.attempt == attempt]
        return first_failure(records, errors, failed=lost.errors)

    def _is_final(self, failure: Failure | None, lost: Lost, attempt: int) -> bool:
        """Whether a restart would fail in the same way."""
        if attempt and any(isinstance(error, FolderInUseError) for error in lost.errors.values()):
            return False  # by a rank of the attempt before, on a node that Ray cannot reach
        own = {category_of(error) for error in lost.errors.values() if isinstance(error, UserError)}
        return bool(FINAL & (own | ({failure.category} if failure else set())))

    def _give_up(self, failure: Failure | None, lost: Lost, fruitless: int) -> UserError:
        diverged = failure is not None and failure.category == "diverged"
        verdict = asdict(failure) if failure else None
        self.plan.folder.close_status(self.launch, "diverged" if diverged else "failed", failure=verdict)
        for error in lost.errors.values():
            if isinstance(error, UserError) and category_of(error) in FINAL:
                return error
        found = f"{failure.message}\n{failure.traceback}".strip() if failure else lost.reason.strip()
        return UserError(
            f"{_one_line(failure, lost)}; {fruitless - 1} restart(s) brought no new checkpoint",
            expected=f"a new checkpoint within {self.plan.settings.resources.max_restarts} restarts "
            "(resources.max_restarts)",
            found=found.replace("\n", "\n            "),
            do=f"look at {log_of(self.plan.folder.path, failure.rank if failure else 0)}; the same command goes on",
        )

    def _saved_step(self) -> int:
        found = checkpoints(self.plan.folder.checkpoints)
        return step_of(found[-1]) if found else 0


def size_of(workers: str, *, cpus: int, device: str, lanes: int) -> Size:
    """The size of a launch from `--workers`.

    Args:
        lanes: the largest world that the data can be shared among.

    Raises:
        ConfigError: no number of workers, or more than lanes.
    """
    low, separator, high = workers.partition(":")
    try:
        least, most = int(low), int(high if separator else low)
    except ValueError:
        least = most = 0
    if not 1 <= least <= most:
        raise ConfigError(f"--workers {workers} is no number of workers", expected="N or MIN:MAX", do="--workers 8")
    if most > lanes:
        raise ConfigError(
            f"{most} ranks cannot share the data",
            expected=f"at most data.lanes = {lanes}",
            found=f"--workers {workers}",
            do="fewer workers, or a new run with more data.lanes",
        )
    return Size(least, most, cpus, device)


def _one_line(failure: Failure | None, lost: Lost) -> str:
    return failure.one_line() if failure else f"the ranks were lost: {lost.reason.strip().splitlines()[-1]}"
