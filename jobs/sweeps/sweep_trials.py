"""The trials of a sweep as configurations of `jobs.train`, each checked before anything is started."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.command.command_line import read_preset
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.sweeps.sweep_space import Values, grid_values, random_values
from jobs.training.settings import TrainConfig
from musicvae.data.manifest import ShardManifest
from musicvae.errors import ConfigError
from musicvae.settings import apply_values, parse_settings, read_yaml, unknown_setting
from musicvae.training.fit import data_order
from musicvae.training.run_folder import RunIdentity

SHIPPED = Path(__file__).parent
SHOWN_PROBLEMS = 5
OWN_SETTINGS = {
    "train.steps": "budget.steps",
    "train.max_minutes": "budget.hours",
    "resources.device": "resources.gpus of the sweep",
    "tracking.group": "the name of the sweep file",
}
"""What a sweep sets by itself, and from what."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration that can be trained.

    Attributes:
        identity: its run id is the trial's name; equal configurations are one trial.
        values: of the settings that the sweep varies, as the configuration has them.
    """

    identity: RunIdentity
    config: TrainConfig
    values: Values

    @property
    def id(self) -> str:
        return self.identity.run_id


@dataclass(frozen=True, slots=True)
class TrialFactory:
    """Makes trials out of values.

    Attributes:
        name: of the sweep, under which W&B groups its runs.
        base: the settings that all trials share, nested.
    """

    name: str
    sweep: SweepSettings
    manifest: ShardManifest
    base: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, sweep: SweepSettings, manifest: ShardManifest) -> "TrialFactory":
        """The factory of a sweep on some shards.

        Raises:
            ConfigError: there is no such preset.
        """
        own = {"resources.threads": sweep.resources.cpus, "tracking.group": name, **sweep.settings}
        base = apply_values(read_preset(sweep.preset), {**own, "train.steps": sweep.budget.steps})
        return cls(name, sweep, manifest, base)

    @property
    def shutdown_seconds(self) -> float:
        """What trials get to save and leave."""
        return parse_settings(TrainConfig, self.base).resources.shutdown_seconds

    def trial(self, values: Mapping[str, Any], *, repeat: int = 0) -> Trial:
        """The trial of some values.

        Args:
            repeat: counts `train.seed` up.

        Raises:
            ConfigError: they cannot be trained on these shards.
        """
        config = parse_settings(TrainConfig, apply_values(self.base, values))
        if repeat:
            seed = config.train.seed + repeat
            config = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
        data_order(config, self.manifest)
        known = dotted(config.model_dump(mode="json"), values)
        return Trial(RunIdentity.of(config.result_settings(), self.manifest), config, known)


def read_sweep(name_or_file: str) -> tuple[str, SweepSettings]:
    """The name and the settings of a shipped sweep, or of a file.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    path = Path(name_or_file)
    if not path.suffix:
        path = SHIPPED / f"{name_or_file}.yaml"
        if not path.exists():
            shipped = ", ".join(sorted(sweep.stem for sweep in SHIPPED.glob("*.yaml")))
            raise ConfigError(f"there is no sweep {name_or_file!r}", expected=shipped, do="name one, or a file.yaml")
    sweep = parse_settings(SweepSettings, read_yaml(path))
    _check_names(sweep)
    return path.stem, sweep


def planned_trials(factory: TrialFactory) -> list[Trial]:
    """The trials of a grid or of random search, in order and each checked; of a search that learns, the first alone.

    Raises:
        ConfigError: some cannot be trained; the first few are told with their values.
    """
    sweep = factory.sweep
    trials, problems = [], []
    for values in planned_values(sweep):
        try:
            trials.append(factory.trial(values))
        except ConfigError as error:
            reason = error.details["found"] or error.problem
            problems.append(f"{', '.join(f'{name}={value}' for name, value in values.items())}: {reason}")
    if problems:
        more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise ConfigError(
            f"{len(problems)} of {len(trials) + len(problems)} trials cannot be trained",
            expected="a space in which every combination is a configuration",
            found="; ".join(problems[:SHOWN_PROBLEMS]) + more,
            do="narrow the space, or make a setting depend on another with `when`",
        )
    return trials


def planned_values(sweep: SweepSettings) -> Iterator[Values]:
    """What is drawn whatever comes of it, in order."""
    match sweep.search:
        case "grid":
            yield from grid_values(sweep.space)
        case "random":
            yield from (random_values(sweep.space, seed=sweep.seed, number=n) for n in range(sweep.budget.trials))
        case "tpe":
            yield random_values(sweep.space, seed=sweep.seed, number=0)


def dotted(settings: Mapping[str, Any], names: Mapping[str, Any] | Sequence[str]) -> Values:
    """Some of nested settings by dotted name."""
    found: Values = {}
    for name in names:
        level: Any = settings
        for part in name.split("."):
            level = level[part]
        found[name] = level
    return found


def _check_names(sweep: SweepSettings) -> None:
    problems = [p for name in (*sweep.settings, *sweep.space) if (p := unknown_setting(TrainConfig, name))]
    results = TrainConfig().result_settings()
    for name in sweep.space if not problems else ():
        try:
            dotted(results, [name])
        except KeyError:
            problems.append(f"{name} changes no result, so that all its values would be one trial")
    for name, where in OWN_SETTINGS.items():
        if name in sweep.settings:
            problems.append(f"{name} is not set here but by {where}")
    if problems:
        raise ConfigError(
            "the sweep cannot be used",
            expected="names of settings that change the result in space, of any others in settings",
            found="; ".join(problems),
            do="correct the names; `python -m jobs.train --print-config` shows them all",
        )
