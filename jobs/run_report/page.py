"""A page about one run, or about several side by side, that loads nothing from elsewhere.

Its curves are plain numbers: SVG paths in percent of a chart's space, ticks, and the values that a pointer shows.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jobs.run_report.record import Point, RunRecord, Series, best_evaluation
from jobs.training.settings import TrainConfig
from musicvae.groove.groove import DrumGroove
from musicvae.training.settings import MAIN_FIGURES
from preprocess.pages.charts import Scale, Tick, number, rule_distance, rules
from preprocess.pages.page import changed_settings, dotted, page_environment, render_report

TEMPLATE = Path(__file__).with_name("report_page.html.jinja")
STYLE = Path(__file__).with_name("report_page.css")
COLOURS = 6
"""Hues that colour-blind people can tell apart; with more runs they begin again, dashed."""
PAIRS_OF_ONE, PAIRS_OF_SEVERAL = 8, 4
SAMPLES_OF_SEVERAL = 4
NO_VALUE = "–"
BINS = 48
"""Places across a chart at which a pointer is told the values."""
Kind = Literal["training", "validation", "free"]
"""How a curve is drawn. `free` is a validation that was decoded free-running."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the comparison: a name, and a value for each run."""

    name: str
    values: tuple[str, ...]
    best: int | None = None
    """The run whose value is the best."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A validation window, and what each run that followed it made of it (by the run's number)."""

    groove: DrumGroove
    reconstructions: tuple[tuple[RunRecord, DrumGroove], ...]


def report_page(runs: Sequence[RunRecord], folder: Path) -> str:
    """The page as HTML, which can always be encoded as UTF-8.

    Args:
        runs: at least one; their numbers are their places.
        folder: of the page, from which it links to their files.
    """
    environment = page_environment(TEMPLATE.parent)
    environment.filters["number"] = number
    environment.globals["colour"] = lambda run: run.number % COLOURS
    environment.globals["dashed"] = lambda run: run.number // COLOURS % 2 == 1
    several = len(runs) > 1
    return render_report(
        environment,
        TEMPLATE,
        [STYLE],
        title=f"{len(runs)} runs" if several else runs[0].name,
        result=best_evaluation(runs),
        beside=[os.path.relpath(file, folder) for run in runs for file in run.files[: 1 if several else None]],
        command="jobs.report",
        runs=runs,
        tiles=[] if several else _tiles(runs[0]),
        comparison=_comparison(runs) if several else [],
        charts=charts(runs),
        latent=_latent(runs),
        windows=_windows(runs)[: PAIRS_OF_SEVERAL if several else PAIRS_OF_ONE],
        samples=[
            (run, run.examples.samples[: SAMPLES_OF_SEVERAL if several else None]) for run in runs if run.examples
        ],
        differing=_differing(runs) if several else [],
        changed=[] if several else changed_settings(runs[0].config["settings"], _defaults(runs[0])),
        settings=[] if several else sorted(dotted(runs[0].config["settings"]).items()),
        facts=_facts(runs),
        nonfinite=[run for run in runs if run.nonfinite_count],
    )


def _tiles(run: RunRecord) -> list[tuple[str, str]]:
    best = run.metrics.best
    accuracy = best.get("validation.token_accuracy_teacher_forced")
    tiles = [
        (_progress(run), "steps"),
        *(
            (_value(best.get(figure)), f"best {name}, step {best['step']:,}" if best else f"best {name}")
            for figure, (name, _) in MAIN_FIGURES.items()
        ),
        (_value(best.get("validation.velocity_nats"), ".3f"), "velocity there, nats per hit"),
        (_value(best.get("validation.offset_nats"), ".3f"), "timing there, nats per hit"),
        (_value(best.get("validation.kl_bits")), "bits of KL there"),
        (_active(run), "active units"),
        (_value(accuracy, ".3f"), "token accuracy, teacher-forced"),
        (_value(_rate(run), ",.0f"), "windows a second"),
        (str(run.status.get("restarts", 0)), "restarts"),
    ]
    return [tile for tile in tiles if tile[0] != NO_VALUE]


def _comparison(runs: Sequence[RunRecord]) -> list[Row]:
    def best(name: str, form: str = ".2f") -> tuple[str, ...]:
        return tuple(_value(run.metrics.best.get(name), form) for run in runs)

    rows = [
        Row("state", tuple(run.state for run in runs)),
        Row("steps", tuple(_progress(run) for run in runs)),
        Row("best −ELBO, nats", best("validation.negative_elbo"), _lowest(runs, "validation.negative_elbo")),
        Row(
            "best velocity and timing, nats per hit",
            best("validation.nats_per_hit", ".3f"),
            _lowest(runs, "validation.nats_per_hit"),
        ),
        Row("velocity, nats per hit", best("validation.velocity_nats", ".3f")),
        Row("timing, nats per hit", best("validation.offset_nats", ".3f")),
        Row("at step", tuple(_value(run.metrics.best.get("step"), ",d") for run in runs)),
        Row("reconstruction, nats", best("validation.reconstruction")),
        Row("KL, bits", best("validation.kl_bits")),
        Row("active units", tuple(_active(run) for run in runs)),
        Row("token accuracy, teacher-forced", best("validation.token_accuracy_teacher_forced", ".3f")),
        Row(
            "token accuracy, free-running",
            tuple(_value(run.figure("validation.token_accuracy_free_running"), ".3f") for run in runs),
        ),
        Row("windows a second", tuple(_value(_rate(run), ",.0f") for run in runs)),
        Row("restarts", tuple(str(run.status.get("restarts", 0)) for run in runs)),
        Row("steps left out", tuple(f"{run.nonfinite_count:,}" for run in runs)),
    ]
    return [row for row in rows if set(row.values) != {NO_VALUE}]


def _lowest(runs: Sequence[RunRecord], figure: str) -> int | None:
    """The place of the run whose best value of a figure is the lowest; None where no run has one."""
    values = [run.metrics.best.get(figure, math.inf) for run in runs]
    return None if min(values) == math.inf else values.index(min(values))


def _progress(run: RunRecord) -> str:
    total = run.status.get("total")
    return f"{run.step:,}" if not total or total == run.step else f"{run.step:,} of {total:,}"


def _active(run: RunRecord) -> str:
    return f"{sum(run.active)} of {len(run.active)}" if run.active else NO_VALUE


def _rate(run: RunRecord) -> float | None:
    """The mean over the run: the last value may be that of a machine that was busy elsewhere."""
    series = run.metrics.series.get("windows_per_second")
    if not series or not series.points:
        return None
    return sum(point.total for point in series.points) / sum(point.count for point in series.points)


def _value(value: float | None, form: str = ".2f") -> str:
    return NO_VALUE if value is None else format(value, form)


@dataclass(frozen=True, slots=True)
class LatentBars:
    """KL of each latent dimension of a run, largest first, in percent of the page's largest, and which are active."""

    run: RunRecord
    heights: tuple[float, ...]
    ticks: tuple[Tick, ...]
    total_bits: float


def _latent(runs: Sequence[RunRecord]) -> list[LatentBars]:
    largest = max((value for run in runs for value in run.kl), default=0.0)
    return [
        LatentBars(
            run,
            tuple(100 * value / max(largest, 1e-9) for value in run.kl),
            rules(largest),
            sum(run.kl) / math.log(2),
        )
        for run in runs
        if run.kl
    ]


def _windows(runs: Sequence[RunRecord]) -> list[Window]:
    """The windows that were followed; runs on the same shards followed the same ones and stand beside each other."""
    windows: dict[tuple[str, str], tuple[DrumGroove, list[tuple[RunRecord, DrumGroove]]]] = {}
    for run in runs:
        if run.examples:
            fingerprint = run.config["shards"]["fingerprint"]
            for groove, reconstruction in run.examples.pairs():
                key = fingerprint, groove.source
                windows.setdefault(key, (groove, []))[1].append((run, reconstruction))
    return [Window(groove, tuple(made)) for groove, made in windows.values()]


def _differing(runs: Sequence[RunRecord]) -> list[Row]:
    of_runs = [_described(run) for run in runs]
    names = dict.fromkeys(name for values in of_runs for name in values)
    rows = [Row(name, tuple(str(values.get(name, NO_VALUE)) for values in of_runs)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def _described(run: RunRecord) -> dict[str, Any]:
    provenance = run.config.get("provenance", {})
    return {
        **dotted(run.config["settings"]),
        "shards": run.config["shards"]["fingerprint"],
        "commit": str(provenance.get("commit") or NO_VALUE)[:12],
        **{f"{name} version": version for name, version in provenance.get("packages", {}).items()},
    }


def _facts(runs: Sequence[RunRecord]) -> list[Row]:
    """Where each run comes from and what it ran on."""

    def recorded(name: str) -> tuple[str, ...]:
        return tuple(str(run.config.get("provenance", {}).get(name) or NO_VALUE) for run in runs)

    def packages(run: RunRecord) -> str:
        versions: Mapping[str, Any] = run.config.get("provenance", {}).get("packages", {})
        return ", ".join(f"{name} {version}" for name, version in versions.items() if version) or NO_VALUE

    dirty = tuple(" with changes" if run.config.get("provenance", {}).get("dirty") else "" for run in runs)
    rows = [
        Row("run", tuple(run.config["run_id"] for run in runs)),
        Row("shards", tuple(run.config["shards"]["fingerprint"] for run in runs)),
        Row("drum map", tuple(run.config["shards"]["drum_map"]["name"] for run in runs)),
        Row("commit", tuple(commit[:12] + changed for commit, changed in zip(recorded("commit"), dirty, strict=True))),
        Row("hosts", tuple(", ".join(run.hosts) or NO_VALUE for run in runs)),
        Row("python", recorded("python")),
        Row("packages", tuple(packages(run) for run in runs)),
        Row("command", recorded("command")),
    ]
    return [row for row in rows if set(row.values) != {NO_VALUE}]


def _defaults(run: RunRecord) -> dict[str, Any]:
    """Today's defaults of the settings that the run knows: it may be older than a setting."""
    defaults = dotted(TrainConfig().model_dump(mode="json"))
    return {name: defaults.get(name, "") for name in dotted(run.config["settings"])}


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
    ChartSpec("Velocity and timing", "nats per hit, lower is better", (("validation", "validation.nats_per_hit"),)),
    ChartSpec("Velocity", "nats per hit", (("training", "velocity_nats"), ("validation", "validation.velocity_nats"))),
    ChartSpec("Timing", "nats per hit", (("training", "offset_nats"), ("validation", "validation.offset_nats"))),
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
        "Active units", "latent dimensions that depend on the input", (("validation", "validation.active_units"),)
    ),
    ChartSpec(
        "Gradient norm", "before clipping, logarithmic scale", (("training", "gradient_norm"),), logarithmic=True
    ),
    *(
        ChartSpec(f"Gradient norm, {part}", "logarithmic", (("training", f"gradient_norm.{part}"),), logarithmic=True)
        for part in ("encoder", "segments", "decoder")
    ),
    ChartSpec("Learning rate", "", (("training", "learning_rate"),)),
    ChartSpec(
        "Throughput",
        "windows per second, without evaluations",
        (("training", "windows_per_second"),),
        from_zero=True,
    ),
    ChartSpec("MFU", "share of the peak of all GPUs", (("training", "mfu"),), from_zero=True),
    ChartSpec("Peak memory", "GiB of rank 0", (("training", "peak_memory_gib"),), from_zero=True),
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
    drawn_series: list[tuple[RunRecord, Kind, str, Series]] = [
        (run, kind, figure, run.metrics.series[figure])
        for run in runs
        for kind, figure in spec.figures
        if figure in run.metrics.series and run.metrics.series[figure].points
    ]
    means = [point.mean for _, _, _, series in drawn_series for point in series.points]
    if spec.logarithmic:
        means = [mean for mean in means if mean > 0]
    moves = any(len({point.mean for point in series.points}) > 1 for _, _, _, series in drawn_series)
    if not means or (spec.only_if_it_moves and not moves):
        return Chart(spec.name, spec.about, (), (), (), (), ())
    scale = Scale(0.0 if spec.from_zero else min(means), max(means), logarithmic=spec.logarithmic)
    return Chart(
        spec.name,
        spec.about,
        tuple(_curve(run, kind, figure, series, scale, last) for run, kind, figure, series in drawn_series),
        tuple(dict.fromkeys(kind for _, kind, _, _ in drawn_series)),
        _step_ticks(last),
        scale.ticks(),
        _readings([(run, kind, series) for run, kind, _, series in drawn_series], len(runs) > 1, last),
    )


def _curve(run: RunRecord, kind: Kind, figure: str, series: Series, scale: Scale, last: int) -> Curve:
    places = [(100 * point.step / last, point) for point in series.points]
    middle = [f"{x:.2f} {100 - scale.place(point.mean):.2f}" for x, point in places]
    band = ""
    if series.values_per_point > 1:
        upper = [f"{x:.2f} {100 - scale.place(point.high):.2f}" for x, point in places]
        lower = [f"{x:.2f} {100 - scale.place(point.low):.2f}" for x, point in reversed(places)]
        band = "M" + "L".join([*upper, *lower]) + "Z"
    best = run.metrics.best if figure in MAIN_FIGURES else {}
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


def _readings(drawn_series: Sequence[tuple[RunRecord, Kind, Series]], several: bool, last: int) -> tuple[Reading, ...]:
    lines: list[dict[str, str]] = [{} for _ in range(BINS)]
    for run, kind, series in drawn_series:
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
