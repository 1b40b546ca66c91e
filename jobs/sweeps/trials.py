"""The trials of a sweep as configurations of `jobs.train`, each checked and counted before anything is started."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from jobs.command.command_line import read_preset
from jobs.sweeps.decisions import most_steps, seconds_per_step
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import LEDGER_NAME, Begun, Imported, SweepState, read_ledger
from jobs.sweeps.settings import SweepSettings, Values, active, grid_values, random_values
from jobs.training.settings import TrainConfig
from musicvae.data.manifest import ShardManifest, open_shards
from musicvae.errors import ConfigError
from musicvae.model.settings import PerformanceSettings
from musicvae.settings import apply_values, nearest, parse_settings, read_yaml, unknown_setting
from musicvae.training.run_folder import RunIdentity
from musicvae.training.settings import FIGURES_OF_PLAYING, FIGURES_OF_SCORES, VALIDATION_FIGURES

SHIPPED = Path(__file__).parent
SHOWN_PROBLEMS = 5
OWN_SETTINGS = {
    "train.steps": "budget.steps",
    "train.max_minutes": "budget.hours",
    "resources.device": "resources.gpus of the sweep",
    "tracking.group": "the name of the sweep file",
}
"""What a sweep sets by itself, and from what."""
FIXED = {"preset", "metric", "direction", "asha"}
"""What trials share and are compared by; so do the sweep's `settings`."""
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
        shared = {"resources.threads": sweep.resources.cpus, "tracking.group": name, **sweep.settings}
        base = apply_values(read_preset(sweep.preset), {**shared, "train.steps": sweep.budget.steps})
        return cls(name, sweep, manifest, base)

    @property
    def shutdown_seconds(self) -> float:
        """What trials get to save and leave."""
        return parse_settings(TrainConfig, self.base).resources.shutdown_seconds

    def first(self) -> list[Values]:
        """What is tried before anything is drawn, with the base's values of what the sweep file leaves out."""
        base = parse_settings(TrainConfig, self.base).model_dump(mode="json")
        space = self.sweep.space
        return [active(space, {**dotted(base, space), **given}, given) for given in self.sweep.first]

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
        figures = FIGURES_OF_PLAYING if config.performance else FIGURES_OF_SCORES
        if self.sweep.metric not in figures:
            raise ConfigError(f"its evaluations give {next(iter(figures))} and others, not {self.sweep.metric}")
        known = dotted(config.model_dump(mode="json"), values)
        return Trial(RunIdentity.of(config.result_settings(), self.manifest), config, known)


def read_sweep(name_or_file: str, begun: Begun | None = None) -> tuple[str, SweepSettings]:
    """The name and the settings of a shipped sweep, or of a file.

    Args:
        begun: of the folder that goes on, whose direction a file without one takes.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    path = Path(name_or_file)
    if not path.suffix:
        path = SHIPPED / f"{name_or_file}.yaml"
        if not path.exists():
            shipped = ", ".join(sorted(sweep.stem for sweep in SHIPPED.glob("*.yaml")))
            raise ConfigError(
                f"there is no sweep {name_or_file!r}", expected=shipped, do="choose one, or give a YAML file"
            )
    before = {"direction": begun.sweep["direction"]} if begun else {}
    sweep = parse_settings(SweepSettings, {**before, **read_yaml(path)})
    _check_names(sweep)
    return path.stem, sweep


def planned_trials(factory: TrialFactory, planned: Iterable[Values]) -> list[Trial]:
    """The trials of some values, in order and each checked.

    Raises:
        ConfigError: some cannot be trained; the first few are told with their values.
    """
    trials, problems = [], []
    for values in planned:
        try:
            trials.append(factory.trial(values))
        except ConfigError as error:
            reason = ": ".join(filter(None, (error.problem, error.details["found"])))
            problems.append(f"{', '.join(f'{name}={value}' for name, value in values.items())}: {reason}")
    if problems:
        more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise ConfigError(
            f"{len(problems)} of {len(trials) + len(problems)} trials cannot be trained",
            expected="a space in which each combination is a valid configuration",
            found="; ".join(problems[:SHOWN_PROBLEMS]) + more,
            do="narrow the space, or make a setting depend on another with `when`",
        )
    return trials


def planned_values(sweep: SweepSettings) -> Iterator[Values]:
    """What is drawn whatever comes of it, in order; of a search that learns, the first alone."""
    match sweep.search:
        case "grid":
            yield from grid_values(sweep.space)
        case "random":
            yield from (random_values(sweep.space, seed=sweep.seed, number=n) for n in range(sweep.budget.trials))
        case "sobol":
            from jobs.sweeps.search import sobol_values  # loads Optuna

            yield from (sobol_values(sweep.space, seed=sweep.seed, number=n) for n in range(sweep.budget.trials))
        case "tpe" | "gp":
            yield random_values(sweep.space, seed=sweep.seed, number=0)


def dotted(settings: Mapping[str, Any], names: Mapping[str, Any] | Sequence[str]) -> Values:
    """Some of nested settings by dotted name."""
    values: Values = {}
    for name in names:
        level: Any = settings
        for part in name.split("."):
            level = level[part]
        values[name] = level
    return values


def _check_names(sweep: SweepSettings) -> None:
    problems = [p for name in (*sweep.settings, *sweep.space) if (p := unknown_setting(TrainConfig, name))]
    kinds = [kind.result_settings() for kind in (TrainConfig(), TrainConfig(performance=PerformanceSettings()))]
    results = {**kinds[0], **kinds[1]}
    for name in sweep.space if not problems else ():
        try:
            dotted(results, [name])
        except KeyError:
            problems.append(f"{name} does not change the result, so all its values would be the same trial")
    for name, where in OWN_SETTINGS.items():
        if name in sweep.settings:
            problems.append(f"{name} is set by {where}, not here")
    if sweep.metric not in VALIDATION_FIGURES:
        meant = nearest(sweep.metric.split("."), list(VALIDATION_FIGURES))
        problems.append(f"no evaluation gives the metric {sweep.metric} ({meant})")
    # Without Optuna it is no machine that trains, but one that may submit what others train.
    if sweep.search in ("sobol", "gp") and find_spec("optuna") and not find_spec("scipy"):
        problems.append(f"search: {sweep.search} needs SciPy: pip install 'musicvae-grooves[sweeps]'")
    if (gpus := sweep.resources.gpus) > 1:
        expected = "at most 1; a trial trains on one GPU, and the others train other trials"
        do = "resources.gpus: 1; after the sweep, train the winner on several GPUs with jobs.train --ranks"
        raise ConfigError(f"resources.gpus: {gpus:g} cannot be used", expected=expected, do=do)
    if problems:
        raise ConfigError(
            "the sweep cannot be used",
            expected="in space, settings that change the result; in settings, others; as metric, a figure",
            found="; ".join(problems),
            do="correct the names; `python -m jobs.train --print-config` shows all settings",
        )


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The search as far as it is known before.

    Attributes:
        drawn: how many numbers were drawn before.
        coming: number and values of the trials that are drawn next, in order; of a search that learns, none.
        numbers: how many the searcher draws in all.
        trials: some that stand for all, by their size.
        equal: numbers of which the configuration is that of an earlier one, as far as it is known.
        learnt: results of another sweep that the search begins with.
        outside: how many more it has, outside the space.
    """

    drawn: int
    coming: tuple[tuple[int, Values], ...]
    numbers: int
    trials: tuple[Trial, ...]
    manifest: ShardManifest
    equal: int
    learnt: tuple[Imported, ...] = ()
    outside: int = 0

    @property
    def trial_bytes(self) -> int:
        """Of a whole trial that keeps everything, at most."""
        return max((_bytes_of(trial, self.manifest) for trial in self.trials), default=0)


def prepare(name_or_file: str, shards: str, folder: SweepFolder) -> tuple[TrialFactory, SweepPlan]:
    """Checks the file, every trial that can be known, the shards and what the folder holds; without torch.

    Raises:
        ConfigError: they cannot be used, or do not fit each other.
        DataError: a damaged manifest or ledger.
    """
    # Looked at ahead of the ledger, which is what an element that begins the sweep meanwhile writes first.
    holds_something_else = folder.holds_something_else()
    state = read_ledger(folder.path)
    name, sweep = read_sweep(name_or_file, state.begun)
    manifest = open_shards(shards).manifest()
    manifest.split("validation")
    if state.begun:
        check_goes_on(state.begun, sweep, manifest.fingerprint)
    elif holds_something_else:
        cure = "choose another --out: a new path, or the folder of a sweep"
        raise ConfigError(f"{folder.path} is not a sweep", found="other files and no ledger", do=cure)
    factory = TrialFactory.of(name, sweep, manifest)
    plan = plan_sweep(factory, state)
    source = Path(sweep.learn_from or "").absolute()
    # What was taken over before is in the ledger, and the other sweep may be gone by now.
    if sweep.learn_from and not (state.imported and not (source / LEDGER_NAME).exists()):
        learnt, outside = results_of(factory, source)
        plan = replace(plan, learnt=tuple(learnt), outside=outside)
    return factory, plan


def check_goes_on(begun: Begun, sweep: SweepSettings, fingerprint: str) -> None:
    """A sweep may be extended; what its trials share and are compared by stays.

    Raises:
        ConfigError: that has changed.
    """
    before = parse_settings(SweepSettings, begun.sweep)
    was, now = ({**version.model_dump(include=FIXED), **version.settings} for version in (before, sweep))
    differing = [
        f"{name} was {was.get(name, 'not set')}, is {now.get(name, 'not set')}"
        for name in dict.fromkeys([*was, *now])
        if was.get(name) != now.get(name)
    ]
    if sweep.budget.steps < before.budget.steps:
        differing.append(f"budget.steps was {before.budget.steps}, is {sweep.budget.steps}, which is less")
    if fingerprint != begun.fingerprint:
        differing.append(f"shards were {begun.fingerprint}, are {fingerprint}")
    if differing:
        raise ConfigError(
            "the folder contains another sweep",
            expected="the same preset, settings, metric, direction, asha and shards, and at least as many steps",
            found="; ".join(differing),
            likely="an edited file; only space, trials, hours, repeats, attempts, resources and retention may change",
            do="choose another --out, or undo the change",
        )


def plan_sweep(factory: TrialFactory, state: SweepState) -> SweepPlan:
    """Builds and checks the configurations of all trials that are still to be drawn.

    Raises:
        ConfigError: some of them cannot be trained.
    """
    sweep = factory.sweep
    trials = planned_trials(factory, planned_values(sweep))
    first = {trial.id: trial for trial in planned_trials(factory, factory.first())}
    before = [trial.values for trial in first.values() if trial.id not in state.trials]
    drawn = len(state.numbers)
    left = max(0, sweep.budget.trials - drawn)
    # Numbers of shares that have not all ended leave gaps.
    free = (number for number in count() if number not in state.numbers)
    match sweep.search:
        case "grid":  # a wider grid has another order: what was drawn of it is left out, whatever its number was
            known = {*state.trials, *first}
            values = [*before, *(trial.values for trial in trials if trial.id not in known)][:left]
            coming = list(zip(free, values, strict=False))
            left = len(coming)
        case "random" | "sobol":
            coming = [(number, trial.values) for number, trial in enumerate(trials) if number not in state.numbers]
            coming = [(number, before.pop(0) if before else values) for number, values in coming]
        case "tpe" | "gp":
            coming = list(zip(free, before[:left], strict=False))
    equal = len(trials) - len({trial.id for trial in trials})
    whole = (*first.values(), *trials)
    measured = whole[:: -(-len(whole) // MEASURED_MODELS)] if whole else ()
    return SweepPlan(drawn, tuple(coming), drawn + left, measured, factory.manifest, equal)


def results_of(factory: TrialFactory, source: Path) -> tuple[list[Imported], int]:
    """What a search can learn from another sweep, and how many of its results lie outside the space.

    Raises:
        ConfigError: there is no such sweep, or its results mean something else.
        DataError: its ledger is damaged.
    """
    (other, state), sweep = SweepFolder(source).read(), factory.sweep
    assert state.begun is not None, "a sweep begins with it"
    there = parse_settings(TrainConfig, TrialFactory.of("", other, factory.manifest).base).model_dump(mode="json")
    base, imported, outside = dotted(there, sweep.space), [], 0
    for trial in state.trials.values():
        results = {str(steps): value for steps, value in trial.values.items() if steps in sweep.rungs}
        if trial.drawn.repeat_of is None and results:
            values = active(sweep.space, {**base, **trial.drawn.values})
            if all(sweep.space[name].holds(value) for name, value in values.items()):
                imported.append(Imported(str(source), trial.id, values, results, time.time()))
            else:
                outside += 1
    was = (other.metric, other.direction, state.begun.fingerprint)
    now = (sweep.metric, sweep.direction, factory.manifest.fingerprint)
    if was != now or not imported:
        raise ConfigError(
            f"learn_from: no results of {source} can be used",
            expected=f"{' '.join(now)}, results after {', '.join(map(str, sweep.rungs))} steps inside the space",
            found=f"{' '.join(was)}, {outside} results outside the space, {len(imported)} inside",
            do="choose another sweep in learn_from, or leave it out",
        )
    return imported, outside


def describe(name: str, sweep: SweepSettings, plan: SweepPlan, state: SweepState, *, free_bytes: int) -> str:
    """The plan for people: trials, hours, disk."""
    starts = [f"{plan.numbers} trials of up to {sweep.budget.steps:,} steps"]
    if plan.drawn:
        starts.append(f"{plan.drawn} of them drawn earlier")
    if plan.equal:
        starts.append(f"{plan.equal} of them equal to others; equal trials are trained once")
    if sweep.asha:
        compared = ", ".join(f"{rung:,}" for rung in sweep.rungs[:-1])
        starts.append(f"the best 1/{sweep.asha.eta} are continued after {compared} steps")
    lines = [f"sweep {name}: {'; '.join(starts)}"]
    if sweep.repeats.seeds > 1:
        repeated = f"the best {sweep.repeats.of_best}" if sweep.repeats.of_best else "all that are trained to the end"
        lines.append(f"repeats: {repeated} with {sweep.repeats.seeds - 1} more seed(s) each")
    steps = most_steps(sweep, plan.numbers)
    rate = seconds_per_step(state)
    hours = f"about {steps * rate / 3600:.1f} of training in all" if rate else "known when the first trials have ended"
    limit = f", at most {sweep.budget.hours:g}" if sweep.budget.hours else ""
    lines.append(f"hours: {hours}{limit}; {steps:,} optimizer steps")
    gib = most_bytes(sweep, plan) / 2**30
    cap = f", at most {sweep.retention.disk_gib:g} GiB (retention.disk_gib)" if sweep.retention.disk_gib else ""
    lines.append(f"disk: about {gib:.2f} GiB at the end{cap}; {free_bytes / 2**30:.1f} GiB are free")
    needed = min(gib, sweep.retention.disk_gib or math.inf)
    if needed * 2**30 > free_bytes:
        lines.append(
            "warning: the disk has too little space; free some, or set retention.disk_gib, .finished or .stopped"
        )
    if plan.learnt:
        left_out = f"; {plan.outside} more are outside the space" if plan.outside else ""
        lines.append(f"learns from {len(plan.learnt)} results of {sweep.learn_from}{left_out}")
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


def _bytes_of(trial: Trial, manifest: ShardManifest) -> int:
    """Of checkpoints and best weights; the rest of a run folder is small beside them."""
    from musicvae.training.tasks import weight_bytes  # loads torch, which the check of a sweep does without

    weights, train = weight_bytes(trial.config, manifest.grid, manifest.drum_map.num_drums), trial.config.train
    copies = COPIES_OF_CHECKPOINT + (train.average_decay > 0)
    return weights * (1 + copies * train.keep_checkpoints)
