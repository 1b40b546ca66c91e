"""What a sweep leaves to be read: the trials as CSV and Parquet, the page, and best.yaml.

best.yaml holds the settings of the winner, and trains it again.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from jobs.command.command_line import settings_text
from jobs.sweeps import page, status
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import Begun, SweepState, TrialHistory
from jobs.sweeps.settings import SweepSettings
from jobs.sweeps.status import Configuration, best_of, ranking
from jobs.training.settings import TrainConfig
from musicvae.durable import aside_of, write_whole
from musicvae.errors import ConfigError
from musicvae.settings import apply_values, parse_settings
from musicvae.training.run_folder import RunFolder


def write_report(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> list[Path]:
    """Writes the page and the tables; gives their paths."""
    write_tables(folder, sweep, state)
    write_whole(folder.report, page.sweep_page(folder, sweep, state))
    return [folder.report, folder.table("csv"), folder.table("parquet")]


def write_winner(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> str:
    """Writes best.yaml and tells of it.

    Raises:
        ConfigError: no trial has a result yet.
    """
    best = best_of(sweep, state)
    if best is None or state.begun is None:
        raise ConfigError(
            f"no trial of {folder.path} has a result yet", do=f"wait for one: python -m jobs.sweep status {folder.path}"
        )
    command = write_best(folder, state.begun, sweep, best)
    return (
        f"best: trial {best.id}, {sweep.metric} {best.text} over {len(best.results)} seed(s)\n"
        f"settings: {folder.best}\ntrain it: {command}"
    )


def rows(sweep: SweepSettings, state: SweepState) -> Iterator[dict[str, Any]]:
    """A row for each trial, the winner's first, those without a result last; the same columns in every row."""
    ranked = [trial for configuration in ranking(sweep, state) for trial in configuration.trials]
    names = list(dict.fromkeys(name for trial in state.trials.values() for name in trial.drawn.values))
    figures = sorted({name for trial in ranked if trial.last_end for name in trial.last_end.figures} - {"step"})
    became, seen = status.outcomes(sweep, state), set[str]()
    for trial in (*ranked, *state.trials.values()):
        if trial.id not in seen:
            seen.add(trial.id)
            yield _row(trial, became[trial.id], names, figures)


def write_tables(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> None:
    """Replaces trials.csv and trials.parquet."""
    table = pa.Table.from_pylist(list(rows(sweep, state)))
    for kind, write in (("csv", pyarrow.csv.write_csv), ("parquet", pq.write_table)):
        path = folder.table(kind)
        aside = aside_of(path)
        with aside.open("wb") as file:  # pyarrow opens no path that is not UTF-8
            write(table, file)
        aside.replace(path)


def _row(trial: TrialHistory, became: status.Outcome, names: list[str], figures: list[str]) -> dict[str, Any]:
    end = trial.last_end
    return {
        "trial": trial.id,
        "repeat_of": trial.drawn.repeat_of,
        "seed": trial.drawn.seed,
        "outcome": became,
        "steps": trial.reached,
        "value": trial.value,
        **{name: _cell(trial.drawn.values.get(name)) for name in names},
        **{name: end.figures.get(name) if end else None for name in figures},
        "starts": trial.starts,
        "seconds": trial.seconds,
        "bytes": trial.bytes,
        "category": end.category if end else None,
        "message": end.message if end else "",
    }


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def write_best(folder: SweepFolder, begun: Begun, sweep: SweepSettings, best: Configuration) -> str:
    """Writes it; gives the command that trains it.

    Raises:
        ConfigError: the winner's run folder is gone, or was made with settings that this version does not know.
    """
    settings = RunFolder(folder.run(best.id)).read_config()["settings"]
    config = parse_settings(TrainConfig, apply_values(settings, {"tracking.group": None}))
    command = f"python -m jobs.train --config {folder.best} --shards {begun.shards} --run RUN"
    lines = [
        f"The winner of sweep {begun.name}: {sweep.metric} {best.text} over {len(best.results)} seed(s)",
        f"after {best.steps:,} steps; trials {', '.join(trial.id for trial in best.trials)}.",
        *(f"  {name}: {value}" for name, value in best.values.items()),
        f"Train it again: {command}",
    ]
    text = "".join(f"# {line}\n" for line in lines)
    write_whole(folder.best, text + settings_text(config))
    return command
