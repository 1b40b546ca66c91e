"""A page about one run, or about several side by side, with nothing on it that comes from elsewhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.run_report.report_charts import charts
from jobs.run_report.report_record import RunRecord
from jobs.training.settings import TrainConfig
from musicvae.groove.groove import DrumGroove
from preprocess.pages.charts import Tick, number, rules
from preprocess.pages.page import changed_settings, dotted, page_environment, style

TEMPLATE = Path(__file__).with_name("report_page.html.jinja")
STYLE = Path(__file__).with_name("report_page.css")
COLOURS = 6
"""Hues that colour-blind people can tell apart; with more runs they begin again, dashed."""
PAIRS_OF_ONE, PAIRS_OF_SEVERAL = 8, 4
SAMPLES_OF_SEVERAL = 4
NO_VALUE = "–"


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


def report_page(runs: Sequence[RunRecord]) -> str:
    """The page as HTML, which can always be encoded as UTF-8.

    Args:
        runs: at least one; their numbers are their places.
    """
    environment = page_environment(TEMPLATE.parent)
    environment.filters["number"] = number
    environment.globals["colour"] = lambda run: run.number % COLOURS
    environment.globals["dashed"] = lambda run: run.number // COLOURS % 2 == 1
    several = len(runs) > 1
    page = environment.get_template(TEMPLATE.name).render(
        runs=runs,
        css=style(STYLE),
        title=f"{len(runs)} runs" if several else runs[0].name,
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
    return page.encode(errors="backslashreplace").decode()


def _tiles(run: RunRecord) -> list[tuple[str, str]]:
    best = run.metrics.best
    accuracy = best.get("validation.token_accuracy_teacher_forced")
    tiles = [
        (_progress(run), "steps"),
        (_value(best.get("validation.negative_elbo")), f"best −ELBO, step {best['step']:,}" if best else "best −ELBO"),
        (_value(best.get("validation.kl_bits")), "bits of KL there"),
        (_active(run), "active units"),
        (_value(accuracy, ".3f"), "token accuracy, forced"),
        (_value(_rate(run), ",.0f"), "windows a second"),
        (str(run.status.get("restarts", 0)), "restarts"),
    ]
    return [tile for tile in tiles if tile[0] != NO_VALUE]


def _comparison(runs: Sequence[RunRecord]) -> list[Row]:
    def best(name: str, form: str = ".2f") -> tuple[str, ...]:
        return tuple(_value(run.metrics.best.get(name), form) for run in runs)

    losses = [run.metrics.best.get("validation.negative_elbo") for run in runs]
    lowest = min((loss for loss in losses if loss is not None), default=None)
    return [
        Row("state", tuple(run.state for run in runs)),
        Row("steps", tuple(_progress(run) for run in runs)),
        Row("best −ELBO, nats", best("validation.negative_elbo"), None if lowest is None else losses.index(lowest)),
        Row("at step", tuple(_value(run.metrics.best.get("step"), ",d") for run in runs)),
        Row("reconstruction, nats", best("validation.reconstruction")),
        Row("KL, bits", best("validation.kl_bits")),
        Row("active units", tuple(_active(run) for run in runs)),
        Row("token accuracy, forced", best("validation.token_accuracy_teacher_forced", ".3f")),
        Row(
            "token accuracy, free-running",
            tuple(_value(run.figure("validation.token_accuracy_free_running"), ".3f") for run in runs),
        ),
        Row("windows a second", tuple(_value(_rate(run), ",.0f") for run in runs)),
        Row("restarts", tuple(str(run.status.get("restarts", 0)) for run in runs)),
        Row("steps left out", tuple(f"{run.nonfinite_count:,}" for run in runs)),
    ]


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

    def of(name: str) -> tuple[str, ...]:
        return tuple(str(run.config.get("provenance", {}).get(name) or NO_VALUE) for run in runs)

    def packages(run: RunRecord) -> str:
        versions: Mapping[str, Any] = run.config.get("provenance", {}).get("packages", {})
        return ", ".join(f"{name} {version}" for name, version in versions.items() if version) or NO_VALUE

    dirty = tuple(" with changes" if run.config.get("provenance", {}).get("dirty") else "" for run in runs)
    rows = [
        Row("run", tuple(run.config["run_id"] for run in runs)),
        Row("shards", tuple(run.config["shards"]["fingerprint"] for run in runs)),
        Row("drum map", tuple(run.config["shards"]["drum_map"]["name"] for run in runs)),
        Row("commit", tuple(commit[:12] + changed for commit, changed in zip(of("commit"), dirty, strict=True))),
        Row("hosts", tuple(", ".join(run.hosts) or NO_VALUE for run in runs)),
        Row("python", of("python")),
        Row("packages", tuple(packages(run) for run in runs)),
        Row("command", of("command")),
    ]
    return [row for row in rows if set(row.values) != {NO_VALUE}]


def _defaults(run: RunRecord) -> dict[str, Any]:
    """Today's defaults of the settings that the run knows: it may be older than a setting."""
    defaults = dotted(TrainConfig().model_dump(mode="json"))
    return {name: defaults.get(name, "") for name in dotted(run.config["settings"])}
