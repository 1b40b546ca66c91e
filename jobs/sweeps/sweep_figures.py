"""The figures of a sweep's page as plain numbers: places in percent, SVG paths, texts for whoever points at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.run_report.report_series import read_metrics
from jobs.sweeps.best import Configuration
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import SweepState, TrialHistory
from jobs.sweeps.sweep_axes import Axis, axes
from jobs.sweeps.sweep_settings import SweepSettings
from jobs.sweeps.sweep_standing import Outcome
from musicvae.training.run_folder import RunFolder
from preprocess.pages.charts import Scale, Tick, number, rule_distance

MOST_LINES, MOST_CURVES = 300, 60
"""Of many trials the best and evenly spaced others are drawn: more would be one blot."""
BEST_SHARE = 3
"""A third of what is drawn are the best."""
OUTLIERS = 0.9
"""A chart's height is for this share of the trials, the best ones; worse ones lie on its edge."""


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
    scale = metric_scale(sweep, [one.mean for one in ranked])
    return [
        Slice(
            axis,
            tuple(
                Dot(place, scale.place(ranked[at].mean), _kind(sweep, ranked, at), _told(ranked[at]))
                for at, place in sorted(axis.places.items(), reverse=True)
            ),
            scale.ticks(),
        )
        for axis in axes(sweep.space, [one.values for one in ranked])
    ]


def parallel(sweep: SweepSettings, ranked: Sequence[Configuration]) -> Parallel:
    """Each configuration as a line through its values; those without a setting pass its axis by."""
    shown = drawn(ranked, MOST_LINES)
    scale = metric_scale(sweep, [one.mean for one in ranked])
    found = axes(sweep.space, [one.values for one in shown])
    between = 100 / max(1, len(found))
    lines = []
    for at in reversed(range(len(shown))):  # the best is drawn last, above the others
        points = [(between * n, axis.places[at]) for n, axis in enumerate(found) if at in axis.places]
        points.append((100.0, scale.place(shown[at].mean)))
        lines.append(Line(_path(points), _kind(sweep, shown, at), _told(shown[at]), points[-1]))
    named = [(between * n, axis.name, axis.ticks) for n, axis in enumerate(found)]
    return Parallel((*named, (100.0, sweep.metric, scale.ticks())), tuple(lines))


def curves(
    folder: SweepFolder, sweep: SweepSettings, ranked: Sequence[Configuration], became: Mapping[str, Outcome]
) -> Curves | None:
    """The metric of trials over their steps, from their run folders; None where none has an evaluation."""
    found: list[tuple[int, TrialHistory, list[tuple[int, float]]]] = []
    shown = drawn(ranked, MOST_CURVES)
    for at, one in enumerate(shown):
        series = read_metrics(RunFolder(folder.run(one.id)).metrics).series.get(sweep.metric)
        if series and series.points:
            found.append((at, one.trials[0], [(point.step, point.mean) for point in series.points]))
    if not found:
        return None
    scale = metric_scale(sweep, [value for _, _, points in found for _, value in points])
    last = max(step for _, _, points in found for step, _ in points)
    lines = []
    for at, trial, points in reversed(found):
        places = [(100 * step / last, scale.place(value)) for step, value in points]
        kind = f"{_kind(sweep, shown, at)} {became[trial.id]}"
        lines.append(Line(_path(places), kind, _told(shown[at]), places[-1]))
    step = max(1, round(rule_distance(last)))
    x_ticks = tuple(Tick(100 * place / last, number(place)) for place in range(0, last + 1, step))
    cuts = tuple(Tick(100 * rung / last, number(rung)) for rung in sweep.rungs[:-1] if rung <= last)
    return Curves(tuple(lines), x_ticks, scale.ticks(), cuts)


def spreads(sweep: SweepSettings, ranked: Sequence[Configuration]) -> tuple[list[Spread], tuple[Tick, ...]]:
    """Configurations with several seeds, best first, and the ticks of their axis."""
    several = [one for one in ranked if len(one.results) > 1]
    if not several:
        return [], ()
    results = [result for one in several for result in one.results]
    scale = Scale(min(results), max(results), logarithmic=False)
    return [
        Spread(
            one.id,
            tuple((scale.place(result), number(result)) for result in one.results),
            scale.place(one.mean),
            mean_text(one),
        )
        for one in several
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


def mean_text(one: Configuration) -> str:
    """The metric with its spread."""
    return f"{one.mean:.5g}" + (f" ± {one.deviation:.2g}" if one.deviation is not None else "")


def _kind(sweep: SweepSettings, ranked: Sequence[Configuration], at: int) -> str:
    if at == 0:
        return "winner"
    return "whole" if ranked[at].steps >= sweep.budget.steps else "cut"


def _told(one: Configuration) -> str:
    values = "\n".join(f"{name} = {value}" for name, value in one.values.items())
    return f"{one.id}: {mean_text(one)} after {one.steps:,} steps\n{values}"


def _path(points: Sequence[tuple[float, float]]) -> str:
    places = [f"{x:.2f} {100 - y:.2f}" for x, y in points]
    return "M" + "L".join(places if len(places) > 1 else places * 2)
