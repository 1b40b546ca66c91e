"""What a sweep does next, and what it costs: a function of its settings and its ledger, and of nothing else."""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from jobs.sweeps.ledger import SweepState, TrialHistory
from jobs.sweeps.settings import SweepSettings

FIRST_TRIALS = 3
"""So many trials that fail alike are no chance."""


def most_steps(sweep: SweepSettings, numbers: int) -> int:
    """Optimizer steps of the whole sweep, repeats included, if as many are promoted as ASHA means to."""
    total, reached = 0, 0
    for rung in sweep.rungs:
        total += numbers * (rung - reached)
        reached = rung
        if rung != sweep.rungs[-1] and sweep.asha:
            numbers //= sweep.asha.eta
    repeated = min(numbers, sweep.repeats.of_best or numbers)
    return total + repeated * (sweep.repeats.seeds - 1) * sweep.budget.steps


def seconds_per_step(state: SweepState) -> float | None:
    """Of what has been trained, starting and evaluating included; None before the first end."""
    trained = sum(trial.reached for trial in state.trials.values())
    return sum(trial.seconds for trial in state.trials.values() if trial.reached) / trained if trained else None


def steps_left(sweep: SweepSettings, state: SweepState) -> int:
    """Optimizer steps that are still to be done, if as many are promoted as ASHA means to."""
    return max(0, most_steps(sweep, state.planned) - sum(trial.reached for trial in state.trials.values()))


@dataclass(frozen=True, slots=True)
class Resume:
    """Start a trial that was drawn, up to some steps."""

    trial: str
    steps: int


@dataclass(frozen=True, slots=True)
class Draw:
    """Draw the configuration of a number, and start it."""

    number: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """Draw the repeat of a trial with its seed counted up, and start it."""

    trial: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing can be started now; `wait`: until something ends that runs."""

    why: Literal["wait", "done", "hours"]


Step = Resume | Draw | Repeat | Idle


def next_step(sweep: SweepSettings, state: SweepState, *, planned: int, running: Collection[str]) -> Step:
    """The next start.

    Args:
        planned: numbers that the searcher has, at most the budget's.
        running: trials that are being trained.
    """
    for trial in state.unfinished.values():
        if trial.id not in running and is_gone_on_with(trial, sweep):
            return Resume(trial.id, trial.last_start.steps if trial.last_start else first_steps(trial, sweep))
    for trial in state.trials.values():
        has_more = 0 < trial.reached < sweep.budget.steps and trial.reached not in sweep.rungs
        if trial.state == "finished" and has_more and trial.id not in running:
            return Resume(trial.id, next(rung for rung in sweep.rungs if rung > trial.reached))
    if sweep.budget.hours is not None and state.hours >= sweep.budget.hours:
        return Idle("hours")
    if promoted := _promoted(sweep, state, running):
        return promoted
    if len(state.numbers) < planned:
        return Draw(len(state.numbers))
    # What is repeated is decided when the search has ended, so that it does not depend on who was faster.
    if running and any(state.trials[trial].drawn.repeat_of is None for trial in running):
        return Idle("wait")
    if repeat := _repeat(sweep, state, running):
        return repeat
    return Idle("wait" if running else "done")


def is_gone_on_with(trial: TrialHistory, sweep: SweepSettings) -> bool:
    """Whether a trial of `unfinished` is started again by itself: one whose process was killed only so many times."""
    return trial.state != "failed" or trial.failures < sweep.attempts


def first_steps(trial: TrialHistory, sweep: SweepSettings) -> int:
    """What the first start of a trial comes to; a repeat is not compared on the way."""
    return sweep.budget.steps if trial.drawn.repeat_of else sweep.rungs[0]


def cut_trials(sweep: SweepSettings, state: SweepState, *, planned: int) -> list[TrialHistory]:
    """Trials that are not promoted any more, if those that are still to come do not come out of turn.

    Args:
        planned: trials that the first comparison will have in the end; 0 if nothing is to come any more.
    """
    if sweep.asha is None:
        return []
    cut, at_rungs = [], rung_rankings(sweep, state)
    for rung in sweep.rungs[:-1]:
        entries = at_rungs[rung]
        promoted = _promotions(sweep, state, rung, max(planned, len(entries)))
        for _, name in entries[promoted:]:
            trial = state.trials[name]
            if trial.state == "finished" and trial.reached == rung:
                cut.append(trial)
        planned //= sweep.asha.eta
    return cut


def rung_rankings(sweep: SweepSettings, state: SweepState) -> dict[int, list[tuple[float, str]]]:
    """For each comparison the trials that came to it, best first, by a value of which less is better.

    A trial that diverged on the way to a comparison came to it with the worst value.
    """
    rankings: dict[int, list[tuple[float, str]]] = {rung: [] for rung in sweep.rungs}
    for trial in state.trials.values():
        if trial.drawn.repeat_of is not None:
            continue
        for steps, value in trial.values.items():
            if steps in rankings:
                rankings[steps].append((sweep.better(value), trial.id))
        if trial.state == "diverged" and trial.last_start and trial.last_start.steps in rankings:
            rankings[trial.last_start.steps].append((math.inf, trial.id))
    for entries in rankings.values():
        entries.sort()
    return rankings


def _promoted(sweep: SweepSettings, state: SweepState, running: Collection[str]) -> Resume | None:
    """Algorithm 2 of the paper: the best 1/eta of each comparison go on, the furthest first."""
    if sweep.asha is None:
        return None
    at_rungs = rung_rankings(sweep, state)
    for rung, following in reversed(list(zip(sweep.rungs, sweep.rungs[1:], strict=False))):
        entries = at_rungs[rung]
        for value, name in entries[: _promotions(sweep, state, rung, len(entries))]:
            trial = state.trials[name]
            was_promoted = trial.last_start is not None and trial.last_start.steps > rung
            if not was_promoted and value < math.inf and name not in running:
                return Resume(name, following)
    return None


def _promotions(sweep: SweepSettings, state: SweepState, rung: int, trials: int) -> int:
    """How many of the trials that came to a comparison go on: one at least of those that were at the end once."""
    return max(trials // sweep.asha.eta if sweep.asha else 0, rung in state.former_steps)


def _repeat(sweep: SweepSettings, state: SweepState, running: Collection[str]) -> Repeat | Resume | None:
    """The next repeat of those that won; one from before `budget.steps` was raised goes on to the new end."""
    repeats = {(trial.drawn.repeat_of, trial.drawn.seed): trial for trial in state.trials.values()}
    for trial in _finalists(sweep, state):
        for repeat in range(1, sweep.repeats.seeds):
            there = repeats.get((trial.id, trial.drawn.seed + repeat))
            if there is None:
                return Repeat(trial.id, repeat)
            if there.state == "finished" and there.reached < sweep.budget.steps and there.id not in running:
                return Resume(there.id, sweep.budget.steps)
    return None


def same_failure(state: SweepState) -> str | None:
    """Why all of the first trials have failed, if they have done so alike; None otherwise, and for fewer than three."""
    ended = [trial.last_end for trial in state.trials.values() if trial.last_end and not trial.is_open]
    if len(ended) < FIRST_TRIALS or any(end.state != "failed" or end.category == "killed" for end in ended):
        return None
    # Their ids, sizes and paths differ.
    kinds = {(end.category, re.sub(r"[0-9a-f]*\d[0-9a-f]*", "", end.message.replace(end.trial, ""))) for end in ended}
    return f"{ended[0].category}: {ended[0].message}" if len(kinds) == 1 else None


def _finalists(sweep: SweepSettings, state: SweepState) -> Iterator[TrialHistory]:
    """Trials that are repeated, best first."""
    at_end = rung_rankings(sweep, state)[sweep.budget.steps]
    finished = [state.trials[name] for value, name in at_end if value < math.inf]
    yield from finished[: sweep.repeats.of_best]
