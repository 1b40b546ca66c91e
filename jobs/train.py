"""Trains a MusicVAE on shards, alone or under torchrun.

    python -m jobs.train --preset small --shards SHARDS --run RUN [key.sub=value ...]
    torchrun --standalone --nproc-per-node 2 --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2 \\
      -m jobs.train -- --preset small --shards SHARDS --run RUN

RUN absent: start. RUN present with the same settings and data: go on from its newest checkpoint.
"""

import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from jobs.command_line import compose_settings, console, run_command, settings_text
from jobs.launch import join_world, listen_for_signals, only_main_speaks
from jobs.provenance import provenance
from jobs.terminal_tracker import TerminalTracker
from jobs.train_config import TrainConfig
from jobs.wandb_tracker import WandbTracker
from musicvae.checkpoint import checkpoints
from musicvae.errors import ConfigError, DivergedError, StoppedError, SupersededError
from musicvae.fit import data_order, fit
from musicvae.manifest import ShardManifest
from musicvae.order import DataOrder
from musicvae.run_folder import RunFolder, RunIdentity
from musicvae.shard_source import open_shards
from musicvae.tracker import Trackers
from musicvae.trained import TrainedModel, load_run
from musicvae.world import World


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="key.sub=value ...", show_default=False)] = None,
    shards: Annotated[
        str | None, typer.Option(metavar="FOLDER|URL", help="What jobs.build_shards made: a folder, or its URL.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder: made, or continued.")] = None,
    preset: Annotated[str | None, typer.Option(help="A shipped preset: demo, small, paper.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Run whose best weights a new run starts from.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the resolved settings and end.")] = False,
) -> None:
    """Trains a MusicVAE, alone or under torchrun, on any number of ranks."""
    with only_main_speaks():
        settings = compose_settings(TrainConfig, preset=preset, config=config, overrides=overrides or ())
        if print_config:
            print(settings_text(settings), end="")
            return
        if shards is None or run is None:
            raise ConfigError(
                "--shards and --run are needed", do="python -m jobs.train --preset demo --shards SHARDS --run RUN"
            )
        source = open_shards(shards, cache_dir=settings.data.cache_dir, cache_gib=settings.data.cache_gib)
        manifest = source.manifest()
        order = data_order(settings, manifest)
        manifest.split("validation")
        folder = RunFolder(run)
        # A run with a checkpoint has its own weights, whatever became of those that it once started from.
        initial = load_run(init_from) if init_from and not checkpoints(folder.checkpoints) else None
        if initial:
            check_fits(initial, settings, manifest)
        identity = run_identity(settings, manifest, initial, folder)
    wish = listen_for_signals()
    world = join_world(settings.resources)
    resumed = world.on_main(lambda: folder.open(identity, settings.model_dump(mode="json"), provenance()))
    until_the_end = ExitStack()
    held = world.on_main(lambda: until_the_end.enter_context(folder.held(secrets.token_hex(6))))
    folder = held if world.is_main else folder

    tracker = Trackers([])
    if world.is_main:
        console.print(describe(settings, order, identity, world, folder, resumed=resumed), soft_wrap=True)
        terminal = TerminalTracker(console, total=settings.train.steps, global_batch=settings.train.global_batch)
        tracker = Trackers([terminal])
        if settings.tracking.wandb != "off":
            tracker = Trackers([terminal, WandbTracker(settings.tracking, run, warn=terminal.say)])
    state = "failed"
    try:
        fit(
            settings,
            source,
            folder,
            world,
            tracker,
            initial_weights=(lambda model: model.load_state_dict(initial.model.state_dict())) if initial else None,
            wish=wish,
        )
        state = "finished"
    except StoppedError as stopped:
        state = "interrupted" if stopped.by_user else "preempted"
        stopped.shown_elsewhere = not world.is_main
        raise
    except DivergedError as diverged:
        state = "diverged"
        diverged.shown_elsewhere = not world.is_main
        raise
    finally:
        if world.is_main:
            with suppress(SupersededError):
                folder.finish_status(state)
        until_the_end.close()
        tracker.close(state)
        world.leave()
    if world.is_main:
        console.print(f"best weights: {folder.best}", soft_wrap=True)


def check_fits(initial: TrainedModel, settings: TrainConfig, manifest: ShardManifest) -> None:
    """Weights can only start a run of the same model on the same kind of windows.

    Raises:
        ConfigError: model, grid or drum map differ.
    """
    asked, have = settings.model.model_dump(), initial.settings.model_dump()
    differing = [f"model.{key} is {asked[key]}, was {have[key]}" for key in asked if asked[key] != have[key]]
    if initial.grid != manifest.grid:
        differing.append(f"grid is {manifest.grid}, was {initial.grid}")
    if dict(initial.drum_map.pitches) != dict(manifest.drum_map.pitches):
        differing.append(f"drum map is {manifest.drum_map.name}, was {initial.drum_map.name}")
    if differing:
        raise ConfigError(
            "the weights of --init-from do not fit",
            expected="a run of the same model, grid and drum map",
            found="; ".join(differing),
            do="give the model settings of that run, and shards built as its were",
        )


def run_identity(
    settings: TrainConfig, manifest: ShardManifest, initial: TrainedModel | None, folder: RunFolder
) -> RunIdentity:
    """What makes this run this run: settings that change the result, the data, and the weights it started from.

    Raises:
        ConfigError: the run was begun from weights of which it has made no checkpoint yet, and they are not given.
    """
    result_settings = settings.result_settings()
    started_from = initial.weights_hash if initial else None
    if initial is None and folder.config.exists():
        started_from = folder.read_config()["identity"].get("init_from")
        if started_from and not checkpoints(folder.checkpoints):
            raise ConfigError(
                f"{folder.path} was begun with --init-from and has no checkpoint yet",
                expected="the run that it starts from",
                found="no --init-from",
                do="give --init-from as in the first command",
            )
    if started_from:
        result_settings["init_from"] = started_from
    return RunIdentity.of(result_settings, manifest)


def describe(
    settings: TrainConfig, order: DataOrder, identity: RunIdentity, world: World, run: RunFolder, *, resumed: bool
) -> str:
    """What is about to happen, with the numbers that follow from the settings and how."""
    batch, lanes = settings.train.global_batch, settings.data.lanes
    rows = [
        f"run {identity.run_id} in {run.path}: {'continued' if resumed else 'new'}",
        f"{world.size} rank(s) on {world.device}, {settings.train.precision}",
        f"{order.num_windows} training windows, {order.num_windows / batch:.1f} steps per epoch = windows / "
        f"train.global_batch ({batch})",
        f"{batch / world.size:g} windows per rank and step = train.global_batch / ranks, from {lanes} data.lanes",
    ]
    if lanes % world.size:
        rows.append(f"warning: {world.size} ranks share {lanes} lanes unequally; the smaller shares will wait")
    return "\n".join(rows)


if __name__ == "__main__":
    run_command(main)
