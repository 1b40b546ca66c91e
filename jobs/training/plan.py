"""The options that `jobs.train` and `jobs.train_on_ray` share, and what they ask for, checked before it starts."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.command.command_line import compose_settings
from jobs.training.settings import TrainConfig
from musicvae.data.manifest import ShardManifest, ShardSource, open_shards
from musicvae.errors import ConfigError
from musicvae.pretrained.shipped import check_model_is_there
from musicvae.training.run_folder import RunFolder, RunIdentity, checkpoints

if TYPE_CHECKING:  # torch and numpy, which a login node need not have
    from musicvae.pretrained.model import TrainedModel
    from musicvae.training.world import World
from typing import Annotated, TypeAlias

import typer

from jobs.command.command_line import SETTINGS, WORK

Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="key.sub=value", help="Settings; they replace those of --preset or --config.", show_default=False
    ),
]
Shards: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FOLDER|URL", help="The shards that jobs.build_shards wrote.")
]
Run: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="The run folder: a new one, or one to resume.")
]
Preset: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Settings of a shipped preset, such as demo, small or generation.")
]
Config: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE.yaml", help="Settings from a YAML file.", rich_help_panel=SETTINGS)
]
InitFrom: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Start the new run from the best weights of another run.")
]
StopBefore: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Save and exit before this time: seconds since 1970, an ISO time, or slurm (the end of its job).",
        rich_help_panel=WORK,
    ),
]
PrintConfig: TypeAlias = Annotated[
    bool,
    typer.Option("--print-config", help="Show all settings with their values and exit.", rich_help_panel=SETTINGS),
]


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """The options of the command line that say what to train."""

    shards: str | None
    run: Path | None
    preset: str | None
    config: Path | None
    init_from: Path | None
    overrides: tuple[str, ...]

    def settings(self) -> TrainConfig:
        """The settings that preset, file and overrides give.

        Raises:
            ConfigError: they cannot be used.
        """
        return compose_settings(TrainConfig, preset=self.preset, config=self.config, overrides=self.overrides)

    def without_weights(self, settings: TrainConfig) -> "TrainPlan":
        """The plan of these settings, checked as far as that goes without torch: --init-from is not loaded.

        Raises:
            ConfigError: settings, shards and run folder do not fit each other.
            DataError: a damaged manifest.
        """
        if self.shards is None or self.run is None:
            raise ConfigError(
                "--shards and --run are needed", do="python -m jobs.train --preset demo --shards SHARDS --run RUN"
            )
        return _without_weights(settings, self.shards, self.run, self.init_from)


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """A request that can be carried out.

    Attributes:
        initial: what a new run's weights start from.
        folder: not opened yet.
    """

    settings: TrainConfig
    source: ShardSource
    manifest: ShardManifest
    initial: "TrainedModel | None"
    folder: RunFolder
    identity: RunIdentity

    def with_weights(self, init_from: Path | None) -> "TrainPlan":
        """The whole plan.

        Raises:
            ConfigError: weights that are not there, or do not fit.
        """
        # A run with a checkpoint has its own weights, whatever became of those that it once started from.
        if not init_from or checkpoints(self.folder.checkpoints):
            return self
        from musicvae.pretrained.load import load_run  # loads torch, which takes seconds

        initial = load_run(init_from)
        check_fits(initial, self.settings, self.manifest)
        identity = run_identity(self.settings, self.manifest, initial.weights_hash, self.folder)
        return replace(self, initial=initial, identity=identity)


def prepare(request: TrainRequest) -> TrainPlan:
    """Checks a request as far as that goes without the other ranks.

    Raises:
        ConfigError: settings, shards, run folder or weights do not fit each other.
        DataError: a damaged manifest.
    """
    return request.without_weights(request.settings()).with_weights(request.init_from)


def plan_for(settings: TrainConfig, shards: str, run: Path, init_from: Path | None) -> TrainPlan:
    """As `prepare`, with settings that are known already."""
    return _without_weights(settings, shards, run, init_from).with_weights(init_from)


def _without_weights(settings: TrainConfig, shards: str, run: Path, init_from: Path | None) -> TrainPlan:
    source = open_shards(shards, cache_dir=settings.data.cache_dir, cache_gib=settings.data.cache_gib)
    manifest = source.manifest()
    settings.check_windows(manifest)
    manifest.split("validation")
    folder, started_from = RunFolder(run), None
    if init_from and settings.performance:
        raise ConfigError(
            "a performance model cannot be started from weights",
            expected="no --init-from beside the settings performance.*",
            found=f"--init-from {init_from}",
            do="leave --init-from out",
        )
    if settings.objective.trains == "prior" and not init_from and not folder.config.exists():
        raise ConfigError(
            "the prior cannot be trained alone from random weights",
            expected="--init-from beside objective.trains=prior",
            found="no --init-from",
            do="add --init-from RUN, a run or an export with a trained encoder and decoder",
        )
    if init_from:
        check_began_from_weights(folder)
        if not checkpoints(folder.checkpoints):
            check_model_is_there(init_from)
            # Whether they are the weights that the run was begun with is known once they are loaded.
            started_from = folder.read_config()["identity"].get("init_from") if folder.config.exists() else None
    identity = run_identity(settings, manifest, started_from, folder)
    folder.check(identity)
    return TrainPlan(settings, source, manifest, None, folder, identity)


def check_began_from_weights(folder: RunFolder) -> None:
    """A run that has been trained from scratch cannot be started from weights any more.

    Raises:
        ConfigError: it has.
    """
    if checkpoints(folder.checkpoints) and not folder.read_config()["identity"].get("init_from"):
        raise ConfigError(
            f"{folder.path} was started without --init-from and already has checkpoints",
            expected="a new run folder, or a run that was started with --init-from",
            found=f"{len(checkpoints(folder.checkpoints))} checkpoint(s) of a run from random weights",
            do="choose another --run, or leave --init-from out to resume this run",
        )


def check_fits(initial: "TrainedModel", settings: TrainConfig, manifest: ShardManifest) -> None:
    """Weights can only start a run whose model has the same encoder, on the same kind of windows.

    Prior and decoder may be others, and then begin anew (`musicvae.training.state`).

    Raises:
        ConfigError: encoder, latent space, grid or drum map differ.
    """
    from musicvae.training.state import COMPONENTS, SHARED, matching_components

    differing = []
    if "encoder" not in matching_components(settings.model, initial.settings):
        asked, have = settings.model.model_dump(), initial.settings.model_dump()
        names = [name for name in asked if name in SHARED or name.startswith(COMPONENTS["encoder"])]
        differing = [f"model.{name} is {asked[name]}, was {have[name]}" for name in names if asked[name] != have[name]]
    if initial.grid != manifest.grid:
        differing.append(f"grid is {manifest.grid}, was {initial.grid}")
    if dict(initial.drum_map.pitches) != dict(manifest.drum_map.pitches):
        differing.append(f"drum map is {manifest.drum_map.name}, was {initial.drum_map.name}")
    if differing:
        raise ConfigError(
            "the weights of --init-from do not fit",
            expected="a run with the same encoder and latent space, grid and drum map",
            found="; ".join(differing),
            do="use the model settings of that run, and shards with its grid and drum map",
        )


def run_identity(
    settings: TrainConfig, manifest: ShardManifest, started_from: str | None, folder: RunFolder
) -> RunIdentity:
    """What makes this run this run: settings that change the result, the data, and the weights it started from.

    Args:
        started_from: hash of the weights that it is to start from now; None where it has its own, or random ones.

    Raises:
        ConfigError: the run was begun from weights of which it has made no checkpoint yet, and they are not given.
    """
    result_settings = settings.result_settings()
    if started_from is None and folder.config.exists():
        started_from = folder.read_config()["identity"].get("init_from")
        if started_from and not checkpoints(folder.checkpoints):
            raise ConfigError(
                f"{folder.path} was started with --init-from and has no checkpoint yet",
                expected="--init-from with the run that it starts from",
                found="no --init-from",
                do="give --init-from as in the first command",
            )
    if started_from:
        result_settings["init_from"] = started_from
    return RunIdentity.of(result_settings, manifest)


def describe(plan: TrainPlan, world: "World", *, resumed: bool) -> str:
    """What is about to happen, with the numbers that follow from the settings and how."""
    from musicvae.model.precision import multiplies_bfloat16

    settings, windows = plan.settings, plan.manifest.split("train").windows
    batch, lanes = settings.train.global_batch, settings.data.lanes
    rows = [
        f"run {plan.identity.run_id} in {plan.folder.path}: {'resumed' if resumed else 'new'}",
        f"{world.size} rank(s) on {world.device}, {settings.train.precision}",
        f"{windows} training windows, {windows / batch:.1f} steps per epoch = windows / train.global_batch ({batch})",
        f"{batch / world.size:g} windows per rank and step = train.global_batch / ranks, from {lanes} data.lanes",
    ]
    if lanes % world.size:
        rows.append(f"warning: {world.size} ranks share {lanes} lanes unequally, so some ranks wait for others")
    if settings.train.precision == "bfloat16" and not multiplies_bfloat16(world.device):
        rows.append(
            f"warning: this {world.device.type} emulates bfloat16, which is several times slower than float32; use "
            "train.precision=float32 with a new --run"
        )
    return "\n".join(rows)
