"""What a sweep leaves to be read: tables, page, and the winner's settings."""

from pathlib import Path

from jobs.sweeps.best import best_of
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState
from jobs.sweeps.sweep_page import sweep_page
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.sweeps.sweep_table import write_tables
from jobs.sweeps.sweep_winner import write_best
from musicvae.durable import write_whole
from musicvae.errors import ConfigError


def write_report(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> list[Path]:
    """Writes the page and the tables; gives their paths."""
    write_tables(folder, sweep, state)
    write_whole(folder.report, sweep_page(folder, sweep, state))
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
    spread = f" ± {best.deviation:.4g}" if best.deviation is not None else ""
    return (
        f"best: trial {best.id}, {sweep.metric} {best.mean:.6g}{spread} over {len(best.results)} seed(s)\n"
        f"settings: {folder.best}\ntrain it: {command}"
    )
