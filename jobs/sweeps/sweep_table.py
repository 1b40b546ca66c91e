"""The trials of a sweep as a table: CSV and Parquet."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from jobs.sweeps.best import ranking
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState, TrialHistory
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.sweeps.sweep_standing import Outcome, outcomes
from musicvae.durable import aside_of


def rows(sweep: SweepSettings, state: SweepState) -> Iterator[dict[str, Any]]:
    """A row for each trial, the winner's first, those without a result last; the same columns in every row."""
    ranked = [trial for configuration in ranking(sweep, state) for trial in configuration.trials]
    names = list(dict.fromkeys(name for trial in state.trials.values() for name in trial.drawn.values))
    figures = sorted({name for trial in ranked if trial.last_end for name in trial.last_end.figures} - {"step"})
    became, seen = outcomes(sweep, state), set[str]()
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
        write(table, aside)
        aside.replace(path)


def _row(trial: TrialHistory, became: Outcome, names: list[str], figures: list[str]) -> dict[str, Any]:
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
