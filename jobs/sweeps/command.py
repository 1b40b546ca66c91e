"""What `jobs.sweep run` does: everything checked first, then the driver under the folder's lock."""

import shutil
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.command.command_line import console
from jobs.command.provenance import provenance
from jobs.command.stop_signals import StopSignals
from jobs.sweeps.driver import SweepRun, check_goes_on, failed_trials
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Begun, Ledger, SweepState, read_ledger, records_of
from jobs.sweeps.pools import TrialPool, process_pool
from jobs.sweeps.ray_pool import ray_pool
from jobs.sweeps.results import write_report, write_winner
from jobs.sweeps.shares import (
    Share,
    gather,
    gathered,
    hold_soon,
    holding_share,
    settings_of_share,
    share_of_work,
    shares_are_done,
)
from jobs.sweeps.status import is_done, status_text
from jobs.sweeps.trial import Trainer, train_trial
from jobs.sweeps.trials import SweepPlan, TrialFactory, describe, plan_sweep, read_sweep
from musicvae.data.sources import is_url, open_shards, without_secrets
from musicvae.errors import ConfigError
from musicvae.folder_lock import hold_folder


@dataclass(frozen=True, slots=True)
class SweepCommand:
    """A sweep that can be run.

    Attributes:
        shards: as trials are told; an absolute path, or a URL.
    """

    factory: TrialFactory
    folder: SweepFolder
    shards: str
    plan: SweepPlan

    @classmethod
    def prepare(cls, name_or_file: str, shards: str, folder: SweepFolder) -> "SweepCommand":
        """Checks the file, every trial that can be known, the shards and what the folder holds.

        Raises:
            ConfigError: they cannot be used, or do not fit each other.
            DataError: a damaged manifest or ledger.
        """
        name, sweep = read_sweep(name_or_file)
        manifest = open_shards(shards).manifest()
        manifest.split("validation")
        state = read_ledger(folder.path)
        if state.begun:
            check_goes_on(state.begun, sweep, manifest.fingerprint)
        elif folder.holds_something_else():
            raise ConfigError(
                f"{folder.path} is no sweep",
                expected="a new path, or a folder that jobs.sweep run made",
                found="other entries and no ledger",
                do="name another --out",
            )
        factory = TrialFactory.of(name, sweep, manifest)
        where = shards if is_url(shards) else str(Path(shards).absolute())
        return cls(factory, folder, where, plan_sweep(factory, state))

    def describe(self) -> str:
        """The plan: trials, hours, disk."""
        existing = next(path for path in (self.folder.path, *self.folder.path.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        factory, state = self.factory, read_ledger(self.folder.path)
        return describe(factory.name, factory.sweep, self.plan, state, free_bytes=free)

    def carry_out(self, ray_address: str, signals: StopSignals, *, retry: bool, trainer: Trainer = train_trial) -> None:
        """Runs the sweep until nothing is left to do, and writes its results.

        Raises:
            ConfigError: another driver is at work, or no Ray cluster answers.
            StoppedError: it was asked to stop; the same command goes on.
            DiskFullError: no room for more trials.
        """
        folder, resources = self.folder, self.factory.sweep.resources
        self._make(folder.path)
        with hold_folder(folder.path):
            gather(folder)
            ledger = Ledger.open(folder.path)
            plan = self.plan_now(ledger.state)
            self._begin(ledger, plan.numbers)
            with ray_pool(ray_address, resources, trainer, folder.ledger) as pool:
                self._run(self.factory, ledger, plan, pool, signals, retry=retry)
            self._conclude(ledger.state)

    def carry_out_share(
        self, share: Share, signals: StopSignals, *, retry: bool, trainer: Trainer = train_trial
    ) -> None:
        """Runs a share of the sweep in processes of this machine; the last of all shares writes the results.

        Raises:
            ConfigError: a sweep that cannot be divided, or somebody else is at this share, or at all of it.
            StoppedError, DiskFullError: as `carry_out`.
        """
        sweep = self.factory.sweep
        factory = replace(self.factory, sweep=settings_of_share(sweep, share))
        self._make(self.folder.path)
        with holding_share(self.folder):
            before = SweepState.of(records_of(self.folder.ledger_of_all))
            whole = self.plan_now(before)
            plan, state = share_of_work(factory, whole, before, self.folder, share)
            ledger = Ledger.open(self.folder.own, state)
            self._begin(ledger, whole.numbers)
            with process_pool(sweep.resources, trainer) as pool:
                self._run(factory, ledger, plan, pool, signals, retry=retry)
        with hold_soon(self.folder.path):
            state = read_ledger(self.folder.path)
            if not shares_are_done(sweep, state) or not gathered(self.folder):
                console.print("others are at work or left; the last share to end puts all together", soft_wrap=True)
                return
            if not is_done(sweep, state):
                console.print("what is left are repeats: the same command without --share", soft_wrap=True)
            self._conclude(state)

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {path}", found=error.strerror or str(error)) from None

    def _begin(self, ledger: Ledger, numbers: int) -> None:
        """Writes the sweep down, where it is new or has changed."""
        begun = Begun(
            name=self.factory.name,
            sweep=self.factory.sweep.model_dump(mode="json"),
            numbers=numbers,
            fingerprint=self.factory.manifest.fingerprint,
            shards=without_secrets(self.shards),
            when=time.time(),
        )
        before = ledger.state.begun
        if not before or (before.sweep, before.numbers) != (begun.sweep, begun.numbers):
            ledger.append(begun)

    def _run(
        self,
        factory: TrialFactory,
        ledger: Ledger,
        plan: SweepPlan,
        pool: TrialPool,
        signals: StopSignals,
        *,
        retry: bool,
    ) -> None:
        again = deque(self._retried(ledger) if retry else ())

        def say(line: str) -> None:
            console.print(line, soft_wrap=True)

        SweepRun(factory, self.folder, ledger, plan, pool, self.shards, provenance(), signals, say, again).run()

    def _conclude(self, state: SweepState) -> None:
        """Shows how the sweep ended, and writes its results."""
        folder, sweep = self.folder, self.factory.sweep
        console.print(status_text(folder, sweep, state), soft_wrap=True)
        write_report(folder, sweep, state)
        if any(trial.reached for trial in state.trials.values()):
            console.print(write_winner(folder, sweep, state), soft_wrap=True)

    def plan_now(self, state: SweepState) -> SweepPlan:
        """The plan, made anew if another driver was at work between the checks and the lock."""
        if state.begun:
            check_goes_on(state.begun, self.factory.sweep, self.factory.manifest.fingerprint)
        return self.plan if len(state.numbers) == self.plan.drawn else plan_sweep(self.factory, state)

    def _retried(self, ledger: Ledger) -> list[str]:
        again, spent = failed_trials(ledger.state.trials.values(), self.factory.sweep)
        console.print(f"{len(again)} failed trial(s) are tried again", soft_wrap=True)
        if spent:
            attempts = self.factory.sweep.attempts
            console.print(f"{spent} have failed {attempts} times (attempts of the sweep) and are not", soft_wrap=True)
        return again
