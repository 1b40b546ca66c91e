"""Trains a model on shards: in one process, on several ranks of this machine, or on several machines."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.command.command_line import console, end_of_checks, run_command, settings_source, settings_text
from jobs.command.mirror import ResumeFrom, SyncTo, check_urls, fetch, mirrored
from jobs.command.stop_signals import StopSignals, parse_time
from jobs.command.streams import outlive_terminal
from jobs.training.environment import UNSET, check_variables, launched_by, launched_by_torchrun, own_rank
from jobs.training.failures import rank_life
from jobs.training.plan import Config, InitFrom, Overrides, Preset, PrintConfig, Run, Shards, StopBefore, TrainRequest
from musicvae.errors import ConfigError

MACHINES = "Several ranks and machines"


def main(
    overrides: Overrides = None,
    shards: Shards = None,
    run: Run = None,
    preset: Preset = None,
    ranks: Annotated[
        int | None, typer.Option(metavar="N", help="Launch N ranks here (this process).", rich_help_panel=MACHINES)
    ] = None,
    nodes: Annotated[
        str,
        typer.Option(metavar="N|MIN:MAX", help="Machines that run this command. From MIN to MAX may join and leave."),
    ] = "1",
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="An address of one of the machines, where all of them meet.")
    ] = None,
    rendezvous_id: Annotated[
        str | None, typer.Option(metavar="ID", help="A new identity for each launch, the same on all machines.")
    ] = None,
    stop_before: StopBefore = None,
    config: Config = None,
    init_from: InitFrom = None,
    sync_to: SyncTo = None,
    resume_from: ResumeFrom = None,
    print_config: PrintConfig = False,
) -> None:
    """Train a model on shards, in this process or on any number of ranks and machines.

    If the run folder exists and has the same settings and shards, the training resumes from its newest checkpoint. With
    --ranks, all ranks restart from the last checkpoint when one is killed, hangs or fails. On several machines, run the
    command on each of them (docs/train.sbatch).

        python -m jobs.train --preset generation --shards shards/groove --run runs/first
        python -m jobs.train --preset generation --shards shards/groove --run runs/first --ranks 2 train.steps=2000
    """
    check_variables()
    is_rank = launched_by_torchrun()
    signals = StopSignals(launched=launched_by() is not None, agent=os.getppid() if is_rank else None)
    signals.listen()
    deadline = parse_time(stop_before) if stop_before else None

    request = TrainRequest(shards, run, preset, config, init_from, tuple(overrides or ()))
    if print_config:
        print(settings_text(request.settings()), end="")
        return
    source = settings_source(preset, config, request.overrides)
    check_urls(sync_to=sync_to, resume_from=resume_from)
    if launched_by() is not None:  # the launcher copies
        sync_to = resume_from = None
    if ranks is not None and not is_rank:
        from jobs.training.environment import group_of
        from jobs.training.torchrun import launch, open_run

        settings = request.settings()
        resources = settings.resources
        lanes, shutdown_seconds = settings.data.lanes, resources.shutdown_seconds
        group = group_of(ranks, nodes, rendezvous, rendezvous_id, lanes=lanes, shutdown_seconds=shutdown_seconds)
        plan = request.without_weights(settings)
        end_of_checks()
        outlive_terminal()
        console.print(source, soft_wrap=True)
        if fetch(resume_from, plan.folder.path):
            plan = request.without_weights(settings)
        plan = plan.with_weights(init_from)
        signals.stop_ahead(deadline, resources.stop_margin_seconds)
        signals.stop_after(settings.train.max_minutes)  # a rank counts them from its own start only
        several, copied = group.max_nodes > 1, mirrored(plan.folder.path, sync_to, skipped=("ranks",))
        open_run(plan, several=several)
        with plan.folder.launching(group.identity, alone=not several), copied:
            sys.exit(launch(plan.folder, group, sys.argv[1:], signals, max_restarts=resources.max_restarts))
    several = {"--nodes": nodes != "1", "--rendezvous": rendezvous, "--rendezvous-id": rendezvous_id}
    if ranks is None and not is_rank and any(several.values()):
        given = ", ".join(name for name, value in several.items() if value)
        raise ConfigError(
            f"{given} without --ranks",
            expected="--ranks N, the number of ranks on this machine",
            do="add --ranks 1 or more",
        )
    if ranks is not None and launched_by() is None:
        raise ConfigError(
            "--ranks cannot be used inside torchrun",
            found="RANK and WORLD_SIZE are set: torchrun has started this process, or they are left over from a launch",
            do=f"leave --ranks out inside torchrun; {UNSET}",
        )

    if is_rank and resume_from is not None:
        do = "leave torchrun out: python -m jobs.train --ranks N --resume-from URL ..."
        raise ConfigError("--resume-from cannot be used inside torchrun", do=do)
    end_of_checks()
    outlive_terminal()
    if not is_rank:
        console.print(source, soft_wrap=True)
    if run is not None:
        fetch(resume_from, run)
    copied = mirrored(run or Path(), sync_to if own_rank() == 0 else None, skipped=("ranks",))
    with copied, rank_life(run) as heartbeat:
        from jobs.training.rank import train_rank

        code = train_rank(request, signals, heartbeat, deadline)
    sys.exit(code)


if __name__ == "__main__":
    run_command(main)
