"""What jobs.evaluate shows: all predictors side by side, each figure under its definition."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from jobs.evaluation.evaluated import Evaluated
from musicvae.evaluation.bootstrap import Difference, Interval, RatioOfSums, Resamples
from musicvae.evaluation.figures import bar_names
from musicvae.evaluation.samples import NEAR_CELLS, SampleFigures
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

LEGEND = """\
nats     per window, lower is better: -ELBO = reconstruction + KL from one draw of z; bound: from many draws
         (Burda et al. 2016), closer to -log p; a predictor without a latent gives -log p itself
KL       what z costs: accuracy from mu says nothing without it; mutual info.: of window and z, at most log(windows)
forced   each step predicted after the reference before it
free     each step after the predictor's own; a model decodes from mu; copying the bar has no free score
         and is scored on all bars but the first
OA       overlapping area of a feature's distribution with that of the split; below it, how far from train's own
numbers below a figure are its 95% interval, bootstrapped over performances"""
LOWER_IS_BETTER = ("negative_elbo", "importance_bound")
COMPARED = {
    "negative_elbo": "-ELBO",
    "importance_bound": "bound",
    "teacher_forced.token_accuracy": "token acc.\nforced",
    "free_running.token_accuracy": "\nfree",
    "teacher_forced.hit_f1": "hit F1\nforced",
    "free_running.hit_f1": "\nfree",
}
"""Figures that models and baselines are compared by."""
FAR_BEHIND = 0.03
"""OA by which a feature of prior samples may fall short of train's own before it is named."""
WAYS = {"teacher_forced": "teacher-forced", "free_running": "free-running from mu"}

Rows = Sequence[Evaluated]
"""Baselines, weakest first, then models."""


def likelihood_table(rows: Rows, resamples: Resamples, *, title: str) -> Table:
    """Nats per window, what z costs and what it tells."""
    table = _table(title)
    for heading in ("-ELBO", "bound", "recon-\nstruction", "KL", "mutual\ninfo.", "active\nunits"):
        table.add_column(heading, justify="right")
    names = ("negative_elbo", "importance_bound", "reconstruction", "kl", "mutual_information")
    for one in _each(table, rows):
        if nats := one.predictions.likelihoods:
            cells = [_with_interval(one.figures[name], resamples, _nats) for name in names]
            cells[2:] = cells[2:] if nats.latent else ["", "0.0", ""]
            table.add_row(one.name, *cells, f"{nats.active_units}/{nats.latent}" if nats.latent else "")
    return table


def score_table(rows: Rows, resamples: Resamples, *, title: str) -> Table:
    """Accuracy and F1 beside the KL that they cost."""
    table = _table(title)
    names = [name for name in COMPARED if "." in name]
    for heading in ("KL", *(COMPARED[name] for name in names)):
        table.add_column(heading, justify="right")
    for one in _each(table, rows):
        cells = [_with_interval(one.figures[name], resamples, _share) if name in one.figures else "" for name in names]
        table.add_row(one.name, _kl(one), *cells)
    return table


def bar_table(rows: Rows, way: str, grid: GridSpec) -> Table:
    """Token accuracy and hit F1 of each bar."""
    table = _table(f"by bar, {WAYS[way]}: token accuracy, hit F1")
    bars = bar_names(grid)
    names = [f"{way}.{score}.{bar}" for score in ("token_accuracy", "hit_f1") for bar in bars]
    for heading in ("KL", *(f"{score}\n{bar + 1}" for score in ("acc.", "F1") for bar in range(grid.bars))):
        table.add_column(heading, justify="right")
    return _filled(table, rows, names)


def drum_table(rows: Rows, way: str, drum_map: DrumMap) -> Table:
    """Hit F1 of each drum."""
    table = _table(f"hit F1 by drum, {WAYS[way]}")
    for heading in ("KL", *(drum.replace("_", "\n") for drum in drum_map.classes)):
        table.add_column(heading, justify="right")
    return _filled(table, rows, [f"{way}.hit_f1.{drum}" for drum in drum_map.classes])


def overlap_tables(sets: Sequence[SampleFigures], drum_map: DrumMap, *, title: str) -> list[Table]:
    """OA of each feature, the densities of the drum classes in a table of their own."""
    densities = {f"{drum} density": drum.replace("_", "\n") for drum in drum_map.classes}
    compared = [one for one in sets if one.overlap]
    others = {
        name: name.replace(" ", "\n").replace("-", "-\n") for name in compared[0].overlap if name not in densities
    }
    tables = []
    for heading, features in ((title, others), ("the same of each drum's density", densities)):
        table = _table(heading)
        for column in (*features.values(), *(["mean\nof all"] if features is others else [])):
            table.add_column(column, justify="right")
        for one in compared:
            mean = [_share(one.mean_overlap)] if features is others else []
            table.add_row(one.name, *(_overlap_cell(one, feature) for feature in features), *mean)
        tables.append(table)
    return tables


def nearness_table(sets: Sequence[SampleFigures]) -> Table:
    """Whether a set remembers train, repeats itself or is silent."""
    table = _table("distance to the nearest training window (train: of another performance)")
    for heading in (
        "windows",
        "cells,\nmedian",
        "memorised\n0 cells",
        f"near\n<= {NEAR_CELLS} cells",
        "duplicates",
        "empty",
    ):
        table.add_column(heading, justify="right")
    for one in sets:
        shares = [_percent(share) for share in (one.memorised, one.near, one.duplicates, one.empty)]
        table.add_row(one.name, f"{one.windows:,}", f"{one.median_distance:.0f}", *shares)
    return table


def difference_table(model: Evaluated, against: Mapping[str, Mapping[str, Difference]]) -> Table:
    """The model less each baseline, with the interval and what it says."""
    table = _table(
        f"{model.name} less each baseline, on the same windows; better or worse where the interval excludes 0"
    )
    for heading in COMPARED.values():
        table.add_column(heading, justify="right")
    for baseline, found in against.items():
        table.add_row(baseline, *(_verdict_cell(name, found[name]) if name in found else "" for name in COMPARED))
    return table


def verdict(name: str, difference: Difference) -> str:
    """`better`, `worse`, or `open` where the interval holds 0 or there is none."""
    if not difference.interval.excludes_zero:
        return "open"
    return "better" if (difference.value < 0) == (name in LOWER_IS_BETTER) else "worse"


def verdict_lines(model: Evaluated, against: Mapping[str, Mapping[str, Difference]], grid: GridSpec) -> str:
    """Which baselines the model beats, from mu and as a density; its weakest bar; what its samples fall short in."""
    figures = model.figures
    accuracy = (
        f"free-running token accuracy {_share(figures['free_running.token_accuracy'].value)} at a KL of {_kl(model)}"
    )
    nats = f"-ELBO {_nats(figures['negative_elbo'].value)}"
    lines = [
        f"{model.name}, {shown}: {_standing(figure, against)}"
        for figure, shown in (("free_running.token_accuracy", accuracy), ("negative_elbo", nats))
        if against
    ]
    by_bar = [figures[f"free_running.token_accuracy.{bar}"].value for bar in bar_names(grid)]
    weakest = int(np.argmin(by_bar))
    lines.append(
        f"{model.name}, by bar: the lowest free-running token accuracy is that of bar {weakest + 1}, "
        f"{_share(by_bar[0] - by_bar[weakest])} below the first's"
    )
    if model.samples:
        behind = sorted((one.value, name) for name, one in model.samples.behind_train.items())
        far = [f"{name} {_share(value)}" for value, name in behind if value < -FAR_BEHIND]
        told = f"{len(far)} of {len(behind)} features more than {_share(FAR_BEHIND)} below train's"
        lines.append(f"{model.name}, OA of prior samples: {told}{': ' if far else ''}{', '.join(far)}")
    return "\n".join(lines)


def _standing(figure: str, against: Mapping[str, Mapping[str, Difference]]) -> str:
    found = [(name, verdict(figure, of[figure])) for name, of in against.items() if figure in of]
    beaten = ", ".join(name for name, said in found if said == "better")
    parts = [f"beats {beaten}"] * bool(beaten)
    return ", ".join(parts + [f"does not beat {name} ({said})" for name, said in found if said != "better"])


def _verdict_cell(name: str, difference: Difference) -> str:
    show = _nats if name in LOWER_IS_BETTER else _share
    said = verdict(name, difference)
    style = {"better": "green", "worse": "red", "open": "yellow"}[said]
    return f"{show(difference.value)}\n{_range(difference.interval, show)}\n[{style}]{said}[/]"


def _overlap_cell(one: SampleFigures, feature: str) -> str:
    """OA; below it how far from train's, coloured where its interval excludes 0."""
    if feature not in one.behind_train:
        return _share(one.overlap[feature])
    behind = one.behind_train[feature]
    sign = "+" if behind.value > 0 else ""
    style = "default" if not behind.interval.excludes_zero else "red" if behind.value < 0 else "green"
    return f"{_share(one.overlap[feature])}\n[{style}]{sign}{_share(behind.value)}[/]"


def _filled(table: Table, rows: Rows, names: Sequence[str]) -> Table:
    for one in _each(table, rows):
        if any(name in one.figures for name in names):
            values = [one.figures[name].value if name in one.figures else math.nan for name in names]
            table.add_row(one.name, _kl(one), *map(_share, values))
    return table


def _each(table: Table, rows: Rows) -> Iterator[Evaluated]:
    """The rows, with a gap between baselines and models as the table is filled."""
    for before, one in zip([None, *rows], rows, strict=False):
        if before is not None and before.is_baseline and not one.is_baseline:
            table.add_section()
        yield one


def _table(title: str) -> Table:
    """Narrow enough for the 80 columns that a log file gets."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column()
    return table


def _kl(one: Evaluated) -> str:
    return _nats(one.figures["kl"].value) if "kl" in one.figures else "0.0"


def _with_interval(figure: RatioOfSums, resamples: Resamples, show: Callable[[float], str]) -> str:
    return f"{show(figure.value)}\n{_range(resamples.interval(figure), show)}"


def _range(interval: Interval, show: Callable[[float], str]) -> str:
    """`1.2 3.4`: a minus sign would be taken for a dash."""
    return "" if math.isnan(interval.low) else f"[dim]{show(interval.low)} {show(interval.high)}[/]"


def _nats(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def _share(value: float) -> str:
    """.604 rather than 0.604, as the field prints shares."""
    return "" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
