"""The status of a sweep: what runs, what waits and why, what has ended, the best so far, when it will be done."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from jobs.sweeps.best import Configuration, best_of
from jobs.sweeps.decisions import Idle, cut_trials, next_step, seconds_per_step, steps_left
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState, TrialHistory
from jobs.sweeps.settings import SweepSettings
from musicvae.training.run_folder import RunFolder

SHOWN_FAILURES = 5
SILENT_SECONDS = 60.0
"""A running trial that has given no sign of life for so long is pointed out."""
Outcome = Literal["running", "waiting", "compared", "stopped", "finished", "diverged", "failed"]
"""`compared`: came to a comparison and may go on; `stopped`: will not, as far as the sweep is planned."""


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
class Standing:
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


def standing(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> Standing:
    """Reads what the driver says and what the running trials say; the rest is the ledger's."""
    live = folder.read_live()
    at_work = [state.trials[name] for name in live["running"] if name in state.trials] if live else []
    running = tuple(_running(folder, trial) for trial in at_work)
    counts = Counter(outcomes(sweep, state).values())
    if not live:
        counts["waiting"] += counts.pop("running", 0)
    done = is_done(sweep, state) and not running
    rate = seconds_per_step(state)
    return Standing(
        outcomes=counts,
        undrawn=_planned(state) - len(state.numbers),
        running=running,
        waiting_for=live["waiting"] if live else "" if done else "no driver is at work; run the same command again",
        done=done,
        best=best_of(sweep, state),
        hours=state.hours,
        bytes=state.bytes,
        eta_seconds=rate * steps_left(sweep, state) / len(running) if rate and running else None,
    )


def is_done(sweep: SweepSettings, state: SweepState) -> bool:
    """Whether nothing is left to be started."""
    following = next_step(sweep, state, planned=_planned(state), running=())
    return isinstance(following, Idle)


def outcomes(sweep: SweepSettings, state: SweepState) -> dict[str, Outcome]:
    """What has become of each trial; `running` if the ledger has no end of it, whether a driver is at work or not."""
    planned = 0 if is_done(sweep, state) else _planned(state)
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


def _planned(state: SweepState) -> int:
    return state.begun.numbers if state.begun else 0


def _running(folder: SweepFolder, trial: TrialHistory) -> Running:
    status = RunFolder(folder.run(trial.id)).read_status()
    total = trial.last_start.steps if trial.last_start else 0
    return Running(trial.id, status.get("step", 0), total, time.time() - status.get("heartbeat", time.time()))


def status_text(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> str:
    """What `jobs.sweep status` prints."""
    now, begun = standing(folder, sweep, state), state.begun
    assert begun is not None, "a sweep begins with it"
    counts = ", ".join(f"{count} {name}" for name, count in sorted(now.outcomes.items()) if count)
    lines = [f"sweep {begun.name}: {'done' if now.done else 'not done'}; {counts or 'nothing started'}"]
    if now.undrawn:
        lines[0] += f", {now.undrawn} to be drawn"
    for one in now.running:
        silent = f", silent for {one.silent_seconds:.0f} s" if one.silent_seconds > SILENT_SECONDS else ""
        lines.append(f"  running {one.trial}: step {one.step:,} of {one.total:,}{silent}")
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
        spread = f" ± {best.deviation:.4g}" if best.deviation is not None else ""
        lines.append(f"best: {best.id}, {sweep.metric} {best.mean:.6g}{spread} after {best.steps:,} steps")
        lines.append("  " + ", ".join(f"{name}={value}" for name, value in best.values.items()))
    if sweep.budget.hours is not None and now.hours >= sweep.budget.hours:
        lines.append(f"budget.hours ({sweep.budget.hours:g}) are used up; nothing new is started")
    cap = f" of {sweep.retention.disk_gib:g}" if sweep.retention.disk_gib else ""
    lines.append(f"cost: {now.hours:.2f} hours of training, {now.bytes / 2**30:.2f}{cap} GiB")
    if now.eta_seconds is not None:
        lines.append(f"about {now.eta_seconds / 60:.0f} more minutes at this rate")
    return "\n".join(lines)
