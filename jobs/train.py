"""Trains a MusicVAE on shards: alone, on several ranks of this machine, or on several machines.

    python -m jobs.train --preset small --shards SHARDS --run RUN [key.sub=value ...]
    python -m jobs.train --ranks 8 --preset small --shards SHARDS --run RUN [key.sub=value ...]

On several machines the second form runs on each of them, with --nodes and --rendezvous (docs/train.sbatch).
RUN absent: start. RUN present with the same settings and data: go on from its newest checkpoint.
"""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from jobs.command.command_line import run_command, settings_text
from jobs.command.stop_signals import StopSignals, check_ahead, parse_time
from jobs.training.environment import launched_by_torchrun, launcher
from jobs.training.rank_life import rank_life
from musicvae.errors import ConfigError


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="key.sub=value ...", show_default=False)] = None,
    shards: Annotated[
        str | None, typer.Option(metavar="FOLDER|URL", help="What jobs.build_shards made: a folder, or its URL.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder: made, or continued.")] = None,
    preset: Annotated[str | None, typer.Option(help="A shipped preset: demo, small, paper.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Run whose best weights a new run starts from.")] = None,
    ranks: Annotated[int | None, typer.Option(help="Processes on this machine; without it, this one.")] = None,
    nodes: Annotated[str, typer.Option(help="Machines that run this command: N, or MIN:MAX to come and go.")] = "1",
    rendezvous: Annotated[str | None, typer.Option(help="HOST:PORT where several machines meet.")] = None,
    rendezvous_id: Annotated[str | None, typer.Option(help="Names the launch; the same on all its machines.")] = None,
    stop_before: Annotated[
        str | None, typer.Option(help="Save and leave ahead of this time: epoch seconds, ISO time, or slurm.")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the resolved settings and end.")] = False,
) -> None:
    """Trains a MusicVAE, alone or on any number of ranks."""
    is_rank = launched_by_torchrun()
    signals = StopSignals(launched=launcher() is not None, agent=os.getppid() if is_rank else None)
    signals.listen()
    deadline = parse_time(stop_before) if stop_before else None

    from jobs.training.plan import TrainRequest, prepare

    request = TrainRequest(shards, run, preset, config, init_from, tuple(overrides or ()))
    if print_config:
        print(settings_text(request.settings()), end="")
        return
    if ranks is not None and not is_rank:
        from jobs.training.environment import group_of
        from jobs.training.torchrun import launch, open_run

        plan = prepare(request)
        resources = plan.settings.resources
        lanes, shutdown_seconds = plan.settings.data.lanes, resources.shutdown_seconds
        group = group_of(ranks, nodes, rendezvous, rendezvous_id, lanes=lanes, shutdown_seconds=shutdown_seconds)
        if deadline is not None:
            check_ahead(deadline, resources.stop_margin_seconds)
            signals.stop_at(deadline - resources.stop_margin_seconds)
        if (minutes := plan.settings.train.max_minutes) is not None:  # a rank counts them from its own start only
            signals.stop_at(time.time() + 60 * minutes)
        open_run(plan, several=group.max_nodes > 1)
        sys.exit(launch(plan.folder, group, sys.argv[1:], signals, max_restarts=resources.max_restarts))
    several = {"--nodes": nodes != "1", "--rendezvous": rendezvous, "--rendezvous-id": rendezvous_id}
    if ranks is None and not is_rank and any(several.values()):
        given = ", ".join(name for name, value in several.items() if value)
        raise ConfigError(
            f"{given} without --ranks",
            expected="--ranks N: how many processes this machine adds to the launch",
            do="add --ranks 1, or more",
        )
    if ranks is not None and launcher() is None:
        raise ConfigError("--ranks starts torchrun itself", found="torchrun is running already", do="leave one out")

    with rank_life(run) as pulse:
        from jobs.training.rank import train_rank

        code = train_rank(request, signals, pulse, deadline)
    sys.exit(code)


if __name__ == "__main__":
    run_command(main)
