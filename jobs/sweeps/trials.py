"""The trials of a sweep as configurations of `jobs.train`, each checked and counted before anything is started."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from jobs.command.command_line import read_preset
from jobs.sweeps.decisions import most_steps, seconds_per_step
from jobs.sweeps.ledger import SweepState
from jobs.sweeps.settings import SweepSettings, Values, grid_values, random_values
from jobs.training.settings import TrainConfig
from musicvae.data.manifest import ShardManifest
from musicvae.errors import ConfigError
from musicvae.settings import apply_values, parse_settings, read_yaml, unknown_setting
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
MEASURED_MODELS = 32
"""Of many configurations, so many are built (their memory is not touched) to know how large they are."""
COPIES_OF_CHECKPOINT = 3
"""Weights, and the two moments of the optimizer."""


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
        config.check_windows(self.manifest)
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


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The search as far as it is known before.

    Attributes:
        drawn: how many numbers were drawn before.
        coming: number and values of the trials that are drawn next, in order; of a search that learns, none.
        numbers: how many the searcher draws in all.
        trial_bytes: of a whole trial that keeps everything, at most.
    """

    drawn: int
    coming: tuple[tuple[int, Values], ...]
    numbers: int
    trial_bytes: int


def plan_sweep(factory: TrialFactory, state: SweepState) -> SweepPlan:
    """Builds and checks the configurations of all trials that are still to be drawn.

    Raises:
        ConfigError: some of them cannot be trained.
    """
    sweep = factory.sweep
    trials = planned_trials(factory)
    drawn = len(state.numbers)
    left = max(0, sweep.budget.trials - drawn)
    # Numbers of shares that have not all ended leave gaps.
    free = (number for number in count() if number not in state.numbers)
    match sweep.search:
        case "grid":  # a wider grid has another order: what was drawn of it is left out, whatever its number was
            values = [trial.values for trial in trials if trial.id not in state.trials][:left]
            coming = list(zip(free, values, strict=False))
            left = len(coming)
        case "random":
            coming = [(number, trial.values) for number, trial in enumerate(trials) if number not in state.numbers]
        case "tpe":
            coming = []
    return SweepPlan(drawn, tuple(coming), drawn + left, _trial_bytes(trials, factory.manifest))


def describe(name: str, sweep: SweepSettings, plan: SweepPlan, state: SweepState, *, free_bytes: int) -> str:
    """The plan for people: trials, hours, disk."""
    starts = [f"{plan.numbers} trials of up to {sweep.budget.steps:,} steps"]
    if plan.drawn:
        starts.append(f"{plan.drawn} of them drawn before")
    if sweep.asha:
        compared = ", ".join(f"{rung:,}" for rung in sweep.rungs[:-1])
        starts.append(f"the best 1/{sweep.asha.eta} go on after {compared} steps")
    lines = [f"sweep {name}: {'; '.join(starts)}"]
    if sweep.repeats.seeds > 1:
        of = f"the best {sweep.repeats.of_best}" if sweep.repeats.of_best else "all that come to the end"
        lines.append(f"repeats: {of} with {sweep.repeats.seeds - 1} more seed(s) each")
    steps = most_steps(sweep, plan.numbers)
    rate = seconds_per_step(state)
    told = f"about {steps * rate / 3600:.1f} of training in all" if rate else "told once the first trials have ended"
    limit = f", at most {sweep.budget.hours:g}" if sweep.budget.hours else ""
    lines.append(f"hours: {told}{limit}; {steps:,} optimizer steps")
    gib = most_bytes(sweep, plan) / 2**30
    cap = f", at most {sweep.retention.disk_gib:g} GiB (retention.disk_gib)" if sweep.retention.disk_gib else ""
    lines.append(f"disk: about {gib:.2f} GiB in the end{cap}; {free_bytes / 2**30:.1f} GiB are free")
    needed = min(gib, sweep.retention.disk_gib or math.inf)
    if needed * 2**30 > free_bytes:
        lines.append("warning: that does not fit; free some space, or set retention.disk_gib, .finished or .stopped")
    return "\n".join(lines)


def most_bytes(sweep: SweepSettings, plan: SweepPlan) -> int:
    """What run folders take in the end, by the largest of the models."""
    whole = plan.numbers
    for _ in sweep.rungs[1:]:
        whole //= sweep.asha.eta if sweep.asha else 1
    stopped = plan.numbers - whole
    whole += min(whole, sweep.repeats.of_best or whole) * (sweep.repeats.seeds - 1)
    shares = {"all": 1.0, "weights": 1 / (1 + 2 * COPIES_OF_CHECKPOINT), "nothing": 0.0}
    kept = whole * shares[sweep.retention.finished] + stopped * shares[sweep.retention.stopped]
    return round(kept * plan.trial_bytes)


def _trial_bytes(trials: Sequence[Trial], manifest: ShardManifest) -> int:
    spaced = trials[:: -(-len(trials) // MEASURED_MODELS)] if trials else []
    return max((_bytes_of(trial, manifest) for trial in spaced), default=0)


def _bytes_of(trial: Trial, manifest: ShardManifest) -> int:
    """Of checkpoints and best weights; the rest of a run folder is small beside them."""
    from musicvae.model.size import weight_bytes  # loads torch, which the check of a sweep does without

    weights = weight_bytes(trial.config.model, manifest.grid, manifest.drum_map.num_drums)
    train = trial.config.train
    copies = COPIES_OF_CHECKPOINT + (train.average_decay > 0)
    return weights * (1 + copies * train.keep_checkpoints)
