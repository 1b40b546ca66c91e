"""What a sweep is going to do, checked and counted before anything is started."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from jobs.sweeps.ledger import SweepState
from jobs.sweeps.sweep_cost import most_steps, seconds_per_step
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.sweeps.sweep_space import Values
from jobs.sweeps.sweep_trials import Trial, TrialFactory, planned_trials
from jobs.sweeps.unfilled import Unfilled
from musicvae.data.manifest import ShardManifest
from musicvae.model.model import MusicVAE

MEASURED_MODELS = 32
"""Of many configurations, so many are built (their memory is not touched) to know how large they are."""
COPIES_OF_CHECKPOINT = 3
"""Weights, and the two moments of the optimizer."""


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
    with Unfilled():
        model = MusicVAE(trial.config.model, manifest.grid, manifest.drum_map.num_drums)
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    train = trial.config.train
    copies = COPIES_OF_CHECKPOINT + (train.average_decay > 0)
    return weights * (1 + copies * train.keep_checkpoints)
