"""Trains a MusicVAE on a Ray cluster with Ray Train: the same run as `jobs.train` makes.

    python -m jobs.train_on_ray --preset small --shards SHARDS --run RUN --workers 8 --ray-address HOST:PORT

Without an address on this machine alone. Lost workers and nodes cost what was done since the last checkpoint.
"""

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from jobs.command.command_line import run_command, settings_text
from jobs.command.stop_signals import StopSignals, check_ahead, parse_time


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="key.sub=value ...", show_default=False)] = None,
    shards: Annotated[
        str | None, typer.Option(metavar="FOLDER|URL", help="What jobs.build_shards made: a folder, or its URL.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder: made, or continued.")] = None,
    preset: Annotated[str | None, typer.Option(help="A shipped preset: demo, small, paper.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Run whose best weights a new run starts from.")] = None,
    workers: Annotated[str, typer.Option(help="Ranks: N, or MIN:MAX to take what the cluster has.")] = "1",
    cpus_per_worker: Annotated[int, typer.Option(min=1, help="CPUs of each rank.")] = 1,
    ray_address: Annotated[str, typer.Option(metavar="HOST:PORT", help="A running Ray cluster.")] = "",
    stop_before: Annotated[
        str | None, typer.Option(help="Save and leave ahead of this time: epoch seconds, ISO time, or slurm.")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the resolved settings and end.")] = False,
) -> None:
    """Trains a MusicVAE on workers of Ray Train."""
    signals = StopSignals()
    signals.listen()
    deadline = parse_time(stop_before) if stop_before else None

    from jobs.training.plan import TrainRequest, prepare
    from musicvae.data.sources import is_url

    # Ranks run in folders of Ray's own.
    if shards and not is_url(shards):
        shards = str(Path(shards).absolute())
    run, init_from = (path.absolute() if path else None for path in (run, init_from))
    request = TrainRequest(shards, run, preset, config, init_from, tuple(overrides or ()))
    if print_config:
        print(settings_text(request.settings()), end="")
        return
    plan = prepare(request)

    from jobs.training.ray_driver import RayLaunch, size_of
    from jobs.training.ray_train import ranks_on_ray

    resources, minutes = plan.settings.resources, plan.settings.train.max_minutes
    size = size_of(workers, cpus=cpus_per_worker, device=resources.device, lanes=plan.settings.data.lanes)
    if deadline is not None:
        check_ahead(deadline, resources.stop_margin_seconds)
        signals.stop_at(deadline - resources.stop_margin_seconds)
    if minutes is not None:  # of the launch as a whole: every attempt counts its own anew
        signals.stop_at(time.time() + 60 * minutes)
    launch = RayLaunch(plan, shards or "", init_from, secrets.token_hex(8), signals)
    with ranks_on_ray(ray_address, size) as ranks:
        launch.train(ranks)


if __name__ == "__main__":
    run_command(main)
