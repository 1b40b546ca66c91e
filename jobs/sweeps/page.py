"""The page of a sweep: one file that loads nothing from elsewhere.

Its figures are plain numbers: places in percent, SVG paths, and texts for whoever points at them. Each setting of the
sweep is an axis.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.run_report.record import read_metrics
from jobs.sweeps import search, status
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState, TrialHistory
from jobs.sweeps.settings import Dimension, SweepSettings, plain
from jobs.sweeps.status import Configuration, ranking
from musicvae.training.run_folder import RunFolder
from preprocess.pages.charts import Scale, Tick, number, rule_distance
from preprocess.pages.page import page_environment, render_report

TEMPLATE = Path(__file__).with_name("sweep_page.html.jinja")
STYLES = (Path(__file__).parents[1] / "run_report" / "report_page.css", Path(__file__).with_name("sweep_page.css"))
BEST_SHOWN, FAILURES_SHOWN = 15, 30
MOST_LINES, MOST_CURVES = 300, 60
"""Of many trials the best and evenly spaced others are drawn: more would be one blot."""
BEST_SHARE = 3
"""A third of what is drawn are the best."""
OUTLIERS = 0.9
"""A chart's height is for this share of the trials, the best ones; worse ones lie on its edge."""
MOST_TICKS = 6


def sweep_page(folder: SweepFolder, sweep: SweepSettings, state: SweepState) -> str:
    """The page as HTML, which can always be encoded as UTF-8; of a sweep in any state."""
    assert state.begun is not None, "a sweep begins with it"
    environment = page_environment(TEMPLATE.parent)
    environment.filters["number"] = number
    ranked, became = ranking(sweep, state), status.outcomes(sweep, state)
    compared, results = comparable(sweep, state)
    importance = search.importances(
        sweep.space, [trial.drawn.values for trial in compared], list(map(sweep.better, results))
    )
    seeds, seed_ticks = spreads(sweep, ranked)
    failed = [trial for trial in state.trials.values() if became[trial.id] in ("failed", "diverged")]
    return render_report(
        environment,
        TEMPLATE,
        STYLES,
        title=f"sweep {state.begun.name}",
        result=_result(sweep, state, ranked),
        beside=[path.name for path in folder.to_read if path.exists()],
        command="jobs.sweep report",
        begun=state.begun,
        sweep=sweep,
        done=status.is_done(sweep, state),
        tiles=_tiles(sweep, state, became),
        best=[(configuration, _beside(configuration, ranked[0])) for configuration in ranked[:BEST_SHOWN]],
        paired=any(_beside(configuration, ranked[0]) for configuration in ranked[:BEST_SHOWN]),
        names=list(dict.fromkeys(name for configuration in ranked[:BEST_SHOWN] for name in configuration.values)),
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


def _result(sweep: SweepSettings, state: SweepState, ranked: Sequence[Configuration]) -> str:
    """The winner in a sentence."""
    if not ranked:
        return f"No trial of {len(state.trials):,} has a result yet."
    best, seeds = ranked[0], len(ranked[0].results)
    over = f"{seeds} seed{'s' * (seeds > 1)}"
    return f"The best of {len(state.trials):,} trials is {best.id}: {sweep.metric} {best.text} over {over}."


def _tiles(sweep: SweepSettings, state: SweepState, became: dict[str, status.Outcome]) -> list[tuple[str, str]]:
    ranked = ranking(sweep, state)
    tiles = [(f"{len(state.numbers):,} of {state.planned:,}", "trials drawn")]
    tiles += [
        (f"{sum(outcome == kind for outcome in became.values()):,}", kind) for kind in sorted(set(became.values()))
    ]
    if ranked:
        tiles.append((ranked[0].text, f"best {sweep.metric.removeprefix('validation.')}"))
    return [*tiles, (f"{state.hours:.2f}", "hours of training"), (f"{state.bytes / 2**30:.2f}", "GiB on disk")]


def _costs(state: SweepState, became: dict[str, status.Outcome]) -> dict[status.Outcome, tuple[int, int, float, float]]:
    """Trials, steps, hours and MiB of each outcome."""
    costs = {}
    for outcome in sorted(set(became.values())):
        trials = [trial for trial in state.trials.values() if became[trial.id] == outcome]
        hours, mib = sum(trial.seconds for trial in trials) / 3600, sum(trial.bytes for trial in trials) / 2**20
        costs[outcome] = (len(trials), sum(trial.reached for trial in trials), hours, mib)
    return costs


@dataclass(frozen=True, slots=True)
class Axis:
    """Attributes:
    name: of the setting.
    places: percent along the axis, of each trial that has the setting, by the trial's place among all.
    ticks: with their values.
    """

    name: str
    places: Mapping[int, float]
    ticks: tuple[Tick, ...]


def axes(space: Mapping[str, Dimension], values: Sequence[Mapping[str, Any]]) -> list[Axis]:
    """An axis for each setting that differs between trials; one that a wider space has left behind is among them."""
    names = dict.fromkeys([*space, *(name for trial_values in values for name in trial_values)])
    all_axes = (_axis(name, space.get(name), [trial_values.get(name) for trial_values in values]) for name in names)
    return [axis for axis in all_axes if len(set(axis.places.values())) > 1]


def _axis(name: str, dimension: Dimension | None, values: Sequence[Any]) -> Axis:
    given = [value for value in values if value is not None]
    is_range = dimension is not None and (dimension.bounds or dimension.whole)
    if is_range and dimension and given and all(isinstance(value, int | float) for value in given):
        scale = Scale(min(given), max(given), logarithmic=dimension.is_log and min(given) > 0)
        places = {place: scale.place(value) for place, value in enumerate(values) if value is not None}
        return Axis(name, places, _thinned(scale.ticks()))
    listed = [plain(value) for value in (dimension.values() if dimension and not is_range else ())]
    listed += [value for place, value in enumerate(given) if value not in listed and value not in given[:place]]
    if all(isinstance(value, int | float) for value in listed):
        listed.sort()
    step = 100 / max(1, len(listed))
    places = {place: step * (listed.index(v) + 0.5) for place, v in enumerate(values) if v is not None}
    return Axis(name, places, tuple(Tick(step * (at + 0.5), _word(value)) for at, value in enumerate(listed)))


def _thinned(ticks: tuple[Tick, ...]) -> tuple[Tick, ...]:
    return ticks[:: max(1, math.ceil(len(ticks) / MOST_TICKS))]


def _word(value: Any) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Dot:
    """A trial on a slice; `kind` is a CSS class: winner, whole (trained to the end), cut (stopped early)."""

    x: float
    y: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Slice:
    """The metric over one setting."""

    axis: Axis
    dots: tuple[Dot, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A trial in the parallel coordinates, or a learning curve: an SVG path."""

    path: str
    kind: str
    text: str
    end: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Parallel:
    """Parallel coordinates: a vertical axis for each setting, the metric's last."""

    axes: tuple[tuple[float, str, tuple[Tick, ...]], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """The metric over the steps; `cuts` are where trials are compared."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    cuts: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """A configuration's seeds on the metric's axis."""

    name: str
    dots: tuple[tuple[float, str], ...]
    mean: float
    text: str


def metric_scale(sweep: SweepSettings, values: Sequence[float]) -> Scale:
    """The metric's axis. The worst tenth, which may be anywhere, does not take the space of the others."""
    ordered = sorted(values, key=sweep.better)
    shown = ordered[: max(2, round(OUTLIERS * len(ordered)))]
    return Scale(min(shown), max(shown), logarithmic=False)


def slices(sweep: SweepSettings, ranked: Sequence[Configuration]) -> list[Slice]:
    """For each setting the metric of every configuration."""
    scale = metric_scale(sweep, [configuration.mean for configuration in ranked])
    return [
        Slice(
            axis,
            tuple(
                Dot(place, scale.place(ranked[at].mean), _kind(sweep, ranked, at), _hover_text(ranked[at]))
                for at, place in sorted(axis.places.items(), reverse=True)
            ),
            scale.ticks(),
        )
        for axis in axes(sweep.space, [configuration.values for configuration in ranked])
    ]


def parallel(sweep: SweepSettings, ranked: Sequence[Configuration]) -> Parallel:
    """Each configuration as a line through its values; those without a setting pass its axis by."""
    shown = drawn(ranked, MOST_LINES)
    scale = metric_scale(sweep, [configuration.mean for configuration in ranked])
    setting_axes = axes(sweep.space, [configuration.values for configuration in shown])
    between = 100 / max(1, len(setting_axes))
    lines = []
    for at in reversed(range(len(shown))):  # the best is drawn last, above the others
        points = [(between * n, axis.places[at]) for n, axis in enumerate(setting_axes) if at in axis.places]
        points.append((100.0, scale.place(shown[at].mean)))
        lines.append(Line(_path(points), _kind(sweep, shown, at), _hover_text(shown[at]), points[-1]))
    named = [(between * n, axis.name, axis.ticks) for n, axis in enumerate(setting_axes)]
    return Parallel((*named, (100.0, sweep.metric, scale.ticks())), tuple(lines))


def curves(
    folder: SweepFolder, sweep: SweepSettings, ranked: Sequence[Configuration], became: Mapping[str, status.Outcome]
) -> Curves | None:
    """The metric of trials over their steps, from their run folders; None where none has an evaluation."""
    drawn_trials: list[tuple[int, TrialHistory, list[tuple[int, float]]]] = []
    shown = drawn(ranked, MOST_CURVES)
    for at, configuration in enumerate(shown):
        series = read_metrics(RunFolder(folder.run(configuration.id)).metrics).series.get(sweep.metric)
        if series and series.points:
            drawn_trials.append((at, configuration.trials[0], [(point.step, point.mean) for point in series.points]))
    if not drawn_trials:
        return None
    scale = metric_scale(sweep, [value for _, _, points in drawn_trials for _, value in points])
    last = max(step for _, _, points in drawn_trials for step, _ in points)
    lines = []
    for at, trial, points in reversed(drawn_trials):
        places = [(100 * step / last, scale.place(value)) for step, value in points]
        kind = f"{_kind(sweep, shown, at)} {became[trial.id]}"
        lines.append(Line(_path(places), kind, _hover_text(shown[at]), places[-1]))
    step = max(1, round(rule_distance(last)))
    x_ticks = tuple(Tick(100 * place / last, number(place)) for place in range(0, last + 1, step))
    cuts = tuple(Tick(100 * rung / last, number(rung)) for rung in sweep.rungs[:-1] if rung <= last)
    return Curves(tuple(lines), x_ticks, scale.ticks(), cuts)


def spreads(sweep: SweepSettings, ranked: Sequence[Configuration]) -> tuple[list[Spread], tuple[Tick, ...]]:
    """Configurations with several seeds, best first, and the ticks of their axis."""
    several = [configuration for configuration in ranked if len(configuration.results) > 1]
    if not several:
        return [], ()
    results = [result for configuration in several for result in configuration.results.values()]
    scale = Scale(min(results), max(results), logarithmic=False)
    return [
        Spread(
            configuration.id,
            tuple((scale.place(result), number(result)) for result in configuration.results.values()),
            scale.place(configuration.mean),
            configuration.text,
        )
        for configuration in several
    ], scale.ticks()


def comparable(sweep: SweepSettings, state: SweepState) -> tuple[list[TrialHistory], list[float]]:
    """Trials with their results at the first comparison, which all of them came to."""
    first = sweep.rungs[0]
    trials = [trial for trial in state.trials.values() if trial.drawn.repeat_of is None and first in trial.values]
    return trials, [trial.values[first] for trial in trials]


def drawn(ranked: Sequence[Configuration], most: int) -> list[Configuration]:
    """The best of many, and evenly spaced others."""
    if len(ranked) <= most:
        return list(ranked)
    best = most // BEST_SHARE
    others = len(ranked) - best
    return [*ranked[:best], *(ranked[best + others * at // (most - best)] for at in range(most - best))]


def _beside(configuration: Configuration, winner: Configuration) -> str:
    difference = configuration.beside(winner) if configuration is not winner else None
    return f"{difference[0]:+.3g} ± {difference[1]:.2g}" if difference else ""


def _kind(sweep: SweepSettings, ranked: Sequence[Configuration], at: int) -> str:
    if at == 0:
        return "winner"
    return "whole" if ranked[at].steps >= sweep.budget.steps else "cut"


def _hover_text(configuration: Configuration) -> str:
    values = "\n".join(f"{name} = {value}" for name, value in configuration.values.items())
    return f"{configuration.id}: {configuration.text} after {configuration.steps:,} steps\n{values}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    places = [f"{x:.2f} {100 - y:.2f}" for x, y in points]
    return "M" + "L".join(places if len(places) > 1 else places * 2)
