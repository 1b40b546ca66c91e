"""Sweeps without a training: settings, and ledgers that are written by hand or played to their end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobs.sweeps.decisions import Draw, Idle, Repeat, Resume, first_steps, next_step
from jobs.sweeps.ledger import Begun, Drawn, End, Record, Start, SweepState
from jobs.sweeps.settings import SweepSettings, random_values
from musicvae.settings import parse_settings

METRIC = "validation.negative_elbo"


def sweep_settings(**changes: Any) -> SweepSettings:
    """Random search of twelve trials over two settings."""
    least = {
        "preset": "demo",
        "space": {"objective.beta": {"uniform": [0.1, 1]}, "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
        "budget": {"trials": 12, "steps": 90},
    }
    return parse_settings(SweepSettings, {**least, **changes})


def begun(sweep: SweepSettings) -> Begun:
    return Begun("test", sweep.model_dump(mode="json"), sweep.budget.trials, "f" * 16, "/shards", 1.0)


def drawn(number: int, trial: str = "", *, seed: int = 0, repeat_of: str | None = None, **values: Any) -> Drawn:
    return Drawn(number, trial or f"t{number}", values, seed, repeat_of, 2.0)


def end(trial: str, attempt: int = 0, value: float | None = None, *, step: int = 90, **changes: Any) -> End:
    figures = {} if value is None else {METRIC: value, "step": step}
    whole = End(trial, attempt, "finished", None, "", step, value, figures, 10.0, 1000, "host", 3.0)
    return replace(whole, **changes)


def state_of(*records: Record) -> SweepState:
    state = SweepState()
    for record in records:
        state.add(record)
    return state


def played(
    sweep: SweepSettings,
    result: Callable[[str, int], float],
    *,
    at_once: int = 1,
    state: SweepState | None = None,
    append: Callable[[Record], None] | None = None,
) -> list[tuple[str, int]]:
    """Plays a sweep to its end with a made-up result of each (trial, steps); gives the starts in order.

    Args:
        at_once: trials that run beside each other; the one that was started first ends first.
        append: writes a record; adds it to the state alone if not given.
    """
    state = state or SweepState()
    write = append or state.add
    running: list[tuple[str, int]] = []
    starts = []
    planned = sweep.budget.trials
    while True:
        step = next_step(sweep, state, planned=planned, running=[trial for trial, _ in running])
        if len(running) < at_once and not isinstance(step, Idle):
            match step:
                case Draw(number):
                    trial = f"t{number}"
                    write(drawn(number, **random_values(sweep.space, seed=sweep.seed, number=number)))
                case Repeat(repeated, repeat):
                    trial = f"{repeated}-r{repeat}"
                    write(drawn(-1, trial, seed=repeat, repeat_of=repeated))
                case Resume(trial):
                    pass
            steps = step.steps if isinstance(step, Resume) else first_steps(state.trials[trial], sweep)
            write(Start(trial, state.trials[trial].starts, steps, 2.0))
            running.append((trial, steps))
            starts.append((trial, steps))
            continue
        if not running:
            return starts
        trial, steps = running.pop(0)
        write(end(trial, state.trials[trial].starts - 1, result(trial, steps), step=steps))
