"""What `jobs.sweep run` does: everything checked first, then the driver under the folder's lock."""

import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ExitCode
from cluster.tasks import ray_session
from jobs.command.command_line import console, error_console
from jobs.command.provenance import code_for_ray, provenance
from jobs.command.stop_signals import StopSignals
from jobs.sweeps import driver, elements, pools, results, status, trials
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Begun, Ledger, SweepState, read_ledger
from jobs.sweeps.trial import Trainer, train_trial
from musicvae.data.manifest import is_url, without_secrets
from musicvae.errors import ConfigError, FolderInUseError, StoppedError, SupersededError
from musicvae.folder_lock import check_free, hold_folder
from musicvae.terminal import shown

NOTIFY_SECONDS = 60.0
"""For which a user's command may run."""


@dataclass(frozen=True, slots=True)
class SweepCommand:
    """A sweep that can be run.

    Attributes:
        shards: as trials are told; an absolute path, or a URL.
        notify: a shell command of the user for when the sweep is done or has failed; empty for none.
    """

    factory: trials.TrialFactory
    folder: SweepFolder
    shards: str
    plan: trials.SweepPlan
    notify: str = ""

    @classmethod
    def of(
        cls, factory: trials.TrialFactory, plan: trials.SweepPlan, shards: str, folder: SweepFolder, notify: str = ""
    ) -> "SweepCommand":
        """The sweep that `jobs.sweeps.trials.prepare` has checked."""
        return cls(factory, folder, shards if is_url(shards) else str(Path(shards).absolute()), plan, notify)

    def describe(self) -> str:
        """The plan: trials, hours, disk."""
        existing = next(path for path in (self.folder.path, *self.folder.path.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        factory, state = self.factory, read_ledger(self.folder.path)
        return trials.describe(factory.name, factory.sweep, self.plan, state, free_bytes=free)

    def carry_out(self, ray_address: str, signals: StopSignals, *, retry: bool, trainer: Trainer = train_trial) -> None:
        """Runs the sweep until nothing is left to do, and writes its results.

        Raises:
            ConfigError: another driver is at work, or no Ray cluster answers.
            StoppedError: it was asked to stop; the same command goes on.
            DiskFullError: no room for more trials.
        """
        folder = self.folder
        self._make(folder.path)
        with self._failure_notified(), hold_folder(folder.path):
            elements.check_no_elements(folder)
            ledger, plan = self._open()
            with ray_session(ray_address, cpus=None, code=code_for_ray(variables=True)) as session:
                from jobs.sweeps.ray_pool import RayPool

                pool = RayPool(session, self.factory.sweep.resources, trainer, folder.ledger)
                self._run(self.factory, ledger, plan, pool, signals, retry=retry)
            self._conclude(ledger)

    def carry_out_element(self, signals: StopSignals, *, retry: bool, trainer: Trainer = train_trial) -> None:
        """Runs the sweep as an element of an array, in processes of this machine; the last one writes the results.

        Raises:
            ConfigError: another process is this element, one driver is at work, or other elements run another file.
            StoppedError, DiskFullError: as `carry_out`.
        """
        folder, sweep = self.folder, self.factory.sweep
        self._make(folder.path)
        check_free(folder.own)  # first: it takes a while to know that a process of another machine has died
        with self._failure_notified(), ExitStack() as held:
            with elements.hold_soon(folder.path):
                # No earlier, or those that wait here with a changed file would count as at work with the old one.
                key = held.enter_context(elements.holding_element(folder))
                _, plan = self._open(elements.others_of(folder))
            ledger = elements.ElementLedger(folder, key)
            with pools.process_pool(sweep.resources, trainer) as pool:
                self._run(self.factory, ledger, plan, pool, signals, retry=retry)
        with self._failure_notified(), elements.hold_soon(folder.path):
            if others := elements.others_of(folder):
                console.print(f"{len(others)} other elements are at work; the last one writes the results")
            else:
                self._conclude(Ledger.open(folder.path))

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {path}", found=error.strerror or str(error)) from None

    def _open(self, at_work: Sequence[str] = ()) -> tuple[Ledger, trials.SweepPlan]:
        """The sweep's own ledger, into which its file is written where it is new or has changed; and the plan.

        Args:
            at_work: elements that run the sweep meanwhile.
        """
        elements.gather(self.folder)
        ledger = Ledger.open(self.folder.path)
        plan = self.plan_now(ledger.state)
        begun = Begun(
            name=self.factory.name,
            sweep=self.factory.sweep.model_dump(mode="json"),
            numbers=plan.numbers,
            fingerprint=self.factory.manifest.fingerprint,
            shards=without_secrets(self.shards),
            when=time.time(),
        )
        before = ledger.state.begun
        if before and before.sweep != begun.sweep and at_work:
            raise ConfigError(
                f"{self.folder.path} is run with another sweep file",
                expected="the same file for all elements that are at work",
                found=f"a changed file; at work: element {', '.join(at_work)}",
                do="undo the change, or wait until the other elements have ended",
            )
        if not before or ((before.sweep, before.numbers) != (begun.sweep, begun.numbers) and not at_work):
            ledger.append(begun)
        ledger.append(*(imported for imported in self.plan.learnt if imported.trial not in ledger.state.imported))
        return ledger, plan

    def _run(
        self,
        factory: trials.TrialFactory,
        ledger: Ledger,
        plan: trials.SweepPlan,
        pool: pools.TrialPool,
        signals: StopSignals,
        *,
        retry: bool,
    ) -> None:
        again = deque(self._retried(ledger) if retry else ())

        def say(line: str) -> None:
            console.print(line, soft_wrap=True)

        driver.SweepRun(factory, self.folder, ledger, plan, pool, self.shards, provenance(), signals, say, again).run()

    def _conclude(self, ledger: Ledger) -> None:
        """Shows how the sweep ended, and writes its results."""
        folder, sweep, state = self.folder, self.factory.sweep, ledger.state
        if done := status.is_done(sweep, state):
            driver.Retention(sweep, folder, ledger, planned=state.planned).after_all()
        text = status.status_text(folder, sweep, state)
        console.print(text, soft_wrap=True)
        page, *_ = results.write_report(folder, sweep, state)
        console.print(f"page: {page}", soft_wrap=True)
        if any(trial.reached for trial in state.trials.values()):
            console.print(results.write_winner(folder, sweep, state), soft_wrap=True)
        starts = sum(trial.starts for trial in state.trials.values())
        # Elements may end at the same moment.
        if self.notify and (not folder.element or elements.link(folder.claims / f"notified-{starts}", {})):
            self._notify("done" if done else "not done", text)

    @contextmanager
    def _failure_notified(self) -> Iterator[None]:
        """Notifies the user of an error, unless the same command resumes by itself or others are at work."""
        try:
            yield
        except (StoppedError, FolderInUseError, SupersededError):
            raise
        except Exception as error:
            if getattr(error, "exit_code", None) != ExitCode.PREEMPTED and not elements.others_of(self.folder):
                self._notify("failed", str(error))
            raise

    def _notify(self, state: str, message: str) -> None:
        if not self.notify:
            return
        variables = {"SWEEP_FOLDER": str(self.folder.path), "SWEEP_STATE": state, "SWEEP_MESSAGE": shown(message)}
        try:
            ended: object = subprocess.run(
                self.notify, shell=True, env={**os.environ, **variables}, timeout=NOTIFY_SECONDS
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            ended = error
        if ended:
            error_console.print(f"warning: the command of --notify failed: {ended}", soft_wrap=True)

    def plan_now(self, state: SweepState) -> trials.SweepPlan:
        """The plan, made anew if another driver was at work between the checks and the lock."""
        if state.begun:
            trials.check_goes_on(state.begun, self.factory.sweep, self.factory.manifest.fingerprint)
        return self.plan if len(state.numbers) == self.plan.drawn else trials.plan_sweep(self.factory, state)

    def _retried(self, ledger: Ledger) -> list[str]:
        again, spent = driver.failed_trials(ledger.state.trials.values(), self.factory.sweep)
        console.print(f"{len(again)} failed trial(s) are trained again", soft_wrap=True)
        if spent:
            attempts = self.factory.sweep.attempts
            console.print(
                f"{spent} have failed {attempts} times (the attempts of the sweep) and are not trained again",
                soft_wrap=True,
            )
        return again
