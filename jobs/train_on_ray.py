"""Trains a model on a Ray cluster with Ray Train; the run is the same as one of `jobs.train`."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.ray_jobs import check_ray_address
from jobs.command.command_line import console, end_of_checks, run_command, settings_source, settings_text
from jobs.command.mirror import ResumeFrom, SyncTo, check_urls, fetch, mirrored
from jobs.command.stop_signals import StopSignals, parse_time
from jobs.command.streams import outlive_terminal
from jobs.training.environment import new_launch_id
from jobs.training.plan import Config, InitFrom, Overrides, Preset, PrintConfig, Run, Shards, StopBefore, TrainRequest


def main(
    overrides: Overrides = None,
    shards: Shards = None,
    run: Run = None,
    preset: Preset = None,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|MIN:MAX",
            help="Ranks: N, or from MIN to MAX as the cluster has room.",
            rich_help_panel="Workers",
        ),
    ] = "1",
    cpus_per_worker: Annotated[int, typer.Option(min=1, help="CPUs of each rank.")] = 1,
    ray_address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A running Ray cluster (this machine alone).")
    ] = "",
    stop_before: StopBefore = None,
    config: Config = None,
    init_from: InitFrom = None,
    sync_to: SyncTo = None,
    resume_from: ResumeFrom = None,
    print_config: PrintConfig = False,
) -> None:
    """Train a model on a Ray cluster. The run is the same as one of `jobs.train`.

    If a worker or a node is lost, all ranks restart from the last checkpoint. Run the same command again to resume.

        python -m jobs.train_on_ray --preset generation --shards SHARDS --run RUN --workers 8 --ray-address HOST:PORT
    """
    signals = StopSignals()
    signals.listen()
    deadline = parse_time(stop_before) if stop_before else None

    from musicvae.data.manifest import is_url

    # Ranks run in folders of Ray's own.
    if shards and not is_url(shards):
        shards = str(Path(shards).absolute())
    run, init_from = (path.absolute() if path else None for path in (run, init_from))
    request = TrainRequest(shards, run, preset, config, init_from, tuple(overrides or ()))
    if print_config:
        print(settings_text(request.settings()), end="")
        return
    check_urls(sync_to=sync_to, resume_from=resume_from)
    plan = request.without_weights(request.settings())
    end_of_checks()
    check_ray_address(ray_address)
    outlive_terminal()
    console.print(settings_source(preset, config, request.overrides), soft_wrap=True)
    if fetch(resume_from, plan.folder.path):
        plan = request.without_weights(plan.settings)
    plan = plan.with_weights(init_from)

    from jobs.training.ray_driver import RayLaunch, ranks_on_ray, size_of

    resources = plan.settings.resources
    size = size_of(workers, cpus=cpus_per_worker, device=resources.device, lanes=plan.settings.data.lanes)
    signals.stop_ahead(deadline, resources.stop_margin_seconds)
    signals.stop_after(plan.settings.train.max_minutes)  # of the launch as a whole: every attempt counts its own anew
    launch = RayLaunch(plan, shards or "", init_from, new_launch_id(), signals)
    copied = mirrored(plan.folder.path, sync_to, skipped=("ranks",))
    with copied, ranks_on_ray(ray_address, size, lambda: signals.any) as ranks:
        launch.train(ranks)


if __name__ == "__main__":
    run_command(main)
