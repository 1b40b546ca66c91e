"""The curves of runs as plain numbers: SVG paths in percent of a chart's space, ticks, and what a pointer reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.run_report.report_record import RunRecord
from jobs.run_report.report_series import Point, Series
from preprocess.pages.charts import Scale, Tick, number, rule_distance

Kind = Literal["training", "validation", "free"]
"""How a curve is drawn. `free` is a validation that was decoded free-running."""
BINS = 48
"""Places across a chart at which a pointer is told the values."""


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A chart: which figures it shows, each as a kind of curve, and on what scale."""

    name: str
    about: str
    figures: tuple[tuple[Kind, str], ...]
    logarithmic: bool = False
    from_zero: bool = False
    only_if_it_moves: bool = False


CHARTS: tuple[ChartSpec, ...] = (
    ChartSpec(
        "Validation −ELBO",
        "nats per window, lower is better",
        (("validation", "validation.negative_elbo"),),
    ),
    ChartSpec("Loss", "nats per window, as it is minimised", (("training", "loss"),)),
    ChartSpec(
        "Reconstruction",
        "nats per window",
        (("training", "reconstruction"), ("validation", "validation.reconstruction")),
    ),
    ChartSpec("KL", "bits per window", (("training", "kl_bits"), ("validation", "validation.kl_bits"))),
    ChartSpec(
        "Token accuracy",
        "share of steps with every drum right",
        (
            ("validation", "validation.token_accuracy_teacher_forced"),
            ("free", "validation.token_accuracy_free_running"),
        ),
    ),
    ChartSpec(
        "Active units", "latent dimensions that move with the input", (("validation", "validation.active_units"),)
    ),
    ChartSpec("Gradient norm", "before clipping, logarithmic", (("training", "gradient_norm"),), logarithmic=True),
    ChartSpec("Learning rate", "", (("training", "learning_rate"),)),
    ChartSpec(
        "Throughput",
        "windows per second, evaluations not counted",
        (("training", "windows_per_second"),),
        from_zero=True,
    ),
    ChartSpec("Beta", "weight of the KL", (("training", "beta"),), only_if_it_moves=True),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One figure of one run.

    Attributes:
        line: path through the means.
        band: path around the extremes, empty where every point is one value.
        dots: path of one dot a point, empty for training.
        best: where to draw the ring, in percent.
    """

    run: int
    kind: Kind
    line: str
    band: str
    dots: str
    best: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pointer reads at a place: where the place begins, in percent, and the values as text."""

    start: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that is ready to be drawn."""

    name: str
    about: str
    curves: tuple[Curve, ...]
    kinds: tuple[Kind, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    readings: tuple[Reading, ...]


def charts(runs: Sequence[RunRecord]) -> list[Chart]:
    """All charts that have something to show."""
    last = max((run.metrics.last_step for run in runs), default=0)
    drawn = [_chart(spec, runs, max(1, last)) for spec in CHARTS]
    return [chart for chart in drawn if chart.curves]


def _chart(spec: ChartSpec, runs: Sequence[RunRecord], last: int) -> Chart:
    found: list[tuple[RunRecord, Kind, str, Series]] = [
        (run, kind, figure, run.metrics.series[figure])
        for run in runs
        for kind, figure in spec.figures
        if figure in run.metrics.series and run.metrics.series[figure].points
    ]
    means = [point.mean for _, _, _, series in found for point in series.points]
    if spec.logarithmic:
        means = [mean for mean in means if mean > 0]
    moves = any(len({point.mean for point in series.points}) > 1 for _, _, _, series in found)
    if not means or (spec.only_if_it_moves and not moves):
        return Chart(spec.name, spec.about, (), (), (), (), ())
    scale = Scale(0.0 if spec.from_zero else min(means), max(means), logarithmic=spec.logarithmic)
    return Chart(
        spec.name,
        spec.about,
        tuple(_curve(run, kind, figure, series, scale, last) for run, kind, figure, series in found),
        tuple(dict.fromkeys(kind for _, kind, _, _ in found)),
        _step_ticks(last),
        scale.ticks(),
        _readings([(run, kind, series) for run, kind, _, series in found], len(runs) > 1, last),
    )


def _curve(run: RunRecord, kind: Kind, figure: str, series: Series, scale: Scale, last: int) -> Curve:
    places = [(100 * point.step / last, point) for point in series.points]
    middle = [f"{x:.2f} {100 - scale.place(point.mean):.2f}" for x, point in places]
    band = ""
    if series.values_per_point > 1:
        upper = [f"{x:.2f} {100 - scale.place(point.high):.2f}" for x, point in places]
        lower = [f"{x:.2f} {100 - scale.place(point.low):.2f}" for x, point in reversed(places)]
        band = "M" + "L".join([*upper, *lower]) + "Z"
    best = run.metrics.best if figure == "validation.negative_elbo" else {}
    return Curve(
        run.number,
        kind,
        "M" + "L".join(middle if len(middle) > 1 else middle * 2),
        band,
        "" if kind == "training" or series.values_per_point > 1 else "".join(f"M{place}h0" for place in middle),
        (100 * best["step"] / last, scale.place(best[figure])) if best else None,
    )


def _step_ticks(last: int) -> tuple[Tick, ...]:
    step = max(1, round(rule_distance(last)))
    return tuple(Tick(100 * place / last, number(place)) for place in range(0, last + 1, step))


def _readings(found: Sequence[tuple[RunRecord, Kind, Series]], several: bool, last: int) -> tuple[Reading, ...]:
    lines: list[dict[str, str]] = [{} for _ in range(BINS)]
    for run, kind, series in found:
        who = " ".join([run.name] * several + [{"free": "free-running"}.get(kind, kind)])
        for point in series.points:
            place = min(BINS - 1, BINS * (point.step - 1) // last)
            lines[max(0, place)][who] = _reading(point)
    return tuple(
        Reading(100 * place / BINS, "\n".join(f"{who}: {text}" for who, text in values.items()))
        for place, values in enumerate(lines)
        if values
    )


def _reading(point: Point) -> str:
    spread = f" ({number(point.low)} to {number(point.high)})" if point.count > 1 else ""
    return f"{number(point.mean)}{spread} at step {point.step:,}"
