"""What trials that have ended keep on disk."""

import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Ledger, SweepState, TrialHistory, Trimmed
from jobs.sweeps.sweep_next import cut_trials, is_gone_on_with, standings
from jobs.sweeps.sweep_settings import Kept, SweepSettings
from musicvae.training.run_folder import RunFolder

ORDER: tuple[Kept, ...] = ("all", "weights", "nothing")


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
        cut = cut_trials(self.sweep, state, planned=self.planned)
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
                case "failed" if trial.id not in state.unfinished or not is_gone_on_with(trial, self.sweep):
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
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        if kept == "nothing":
            run.best.unlink(missing_ok=True)
        self.ledger.append(Trimmed(trial.id, kept, folder_bytes(run.path), time.time()))


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
    at_end = [state.trials[name] for _, name in standings(sweep, state)[sweep.budget.steps]]
    spared = {trial.id for trial in at_end[: sweep.repeats.of_best or 1]}
    finished = [trial for trial in reversed(at_end) if trial.id not in spared]
    for trial in state.trials.values():
        unsuccessful = trial.state in ("failed", "diverged") or (trial.state == "finished" and trial.kept == "weights")
        if unsuccessful and trial.id not in spared:
            yield trial, "nothing"
    for trial in finished:
        yield trial, "weights"
