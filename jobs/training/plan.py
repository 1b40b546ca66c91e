"""What a command line of `jobs.train` asks for, checked before anything is started."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.command.command_line import compose_settings
from jobs.training.settings import TrainConfig
from musicvae.data.manifest import ShardManifest
from musicvae.data.sources import ShardSource, open_shards
from musicvae.errors import ConfigError
from musicvae.training.run_folder import RunFolder, RunIdentity, checkpoints

if TYPE_CHECKING:  # torch and numpy, which a login node need not have
    from musicvae.pretrained.model import TrainedModel
    from musicvae.training.world import World


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


def prepare(request: TrainRequest) -> TrainPlan:
    """Checks a request as far as that goes without the other ranks.

    Raises:
        ConfigError: settings, shards, run folder or weights do not fit each other.
        DataError: a damaged manifest.
    """
    settings = request.settings()
    if request.shards is None or request.run is None:
        raise ConfigError(
            "--shards and --run are needed", do="python -m jobs.train --preset demo --shards SHARDS --run RUN"
        )
    return plan_for(settings, request.shards, request.run, request.init_from)


def plan_for(settings: TrainConfig, shards: str, run: Path, init_from: Path | None) -> TrainPlan:
    """As `prepare`, with settings that are known already.

    Raises:
        ConfigError: settings, shards, run folder or weights do not fit each other.
        DataError: a damaged manifest.
    """
    source = open_shards(shards, cache_dir=settings.data.cache_dir, cache_gib=settings.data.cache_gib)
    manifest = source.manifest()
    settings.check_windows(manifest)
    manifest.split("validation")
    folder = RunFolder(run)
    initial = None
    if init_from:
        check_began_from_weights(folder)
        # A run with a checkpoint has its own weights, whatever became of those that it once started from.
        if not checkpoints(folder.checkpoints):
            from musicvae.pretrained.load import load_run  # loads torch, which takes seconds

            initial = load_run(init_from)
            check_fits(initial, settings, manifest)
    identity = run_identity(settings, manifest, initial.weights_hash if initial else None, folder)
    return TrainPlan(settings, source, manifest, initial, folder, identity)


def check_began_from_weights(folder: RunFolder) -> None:
    """A run that has been trained from scratch cannot be started from weights any more.

    Raises:
        ConfigError: it has.
    """
    if checkpoints(folder.checkpoints) and not folder.read_config()["identity"].get("init_from"):
        raise ConfigError(
            f"{folder.path} was begun without --init-from and has been trained since",
            expected="a new run folder, or a run that was begun with --init-from",
            found=f"{len(checkpoints(folder.checkpoints))} checkpoint(s) of a run from random weights",
            do="name another --run, or leave out --init-from to go on with this one",
        )


def check_fits(initial: "TrainedModel", settings: TrainConfig, manifest: ShardManifest) -> None:
    """Weights can only start a run whose model has the same encoder, on the same kind of windows.

    Prior and decoder may be others, and then begin anew (`musicvae.training.warm_start`).

    Raises:
        ConfigError: encoder, latent space, grid or drum map differ.
    """
    from musicvae.training.warm_start import PARTS, SHARED, parts_that_fit

    differing = []
    if "encoder" not in parts_that_fit(settings.model, initial.settings):
        asked, have = settings.model.model_dump(), initial.settings.model_dump()
        names = [name for name in asked if name in SHARED or name.startswith(PARTS["encoder"])]
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
            do="give the model settings of that run, and shards built as its were",
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
                f"{folder.path} was begun with --init-from and has no checkpoint yet",
                expected="the run that it starts from",
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
        f"run {plan.identity.run_id} in {plan.folder.path}: {'continued' if resumed else 'new'}",
        f"{world.size} rank(s) on {world.device}, {settings.train.precision}",
        f"{windows} training windows, {windows / batch:.1f} steps per epoch = windows / train.global_batch ({batch})",
        f"{batch / world.size:g} windows per rank and step = train.global_batch / ranks, from {lanes} data.lanes",
    ]
    if lanes % world.size:
        rows.append(f"warning: {world.size} ranks share {lanes} lanes unequally; the smaller shares will wait")
    if settings.train.precision == "bfloat16" and not multiplies_bfloat16(world.device):
        rows.append(
            f"warning: this {world.device.type} does not multiply bfloat16, and emulates it several times slower than "
            "float32: train.precision=float32, which begins another run"
        )
    return "\n".join(rows)
