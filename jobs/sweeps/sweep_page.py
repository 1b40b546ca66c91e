"""The page of a sweep: one file with nothing on it that comes from elsewhere."""

from dataclasses import dataclass
from pathlib import Path

from jobs.sweeps.best import ranking
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState
from jobs.sweeps.sweep_figures import comparable, curves, mean_text, parallel, slices, spreads
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.sweeps.sweep_standing import Outcome, is_done, outcomes
from jobs.sweeps.tpe import importances
from preprocess.pages.charts import number
from preprocess.pages.page import page_environment, style

TEMPLATE = Path(__file__).with_name("sweep_page.html.jinja")
STYLES = (Path(__file__).parents[1] / "run_report" / "report_page.css", Path(__file__).with_name("sweep_page.css"))
BEST_SHOWN, FAILURES_SHOWN = 15, 30


@dataclass(frozen=True, slots=True)
class Cost:
    """What all trials of one outcome took."""

    outcome: Outcome
    trials: int
    steps: int
    hours: float
    mib: float


def sweep_page(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> str:
    """The page as HTML, which can always be encoded as UTF-8; of a sweep in any state."""
    assert state.begun is not None, "a sweep begins with it"
    environment = page_environment(TEMPLATE.parent)
    environment.filters["number"] = number
    ranked, became = ranking(sweep, state), outcomes(sweep, state)
    compared, results = comparable(sweep, state)
    importance = importances(
        sweep.space, [trial.drawn.values for trial in compared], results, maximize=sweep.direction == "maximize"
    )
    seeds, seed_ticks = spreads(sweep, ranked)
    failed = [trial for trial in state.trials.values() if became[trial.id] in ("failed", "diverged")]
    page = environment.get_template(TEMPLATE.name).render(
        css=style(STYLES[0]) + STYLES[1].read_text(),
        begun=state.begun,
        sweep=sweep,
        done=is_done(sweep, state),
        tiles=_tiles(sweep, state, became),
        best=[(one, mean_text(one)) for one in ranked[:BEST_SHOWN]],
        names=list(dict.fromkeys(name for one in ranked[:BEST_SHOWN] for name in one.values)),
        parallel=parallel(sweep, ranked) if ranked else None,
        slices=slices(sweep, ranked) if ranked else [],
        importance=importance,
        first_steps=sweep.rungs[0],
        curves=curves(folder, sweep, ranked, became),
        seeds=seeds,
        seed_ticks=seed_ticks,
        costs=_costs(state, became),
        failed=failed[:FAILURES_SHOWN],
        failures=len(failed),
    )
    return page.encode(errors="backslashreplace").decode()


def _tiles(sweep: SweepSettings, state: SweepState, became: dict[str, Outcome]) -> list[tuple[str, str]]:
    ranked = ranking(sweep, state)
    tiles = [(f"{len(state.numbers):,} of {state.begun.numbers if state.begun else 0:,}", "trials drawn")]
    tiles += [(f"{sum(one == kind for one in became.values()):,}", kind) for kind in sorted(set(became.values()))]
    if ranked:
        tiles.append((mean_text(ranked[0]), f"best {sweep.metric.removeprefix('validation.')}"))
    return [*tiles, (f"{state.hours:.2f}", "hours of training"), (f"{state.bytes / 2**30:.2f}", "GiB on disk")]


def _costs(state: SweepState, became: dict[str, Outcome]) -> list[Cost]:
    found = []
    for outcome in sorted(set(became.values())):
        trials = [trial for trial in state.trials.values() if became[trial.id] == outcome]
        hours = sum(trial.seconds for trial in trials) / 3600
        steps, mib = sum(trial.reached for trial in trials), sum(trial.bytes for trial in trials) / 2**20
        found.append(Cost(outcome, len(trials), steps, hours, mib))
    return found
