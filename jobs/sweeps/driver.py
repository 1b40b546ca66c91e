"""The driver of a sweep: starts what is to be done next, records the results, and deletes what need not be kept."""

import os
import secrets
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from jobs.command.stop_signals import StopSignals
from jobs.sweeps import decisions
from jobs.sweeps.decisions import Draw, Idle, Repeat, Resume
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Drawn, End, Ledger, Start, SweepState, TrialHistory, Trimmed
from jobs.sweeps.pools import Lost, TrialPool
from jobs.sweeps.search import LearningSearch
from jobs.sweeps.settings import LEARNING, Kept, SweepSettings, Values
from jobs.sweeps.trial import TrialEnd, TrialJob, end_of_lost
from jobs.sweeps.trials import SweepPlan, Trial, TrialFactory
from musicvae.errors import ConfigError, DiskFullError, FolderInUseError, StoppedError, UserError
from musicvae.folder_lock import hold_folder, holders
from musicvae.training.run_folder import RunFolder
from musicvae.training.stopping import Stop

LIVE_SECONDS = 1.0
IDLE_SECONDS = 600.0
"""An element of an array that has had nothing to start for so long leaves; others are at work then."""
MOST_REDRAWN = 50
"""Configurations in a row that cannot be trained, before the space is to blame."""
ORDER: tuple[Kept, ...] = ("all", "weights", "nothing")


@dataclass(slots=True)
class SweepRun:
    """One command's work on a sweep, from what the ledger says to when nothing is left to do.

    Args:
        shards: where trials find them.
        provenance: of run folders.
        retried: failed trials that are tried once more.
        say: shows the user a line.
    """

    factory: TrialFactory
    folder: SweepFolder
    ledger: Ledger
    plan: SweepPlan
    pool: TrialPool
    shards: str
    provenance: dict[str, Any]
    signals: StopSignals
    say: Callable[[str], object]
    retried: deque[str] = field(default_factory=deque)
    _started_at: dict[str, float] = field(default_factory=dict)
    _disk_full: str = ""
    _idle_since: float | None = None
    _coming: dict[int, Values] = field(default_factory=dict)

    def run(self) -> None:
        """Returns when nothing is left to be started.

        Raises:
            StoppedError: it was asked to stop; running trials have saved.
            DiskFullError: no room for more.
            ConfigError: the first trials have all failed in the same way.
        """
        try:
            self._run()
        finally:
            self.folder.forget_live()

    def _run(self) -> None:
        sweep = self.factory.sweep
        self._coming = dict(self.plan.coming)
        retention = Retention(sweep, self.folder, self.ledger, planned=self.plan.numbers)
        search = LearningSearch(sweep) if sweep.search in LEARNING else None
        live_at = 0.0
        while True:
            idle: Idle | None = None
            while not idle and not self._disk_full and not self.signals.any and self.pool.room():
                match self._next(search):
                    case Idle() as idle:
                        pass
                    case Resume(trial, steps):
                        self._start(self._trial(self.ledger.state.trials[trial]), steps)
                    case Draw(number):
                        self._draw_number(number, search)
                    case Repeat(trial, repeat):
                        values = self.ledger.state.trials[trial].drawn.values
                        self._draw(self.factory.trial(values, repeat=repeat), -1, repeat_of=trial)
            running = self.pool.running
            if not running and idle and (idle.why != "wait" or self._has_waited()):
                return
            if not running and self._disk_full:
                raise self._no_room()
            if self.signals.any:
                self._leave()
            if time.monotonic() - live_at > LIVE_SECONDS:
                live_at = time.monotonic()
                self.folder.write_live({"running": running, "waiting": self.pool.why_waiting()})
            for job, end in self.pool.ended(self.ledger.look_seconds):
                self._end(job, end)
                retention.after(job.trial)
                if retention.over_cap():
                    self._disk_full = f"{self.ledger.state.bytes / 2**30:.2f} GiB of run folders"

    def _next(self, search: LearningSearch | None) -> Resume | Draw | Repeat | Idle:
        running = {*self.ledger.look(), *self.pool.running}
        sweep, state = self.factory.sweep, self.ledger.state
        while self.retried:
            trial = state.trials[self.retried.popleft()]
            if trial.id not in running and trial.state == "failed" and trial.last_start:
                return Resume(trial.id, trial.last_start.steps)
        number = self._free_number(search)
        planned = self.plan.numbers if number is not None else len(state.numbers)
        step = decisions.next_step(sweep, state, planned=planned, running=running)
        if isinstance(step, Draw) and number is not None:
            step = Draw(number)
        if isinstance(step, Repeat | Idle) and self.ledger.undecided:
            return Idle("wait")
        if isinstance(step, Resume) or not (cause := decisions.same_failure(state)):
            return step
        if running:
            return Idle("wait")
        raise ConfigError(
            "all trials failed in the same way",
            expected="at least one trial that can be trained",
            found=cause,
            likely="a setting of all trials, the shards, or the machine",
            do="fix the cause, then run the same command with --retry failed",
        )

    def _free_number(self, search: LearningSearch | None) -> int | None:
        """The first number that nobody has drawn or is about to draw; None where this driver has no more to draw."""
        numbers, coming = self.ledger.state.numbers, self._coming
        while coming and numbers.get(first := next(iter(coming))):
            del coming[first]
        free = next((number for number in coming if number not in numbers), None)
        return next(number for number in count() if number not in numbers) if free is None and search else free

    def _draw_number(self, number: int, search: LearningSearch | None) -> None:
        if not self.ledger.claim_number(number):
            return
        if number in self._coming:
            self._draw(self.factory.trial(self._coming[number]), number)
        elif search:
            self._draw(self._searched(search, number), number)

    def _has_waited(self) -> bool:
        """Whether there has been nothing to start for long while others are at work, of whom one goes on to the end."""
        self._idle_since = self._idle_since or time.monotonic()
        if time.monotonic() - self._idle_since < IDLE_SECONDS:
            return False
        self.say(f"nothing to start for {IDLE_SECONDS / 60:.0f} minutes; {self.ledger.others} others continue")
        return True

    def _searched(self, search: LearningSearch, number: int) -> Trial:
        """The next trial of a search that learns; configurations that cannot be trained are passed over.

        Raises:
            ConfigError: nearly all of them are.
        """
        for attempt in range(MOST_REDRAWN):
            with suppress(ConfigError):
                return self.factory.trial(search.values(number, self.ledger.state, attempt=attempt))
        return self.factory.trial(search.values(number, self.ledger.state, attempt=MOST_REDRAWN))

    def _draw(self, trial: Trial, number: int, *, repeat_of: str | None = None) -> None:
        """Writes a configuration down, and starts it if it was not there already."""
        drawn = Drawn(number, trial.id, trial.values, trial.config.train.seed, repeat_of, time.time())
        if trial.id in self.ledger.state.trials:
            self.ledger.append(drawn)
        else:
            self._start(trial, decisions.first_steps(TrialHistory(drawn), self.factory.sweep), drawn)

    def _trial(self, history: TrialHistory) -> Trial:
        """The configuration of a trial that was drawn before.

        Raises:
            ConfigError: its values give another one by now.
        """
        drawn = history.drawn
        repeat = drawn.seed - self.ledger.state.trials[drawn.repeat_of].drawn.seed if drawn.repeat_of else 0
        trial = self.factory.trial(drawn.values, repeat=repeat)
        if trial.id != drawn.trial:
            raise ConfigError(
                f"trial {drawn.trial} cannot be resumed",
                expected="the configuration that was drawn",
                found=f"its values now give run {trial.id}",
                likely="a preset or the default of a setting has changed since then",
                do="use the code that the sweep was started with, or start another sweep",
            )
        return trial

    def _start(self, trial: Trial, steps: int, drawn: Drawn | None = None) -> None:
        """Starts a trial, unless another driver has just done so; `drawn` is its configuration, where that is new."""
        sweep, new = self.factory.sweep, [drawn] if drawn else []
        attempt = 0 if drawn else self.ledger.state.trials[trial.id].starts
        start = self.ledger.claimed(Start(trial.id, attempt, steps, time.time()), drawn)
        if start is None:
            self.ledger.append(*(drawn for drawn in new if drawn.number >= 0))  # equal to another number's
            return
        self._idle_since = None
        self.ledger.append(*new, start)
        self._started_at[trial.id] = time.monotonic()
        self.pool.start(
            TrialJob(
                trial=trial.id,
                attempt=start.attempt,
                settings=trial.config.model_dump(mode="json"),
                steps=steps,
                shards=self.shards,
                run=self.folder.run(trial.id),
                provenance={**self.provenance, "tracking_id": secrets.token_hex(6)},
                launch_id=secrets.token_hex(8),
                metric=sweep.metric,
                maximize=sweep.direction == "maximize",
                cpus=sweep.resources.cpus,
                use_gpu=sweep.resources.gpus > 0,
            )
        )

    def _end(self, job: TrialJob, end: TrialEnd | Lost) -> None:
        if isinstance(end, Lost):
            end = end_of_lost(job, end.reason, out_of_memory=end.out_of_memory, leaving=self.signals.any)
        last_end = self.ledger.state.trials[job.trial].last_end
        before = last_end.step if last_end else 0
        self.ledger.append(
            End(
                trial=job.trial,
                attempt=job.attempt,
                state=end.state,
                category=end.category,
                message=end.message,
                step=end.step,
                value=end.value,
                figures=dict(end.figures or {}),
                seconds=time.monotonic() - self._started_at.pop(job.trial),
                bytes=folder_bytes(job.run),
                host=end.host,
                when=time.time(),
                steps=job.steps,
            )
        )
        if end.step > before:
            self.folder.note_progress()
        if end.category == "disk":
            self._disk_full = end.message
        self.say(self._line(job, end))

    def _line(self, job: TrialJob, end: TrialEnd) -> str:
        value = "" if end.value is None else f", {job.metric} {end.value:.4g}"
        why = f": {end.category}: {end.message.splitlines()[0]}" if end.message else ""
        state = self.ledger.state
        return f"trial {job.trial} {end.state} at step {end.step:,}{value}{why}  [{len(state.numbers)} drawn]"

    def _leave(self) -> None:
        """Lets running trials save.

        Raises:
            StoppedError: always.
        """
        by_user = self.signals.user
        self.pool.ask_to_stop(Stop.STOP_FOR_USER if by_user else Stop.STOP_FOR_SCHEDULER)
        print(f"{len(self.pool.running)} running trial(s) save and exit", file=sys.stderr)
        give_up_at = time.monotonic() + self.factory.shutdown_seconds
        while self.pool.running and time.monotonic() < give_up_at:
            for job, end in self.pool.ended(LIVE_SECONDS):
                self._end(job, end)
        stopped = StoppedError(0, by_user=by_user)
        stopped.shown_elsewhere = True
        print("stopped; run the same command again to resume", file=sys.stderr)
        raise stopped

    def _no_room(self) -> UserError:
        cap = self.factory.sweep.retention.disk_gib
        return DiskFullError(
            f"there is no space for more trials in {self.folder.path}",
            expected=f"at most {cap:g} GiB (retention.disk_gib)" if cap else "space for run folders",
            found=self._disk_full,
            do="free some space or keep less (retention.finished, .stopped), then run the same command again",
        )


def failed_trials(trials: Collection[TrialHistory], sweep: SweepSettings) -> tuple[list[str], int]:
    """Failed trials that may be tried again, and how many may not any more."""
    failed = [trial for trial in trials if trial.state == "failed"]
    again = [trial.id for trial in failed if trial.failures < sweep.attempts]
    return again, len(failed) - len(again)


class Retention:
    """Removes what is not to be kept, and writes into the ledger that it did.

    Args:
        planned: trials that the search has in all.
    """

    def __init__(self, sweep: SweepSettings, folder: SweepFolder, ledger: Ledger, *, planned: int) -> None:
        self.sweep, self.folder, self.ledger, self.planned = sweep, folder, ledger, planned

    def after(self, ended: str) -> None:
        """After the end of a start: of this trial, and of those that it has beaten for good."""
        state = self.ledger.state
        cut = decisions.cut_trials(self.sweep, state, planned=self.planned)
        self._settle([state.trials[ended], *cut], {trial.id for trial in cut})
        self._make_room()

    def after_all(self) -> None:
        """When nothing is left to be started: no trial waits for a comparison any more."""
        trials = self.ledger.state.trials
        self._settle(trials.values(), trials.keys())

    def over_cap(self) -> bool:
        """Whether run folders take more than they may, with all removed that could be."""
        cap = self.sweep.retention.disk_gib
        return cap is not None and self.ledger.state.bytes > cap * 2**30

    def _settle(self, trials: Iterable[TrialHistory], cut: Collection[str]) -> None:
        """Trims those of some trials that are over; `cut` names the ones that are not promoted any more."""
        state = self.ledger.state
        for trial in trials:
            match trial.state:
                case "finished" if trial.reached >= self.sweep.budget.steps:
                    self._trim(trial, self.sweep.retention.finished)
                case "finished" if trial.id in cut:
                    self._trim(trial, self.sweep.retention.stopped)
                case "diverged":
                    self._trim(trial, self.sweep.retention.stopped)
                case "failed" if trial.id not in state.unfinished or not decisions.is_gone_on_with(trial, self.sweep):
                    self._trim(trial, self.sweep.retention.stopped)

    def _make_room(self) -> None:
        for trial, kept in _sacrifices(self.sweep, self.ledger.state):
            if not self.over_cap():
                return
            self._trim(trial, kept)

    def _trim(self, trial: TrialHistory, kept: Kept) -> None:
        if ORDER.index(kept) <= ORDER.index(trial.kept):
            return
        run = RunFolder(self.folder.run(trial.id))
        if holders([run.path]):  # somebody trains it, or trims it
            return
        with ExitStack() as held:
            try:
                # There may be no folder, or a disk too full for the lock, and that is why files are removed.
                with suppress(OSError):
                    held.enter_context(hold_folder(run.path))
            except FolderInUseError:
                return
            shutil.rmtree(run.checkpoints, ignore_errors=True)
            if kept == "nothing":
                run.best.unlink(missing_ok=True)
            self.ledger.append(Trimmed(trial.id, kept, folder_bytes(run.path), time.time(), trial.starts - 1))


def folder_bytes(path: Path) -> int:
    """What the files of a folder take on disk."""
    total = 0
    for parent, _, files in os.walk(path):
        for name in files:
            try:
                total += (Path(parent) / name).stat().st_blocks * 512
            except OSError:  # removed in between
                continue
    return total


def _sacrifices(sweep: SweepSettings, state: SweepState) -> Iterator[tuple[TrialHistory, Kept]]:
    """What to remove to make room, in order: all of the unsuccessful, then the checkpoints of the finished from the
    worst on. Of those that may yet be repeated, and of the best, nothing is removed."""
    at_end = [state.trials[name] for _, name in decisions.rung_rankings(sweep, state)[sweep.budget.steps]]
    spared = {trial.id for trial in at_end[: sweep.repeats.of_best or 1]}
    finished = [trial for trial in reversed(at_end) if trial.id not in spared]
    for trial in state.trials.values():
        unsuccessful = trial.state in ("failed", "diverged") or (trial.state == "finished" and trial.kept == "weights")
        if unsuccessful and trial.id not in spared:
            yield trial, "nothing"
    for trial in finished:
        yield trial, "weights"
