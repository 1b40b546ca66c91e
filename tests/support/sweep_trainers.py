"""Trainers that do nothing, or harm, in place of the real one: python -m tests.support.sweep_trainers NAME FILE ..."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import typer

from jobs.command.command_line import run_command
from jobs.command.stop_signals import StopSignals
from jobs.sweeps.command import SweepCommand
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.trial import TrialEnd, TrialJob, open_trial, train_trial
from jobs.training.messages import Asked

HARMLESS_CALLS = 5
"""Looks at what is asked, one a step, before harm is done."""
LATENT = {"raise": 5, "hang": 9, "memory": 13, "diverge": 17, "kill": 21}
"""The harm that befalls trials of a latent size; `diverge` is brought about by the sweep file."""


def do_nothing(job: TrialJob, asked: Callable[[], Asked]) -> TrialEnd:
    """Makes a run folder and ends at once, with a figure that the settings decide."""
    open_trial(job)
    value = job.settings["objective"]["beta"]
    return TrialEnd(
        "finished", step=job.steps, value=value, figures={job.metric: value, "step": job.steps}, host="here"
    )


def faulty(job: TrialJob, asked: Callable[[], Asked]) -> TrialEnd:
    """Trains, until harm is done."""
    kind = next((kind for kind, latent in LATENT.items() if job.settings["model"]["latent"] == latent), None)
    calls = 0

    def harmful() -> Asked:
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
    trainer: str, sweep: str, shards: str = typer.Option(...), out: Path = typer.Option(...), retry: bool = False
) -> None:
    """Run a sweep with a trainer of this file."""
    signals = StopSignals()
    signals.listen()
    command = SweepCommand.prepare(sweep, shards, SweepFolder(out.absolute()))
    command.carry_out("", signals, retry=retry, trainer={"do_nothing": do_nothing, "faulty": faulty}[trainer])


if __name__ == "__main__":
    # Worker processes have to find the trainer under the name of this module, not under __main__.
    from tests.support.sweep_trainers import main as imported

    run_command(imported)
