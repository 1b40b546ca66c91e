"""A sweep that was played without training, with the run folders that its page reads."""

from pathlib import Path
from typing import Any

from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Start, SweepState
from jobs.sweeps.settings import SweepSettings
from tests.support.runs.run_folders import begun_run, validation_line
from tests.support.sweeps.sweep_ledgers import begun, drawn, end, played, state_of, sweep_settings

SPACE = {
    "objective.beta": {"uniform": [0.0, 1.0]},
    "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-1]},
    "model.decoder": {"choice": ["hierarchical", "flat"]},
    "model.conductor_layers": {"choice": [1, 2], "when": {"model.decoder": ["hierarchical"]}},
}
WIDE_SPACE = SPACE | {
    "model.latent": {"choice": [16, 32, 64]},
    "model.decoder_layers": {"integer": [2, 5]},
    "model.decoder_dropout": {"uniform": [0.15, 0.45]},
    "model.encoder_dropout": {"uniform": [0.0, 0.45]},
    "model.token_features": {"choice": ["bits", "pairs"]},
    "objective.free_bits": {"uniform": [8.0, 20.0]},
    "data.mix_drums": {"choice": [0.0, 0.25, 0.5]},
    "optimizer.weight_decay": {"log_uniform": [0.01, 0.2]},
}
"""As many settings as the sweep of the shipped model has."""


def played_sweep(space: dict[str, Any] = SPACE) -> tuple[SweepSettings, SweepState]:
    """Twelve trials judged by beta alone, of which the two best are repeated; a diverged and a failed one besides."""
    sweep = sweep_settings(
        space=space,
        asha={"first_steps": 10, "eta": 3},
        repeats={"seeds": 2, "of_best": 2},
        budget={"trials": 12, "steps": 90},
    )
    state = state_of(begun(sweep))

    def result(trial: str, steps: int) -> float:
        drawn_as = state.trials[trial].drawn
        values = state.trials[drawn_as.repeat_of].drawn.values if drawn_as.repeat_of else drawn_as.values
        return 70 + 10 * values["objective.beta"] + 100 / steps + 0.001 * drawn_as.seed

    played(sweep, result, state=state, at_once=2)
    for name, outcome, category in (("bad", "diverged", "diverged"), ("worse", "failed", "hang")):
        state.add(drawn(len(state.numbers), name, **{"objective.beta": 0.5}))
        state.add(Start(name, 0, 10, 2.0))
        state.add(end(name, 0, None, step=3, state=outcome, category=category, message=f"<b>why</b> {category}"))
    return sweep, state


def with_runs(state: SweepState, path: Path) -> SweepFolder:
    """Run folders with two evaluations each."""
    for trial in state.trials.values():
        if trial.reached:
            run = begun_run(path / "runs" / trial.id, "objective.beta=0.5")
            for step in (5, trial.reached):
                run.log({"step": step, **validation_line(step, 70.0)})
    return SweepFolder(path)
