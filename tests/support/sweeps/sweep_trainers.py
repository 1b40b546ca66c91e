"""Fake trainers, some of them harmful: python -m tests.support.sweeps.sweep_trainers NAME FILE ..."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import typer

from jobs.command.command_line import run_command
from jobs.command.stop_signals import StopSignals
from jobs.sweeps.command import SweepCommand
from jobs.sweeps.elements import element_of
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.trial import TrialEnd, TrialJob, open_trial, train_trial
from jobs.sweeps.trials import prepare
from jobs.training.messages import StopRequest
from musicvae.errors import DiskFullError

HARMLESS_CALLS = 5
"""Looks at what is asked, one a step, before harm is done."""
LATENT = {"raise": 5, "hang": 9, "memory": 10, "diverge": 11, "kill": 12}
"""The harm that befalls trials of a latent size; `diverge` is brought about by the sweep file."""


def do_nothing(job: TrialJob, asked: Callable[[], StopRequest]) -> TrialEnd:
    """Makes a run folder and ends at once, with a figure that the settings decide."""
    try:
        open_trial(job)
    except DiskFullError as error:
        return TrialEnd("stopped", category="disk", message=str(error))
    value = job.settings["objective"]["beta"]
    return TrialEnd(
        "finished", step=job.steps, value=value, figures={job.metric: value, "step": job.steps}, host="here"
    )


def nap(job: TrialJob, asked: Callable[[], StopRequest]) -> TrialEnd:
    """`do_nothing`, after a moment."""
    time.sleep(0.2)
    return do_nothing(job, asked)


def broken(job: TrialJob, asked: Callable[[], StopRequest]) -> TrialEnd:
    """Fails as all others do."""
    return TrialEnd("failed", category="code", message=f"a bug that all trials have, seen in {job.run}")


def faulty(job: TrialJob, asked: Callable[[], StopRequest]) -> TrialEnd:
    """Trains, until harm is done."""
    kind = next((kind for kind, latent in LATENT.items() if job.settings["model"]["latent"] == latent), None)
    calls = 0

    def harmful() -> StopRequest:
        nonlocal calls
        calls += 1
        if calls > HARMLESS_CALLS:
            match kind:
                case "raise":
                    raise RuntimeError("a bug in a trial")
                case "hang":
                    time.sleep(3600)
                case "memory":
                    import torch

                    torch.empty(10**15)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
        return asked()

    return train_trial(job, harmful)


def main(
    trainer: str,
    sweep: str,
    shards: str = typer.Option(...),
    out: Path = typer.Option(...),
    share: str = "",
    retry: bool = False,
) -> None:
    """Run a sweep with a trainer of this file."""
    signals = StopSignals()
    signals.listen()
    folder = SweepFolder(out.absolute(), element_of(share) if share else None)
    command = SweepCommand.of(*prepare(sweep, shards, folder), shards, folder)
    train = {"do_nothing": do_nothing, "nap": nap, "faulty": faulty}[trainer]
    if share:
        command.carry_out_element(signals, retry=retry, trainer=train)
    else:
        command.carry_out("", signals, retry=retry, trainer=train)


if __name__ == "__main__":
    # Worker processes have to find the trainer under the name of this module, not under __main__.
    from tests.support.sweeps.sweep_trainers import main as imported

    run_command(imported)
