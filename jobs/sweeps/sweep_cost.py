"""What a sweep takes, as far as it can be told before and on the way."""

from jobs.sweeps.ledger import SweepState
from jobs.sweeps.sweep_settings import SweepSettings


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
    planned = state.begun.numbers if state.begun else 0
    return max(0, most_steps(sweep, planned) - sum(trial.reached for trial in state.trials.values()))
