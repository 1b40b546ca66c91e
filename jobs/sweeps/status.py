"""The status of a sweep: what runs, what waits and why, what has ended, the best so far, when it will be done.

The best is a configuration, by the mean over its seeds and not by one lucky one.
"""

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Column, Table

from jobs.sweeps.decisions import Idle, cut_trials, next_step, seconds_per_step, steps_left
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState, TrialHistory
from jobs.sweeps.settings import SEED, SweepSettings
from musicvae.training.run_folder import RunFolder

SHOWN_FAILURES = 5
SILENT_SECONDS = 60.0
"""A running trial that has given no sign of life for so long is pointed out."""
Outcome = Literal["running", "waiting", "compared", "stopped", "finished", "diverged", "failed"]
"""`compared`: came to a comparison and may go on; `stopped`: will not, as far as the sweep is planned."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A drawn configuration with all its seeds: `repeats`, and trials of the space that differ in `train.seed` alone.

    Attributes:
        trials: those that were drawn, then their repeats.
        steps: that the furthest of the drawn ones came to.
        results: the metric after so many steps, by seed.
        failed: trials that diverged or failed.
    """

    trials: tuple[TrialHistory, ...]
    steps: int
    results: Mapping[int, float]
    failed: int

    @property
    def id(self) -> str:
        """The first trial."""
        return self.trials[0].id

    @property
    def values(self) -> Mapping[str, Any]:
        """Of the settings that are varied, the seed aside."""
        return _without_seed(self.trials[0])

    @property
    def mean(self) -> float:
        return statistics.fmean(self.results.values())

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds; None of a single one."""
        return statistics.stdev(self.results.values()) if len(self.results) > 1 else None

    @property
    def text(self) -> str:
        """The mean with its deviation."""
        return f"{self.mean:.6g}" + (f" ± {self.deviation:.2g}" if self.deviation is not None else "")

    def beside(self, other: "Configuration") -> tuple[float, float] | None:
        """Mean difference to another one over the seeds that both have, and its standard error; None for fewer than
        two such seeds."""
        differences = [value - other.results[seed] for seed, value in self.results.items() if seed in other.results]
        if len(differences) < 2 or self.steps != other.steps:
            return None
        return statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5


def _without_seed(trial: TrialHistory) -> dict[str, Any]:
    return {name: value for name, value in trial.drawn.values.items() if name != SEED}


def ranking(sweep: SweepSettings, state: SweepState) -> list[Configuration]:
    """All configurations with a result, the winner first: by the mean over their seeds, not by one lucky one.

    Those that were trained further stand before others, those without a failed seed before others, those with more
    seeds before others; then the mean decides.
    """
    groups: dict[str, list[TrialHistory]] = {}
    for trial in state.trials.values():
        drawn = state.trials[trial.drawn.repeat_of] if trial.drawn.repeat_of else trial
        groups.setdefault(json.dumps(_without_seed(drawn), sort_keys=True), []).append(trial)
    configurations = []
    for trials in groups.values():
        steps = max(trial.reached for trial in trials if trial.drawn.repeat_of is None)
        if steps:
            trials.sort(key=lambda t: (t.drawn.repeat_of is not None, steps not in t.values, t.drawn.seed))
            results = {trial.drawn.seed: trial.values[steps] for trial in trials if steps in trial.values}
            failed = sum(trial.state in ("diverged", "failed") for trial in trials)
            configurations.append(Configuration(tuple(trials), steps, results, failed))
    return sorted(configurations, key=lambda c: (-c.steps, c.failed > 0, -len(c.results), sweep.better(c.mean), c.id))


def best_of(sweep: SweepSettings, state: SweepState) -> Configuration | None:
    """The winner so far; None before the first result."""
    return next(iter(ranking(sweep, state)), None)


@dataclass(frozen=True, slots=True)
class Running:
    """A trial that is being trained.

    Attributes:
        step, total: of its present start.
        silent_seconds: since its last sign of life.
    """

    trial: str
    step: int
    total: int
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """Attributes:
    outcomes: trials by what came of them, repeats included.
    undrawn: configurations that the searcher has still to draw.
    running: empty where no driver is at work.
    waiting_for: why no more trials run, in words; empty where all is well.
    done: whether nothing is left to do.
    eta_seconds: None where it cannot be told.
    """

    outcomes: Counter[Outcome]
    undrawn: int
    running: tuple[Running, ...]
    waiting_for: str
    done: bool
    best: Configuration | None
    hours: float
    bytes: int
    eta_seconds: float | None


def sweep_status(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> SweepStatus:
    """Reads what the driver says and what the running trials say; the rest is the ledger's."""
    live = folder.read_live()
    at_work = [state.trials[name] for name in live["running"] if name in state.trials] if live else []
    running = tuple(_running(folder, trial) for trial in at_work)
    counts = Counter(outcomes(sweep, state).values())
    if not live:
        counts["waiting"] += counts.pop("running", 0)
    done = is_done(sweep, state) and not running
    rate = seconds_per_step(state)
    return SweepStatus(
        outcomes=counts,
        undrawn=state.planned - len(state.numbers),
        running=running,
        waiting_for=live["waiting"]
        if live
        else ""
        if done
        else "no driver is running; run the same command again to resume",
        done=done,
        best=best_of(sweep, state),
        hours=state.hours,
        bytes=state.bytes,
        eta_seconds=rate * steps_left(sweep, state) / len(running) if rate and running else None,
    )


def comparison(sweeps: Iterable[tuple[SweepFolder, SweepSettings, SweepState]]) -> Table:
    """What `jobs.sweep compare` prints: a row for each sweep."""
    wide = (Column(name, overflow="fold") for name in ("sweep", "best settings"))
    narrow = (Column(name, no_wrap=True) for name in ("metric", "best", "trials", "hours"))
    table = Table(next(wide), *narrow, next(wide), box=None, pad_edge=False, collapse_padding=True)
    for folder, sweep, state in sweeps:
        best, trials = best_of(sweep, state), f"{len(state.numbers)}/{state.planned}"
        settings = "\n".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in (best.values.items() if best else ())
        )
        metric = sweep.metric.removeprefix("validation.")
        table.add_row(str(folder.path), metric, best.text if best else "-", trials, f"{state.hours:.2f}", settings)
    return table


def is_done(sweep: SweepSettings, state: SweepState) -> bool:
    """Whether nothing is left to be started."""
    return isinstance(next_step(sweep, state, planned=state.planned, running=()), Idle)


def outcomes(sweep: SweepSettings, state: SweepState) -> dict[str, Outcome]:
    """What has become of each trial; `running` if the ledger has no end of it, whether a driver is at work or not."""
    planned = 0 if is_done(sweep, state) else state.planned
    cut = {trial.id for trial in cut_trials(sweep, state, planned=planned)}
    return {trial.id: _outcome(trial, sweep, stopped=trial.id in cut) for trial in state.trials.values()}


def _outcome(trial: TrialHistory, sweep: SweepSettings, *, stopped: bool) -> Outcome:
    match trial.state:
        case "finished" if trial.reached >= sweep.budget.steps:
            return "finished"
        case "finished":
            return "stopped" if stopped else "compared"
        case "diverged":
            return "diverged"
        case "failed" if trial.last_end and (trial.last_end.category != "killed" or trial.failures >= sweep.attempts):
            return "failed"
        case None if trial.is_open:
            return "running"
        case _:
            return "waiting"


def _running(folder: SweepFolder, trial: TrialHistory) -> Running:
    status = RunFolder(folder.run(trial.id)).read_status()
    total = trial.last_start.steps if trial.last_start else 0
    return Running(trial.id, status.get("step", 0), total, time.time() - status.get("heartbeat", time.time()))


def status_text(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> str:
    """What `jobs.sweep status` prints."""
    now, begun = sweep_status(folder, sweep, state), state.begun
    assert begun is not None, "a sweep begins with it"
    counts = ", ".join(f"{count} {name}" for name, count in sorted(now.outcomes.items()) if count)
    lines = [f"sweep {begun.name}: {'done' if now.done else 'not done'}; {counts or 'nothing started'}"]
    if equal := len(state.numbers) - len({*state.numbers.values()}):
        lines[0] += f", {equal} equal to one of these"
    if now.undrawn:
        lines[0] += f", {now.undrawn} to be drawn"
    for running_trial in now.running:
        silent = (
            f", no output for {running_trial.silent_seconds:.0f} s"
            if running_trial.silent_seconds > SILENT_SECONDS
            else ""
        )
        lines.append(f"  running {running_trial.trial}: step {running_trial.step:,} of {running_trial.total:,}{silent}")
    if now.waiting_for:
        lines.append(f"waiting: {now.waiting_for}")
    failed = [trial for trial in state.trials.values() if trial.state in ("failed", "diverged")]
    for trial in failed[:SHOWN_FAILURES]:
        assert trial.last_end is not None
        message = (trial.last_end.message.splitlines() or [""])[0]
        lines.append(
            f"  {trial.state} {trial.id} at step {trial.last_end.step:,}: {trial.last_end.category}: {message}"
        )
    if len(failed) > SHOWN_FAILURES:
        lines.append(f"  and {len(failed) - SHOWN_FAILURES} more; {folder.table('csv')} has them all")
    if best := now.best:
        lines.append(f"best: {best.id}, {sweep.metric} {best.text} after {best.steps:,} steps")
        lines.append("  " + ", ".join(f"{name}={value}" for name, value in best.values.items()))
    if sweep.budget.hours is not None and now.hours >= sweep.budget.hours:
        lines.append(f"budget.hours ({sweep.budget.hours:g}) are used up; no trial is started")
    cap = f" of {sweep.retention.disk_gib:g}" if sweep.retention.disk_gib else ""
    lines.append(f"cost: {now.hours:.2f} hours of training, {now.bytes / 2**30:.2f}{cap} GiB")
    if now.eta_seconds is not None:
        lines.append(f"about {now.eta_seconds / 60:.0f} more minutes at this rate")
    return "\n".join(lines)
