"""Whole sweeps in this process, without Ray: a pool that runs a trainer of `sweep_trainers` at once."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.command.command_line import console
from jobs.command.stop_signals import StopSignals
from jobs.sweeps.command import SweepCommand
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.settings import TrialResources
from jobs.sweeps.trial import Trainer, TrialEnd, TrialJob
from jobs.sweeps.trials import prepare
from jobs.training.messages import StopRequest
from musicvae.training.stopping import Stop


class InlinePool:
    """A `TrialPool` with room for one trial, which has ended when it has been started."""

    def __init__(self, session: object, resources: TrialResources, trainer: Trainer, must_see: Path) -> None:
        self._trainer, self._jobs = trainer, list[TrialJob]()

    def room(self) -> bool:
        return not self._jobs

    def start(self, job: TrialJob) -> None:
        self._jobs.append(job)

    def ended(self, seconds: float) -> list[tuple[TrialJob, TrialEnd]]:
        ended = [(job, self._trainer(job, StopRequest)) for job in self._jobs]
        self._jobs.clear()
        return ended

    @property
    def running(self) -> list[str]:
        return [job.trial for job in self._jobs]

    def why_waiting(self) -> str:
        return ""

    def ask_to_stop(self, stop: Stop) -> None:
        pass


def run_inline(trainer: Trainer, file: Path, shards: Path, out: Path, *, retry: bool = False, notify: str = "") -> str:
    """Runs a sweep to its end as `jobs.sweep run` does; gives what it prints."""
    with pytest.MonkeyPatch.context() as patched, console.capture() as printed:
        patched.setattr("jobs.sweeps.command.ray_session", lambda *_, **__: nullcontext())
        patched.setitem(sys.modules, "jobs.sweeps.ray_pool", SimpleNamespace(RayPool=InlinePool))
        folder = SweepFolder(out)
        command = SweepCommand.of(*prepare(str(file), str(shards), folder), str(shards), folder, notify)
        console.print(command.describe(), soft_wrap=True)
        command.carry_out("", StopSignals(), retry=retry, trainer=trainer)
    return printed.get()
