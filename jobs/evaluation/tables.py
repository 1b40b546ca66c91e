"""What jobs.evaluate shows: all predictors side by side, each figure under its definition."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from jobs.evaluation import playing
from jobs.evaluation.results import LOWER_IS_BETTER, Result, verdict
from musicvae.evaluation.bootstrap import Difference, Interval, RatioOfSums, ResampledFigure, Resamples
from musicvae.evaluation.figures import bar_names
from musicvae.evaluation.samples import NEAR_CELLS, SampleFigures
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec

LEGEND = """\
nats            per window; lower is better. -ELBO = reconstruction + KL from one draw of z; bound: from many draws
                (Burda et al. 2016), closer to -log p. A predictor without a latent space has the exact -log p.
KL              information in z. Compare accuracies from mu only at a similar KL.
mutual info.    of window and z; at most log(windows)
teacher-forced  each step is predicted from the true earlier steps
free-running    each step is predicted from the predictor's own earlier steps; a model decodes from mu. Copying the bar
                has no free-running score and is scored on all bars but the first.
OA              overlapping area of a feature's distribution with that of the split; below it, the difference to the OA
                of train
equal bars      share of windows in which two bars are the same; kick and snare: of those whose second bar has kick and
                snare of the first
F1, bars apart  likeness of the hits of two bars of a window, one, two, ... apart
AUC             of a classifier between prior samples and people; .5: it cannot tell them apart. train: people beside
                other people
Below each figure is its 95% interval, bootstrapped over performances."""
COMPARED = {
    "negative_elbo": "-ELBO",
    "importance_bound": "bound",
    "teacher_forced.token_accuracy": "token acc.\nteacher-\nforced",
    "free_running.token_accuracy": "\nfree-\nrunning",
    "teacher_forced.hit_f1": "hit F1\nteacher-\nforced",
    "free_running.hit_f1": "\nfree-\nrunning",
}
"""Figures that models and baselines are compared by."""
FAR_BEHIND = 0.03
"""OA by which a feature of prior samples may fall short of train's own before it is named."""
MODES = {"teacher_forced": "teacher-forced", "free_running": "free-running from mu"}

Rows = Sequence[Result]
"""Baselines, weakest first, then models."""


def likelihood_table(rows: Rows, resamples: Resamples, *, title: str) -> Table:
    """Nats per window, what z costs and what it tells."""
    table = _table(title)
    for heading in ("-ELBO", "bound", "recon-\nstruction", "KL", "mutual\ninfo.", "active\nunits"):
        table.add_column(heading, justify="right")
    names = ("negative_elbo", "importance_bound", "reconstruction", "kl", "mutual_information")
    for result in _each(table, rows):
        if nats := result.predictions.likelihoods:
            cells: list[Text | str] = [_with_interval(result.figures[name], resamples, _nats) for name in names]
            cells[2:] = cells[2:] if nats.latent else ["", "0.0", ""]
            table.add_row(result.name, *cells, f"{nats.active_units}/{nats.latent}" if nats.latent else "")
    return table


def score_table(rows: Rows, resamples: Resamples, *, title: str) -> Table:
    """Accuracy and F1 beside the KL that they cost."""
    table = _table(title)
    names = [name for name in COMPARED if "." in name]
    for heading in ("KL", *(COMPARED[name] for name in names)):
        table.add_column(heading, justify="right")
    for result in _each(table, rows):
        cells = [
            _with_interval(result.figures[name], resamples, _share) if name in result.figures else "" for name in names
        ]
        table.add_row(result.name, _kl(result), *cells)
    return table


def bar_table(rows: Rows, mode: str, grid: GridSpec) -> Table:
    """Token accuracy and hit F1 of each bar."""
    table = _table(f"by bar, {MODES[mode]}: token accuracy, hit F1")
    bars = bar_names(grid)
    names = [f"{mode}.{score}.{bar}" for score in ("token_accuracy", "hit_f1") for bar in bars]
    for heading in ("KL", *(f"{score}\n{bar + 1}" for score in ("acc.", "F1") for bar in range(grid.bars))):
        table.add_column(heading, justify="right")
    return _filled(table, rows, names)


def drum_table(rows: Rows, mode: str, drum_map: DrumMap) -> Table:
    """Hit F1 of each drum."""
    table = _table(f"hit F1 by drum, {MODES[mode]}")
    for heading in ("KL", *(drum.replace("_", "\n") for drum in drum_map.classes)):
        table.add_column(heading, justify="right")
    return _filled(table, rows, [f"{mode}.hit_f1.{drum}" for drum in drum_map.classes])


def overlap_tables(sets: Sequence[SampleFigures], drum_map: DrumMap, *, title: str) -> list[Table]:
    """OA of each feature, the densities of the drum classes in a table of their own."""
    compared = [sample_set for sample_set in sets if sample_set.overlap]
    densities = {f"{drum} density": drum.replace("_", "\n") for drum in drum_map.classes}
    structure = compared[0].structure
    others = [name for name in compared[0].overlap if name not in densities and name not in structure]
    alike = [name for name in structure if name.endswith("apart")]
    tables = []
    for heading, names in (
        (title, others),
        ("OA of the density of each drum", [*densities]),
        ("OA of the likeness of bars", alike),
        ("OA of other features of structure", [name for name in structure if name not in alike]),
    ):
        features = {name: densities.get(name, name.replace(" ", "\n", 1).replace("-", "-\n")) for name in names}
        table = _table(heading)
        for column in (*features.values(), *(["mean with\ndensities"] if names is others else [])):
            table.add_column(column, justify="right")
        for sample_set in compared:
            mean = [_share(sample_set.mean_overlap)] if names is others else []
            table.add_row(sample_set.name, *(_overlap_cell(sample_set, feature) for feature in features), *mean)
        tables.append(table)
    return tables


def structure_table(sets: Sequence[SampleFigures], resamples: Resamples) -> Table:
    """How the bars of windows go together, and whether a classifier tells a set from people."""
    table = _table("structure of windows; AUC of a classifier against people")
    apart = range(1, 1 + max(len(sample_set.likeness) for sample_set in sets))
    for heading in ("equal\nbars", "kick and\nsnare", *(f"F1, bars\n{bars} apart" for bars in apart), "AUC"):
        table.add_column(heading, justify="right")
    for sample_set in sets:
        auc: Text | str = ""
        if sample_set.auc:
            interval = resamples.percentiles(sample_set.auc.replicates)
            auc = Text.assemble(f"{_share(sample_set.auc.value)}\n", _range(interval, _share))
        shares = (_percent(sample_set.equal_bars), _percent(sample_set.kept))
        table.add_row(sample_set.name, *shares, *map(_share, sample_set.likeness), auc)
    return table


def nearness_table(sets: Sequence[SampleFigures]) -> Table:
    """Whether a set remembers train, repeats itself or is silent."""
    table = _table("distance to the nearest training window (train: in another performance)")
    for heading in (
        "windows",
        "cells,\nmedian",
        "memorised\n0 cells",
        f"near\n<= {NEAR_CELLS} cells",
        "duplicates",
        "empty",
    ):
        table.add_column(heading, justify="right")
    for sample_set in sets:
        shares = [
            _percent(share)
            for share in (sample_set.memorised, sample_set.near, sample_set.duplicates, sample_set.empty)
        ]
        table.add_row(sample_set.name, f"{sample_set.windows:,}", f"{sample_set.median_distance:.0f}", *shares)
    return table


def difference_table(model: Result, against: Mapping[str, Mapping[str, Difference]], others: str) -> Table:
    """The model less each of the others, with the interval and what it says."""
    table = _table(f"{model.name} minus {others}, on the same windows; open: the interval contains 0")
    for heading in COMPARED.values():
        table.add_column(heading, justify="right")
    for other, differences in against.items():
        table.add_row(
            other, *(_verdict_cell(name, differences[name]) if name in differences else "" for name in COMPARED)
        )
    return table


def verdict_lines(model: Result, against: Mapping[str, Mapping[str, Difference]], grid: GridSpec) -> str:
    """Which baselines the model beats, from mu and as a density; its weakest bar; what its samples fall short in."""
    figures = model.figures
    accuracy = (
        f"free-running token accuracy {_share(figures['free_running.token_accuracy'].value)} at a KL of {_kl(model)}"
    )
    nats = f"-ELBO {_nats(figures['negative_elbo'].value)}"
    lines = [
        f"{model.name}, {shown}: {_verdict_words(figure, against)}"
        for figure, shown in (("free_running.token_accuracy", accuracy), ("negative_elbo", nats))
        if against
    ]
    by_bar = [figures[f"free_running.token_accuracy.{bar}"].value for bar in bar_names(grid)]
    weakest = int(np.argmin(by_bar))
    lines.append(
        f"{model.name}, by bar: bar {weakest + 1} has the lowest free-running token accuracy, "
        f"{_share(by_bar[0] - by_bar[weakest])} below bar 1"
    )
    if model.samples:
        behind = sorted((difference.value, name) for name, difference in model.samples.behind_train.items())
        far = [f"{name} {_share(value)}" for value, name in behind if value < -FAR_BEHIND]
        shortfall = f"{len(far)} of {len(behind)} features are more than {_share(FAR_BEHIND)} below train"
        lines.append(f"{model.name}, OA of prior samples: {shortfall}{': ' if far else ''}{', '.join(far)}")
    return "\n".join(lines)


def _verdict_words(figure: str, against: Mapping[str, Mapping[str, Difference]]) -> str:
    verdicts = [
        (name, verdict(figure, differences[figure])) for name, differences in against.items() if figure in differences
    ]
    beaten = ", ".join(name for name, said in verdicts if said == "better")
    parts = [f"beats {beaten}"] * bool(beaten)
    return ", ".join(parts + [f"does not beat {name} ({said})" for name, said in verdicts if said != "better"])


def _verdict_cell(name: str, difference: Difference) -> Text:
    show = _nats if name in LOWER_IS_BETTER else _share
    said = verdict(name, difference)
    style = {"better": "green", "worse": "red", "open": "yellow"}[said]
    return Text.assemble(f"{show(difference.value)}\n", _range(difference.interval, show), "\n", (said, style))


def _overlap_cell(samples: SampleFigures, feature: str) -> str | Text:
    """OA; below it how far from train's, coloured where its interval excludes 0."""
    if feature not in samples.behind_train:
        return _share(samples.overlap[feature])
    behind = samples.behind_train[feature]
    sign = "+" if behind.value > 0 else ""
    style = "" if not behind.interval.excludes_zero else "red" if behind.value < 0 else "green"
    return Text.assemble(f"{_share(samples.overlap[feature])}\n", (f"{sign}{_share(behind.value)}", style))


def playing_tables(sets: playing.Playing, split: str) -> list[Table | str]:
    """How people and models play the hits of the split, beside two controls; then the figures of GrooveEvaluator."""
    people = [name for name in (playing.HUMAN, playing.SHUFFLED, *playing.HALVES) if name in sets]
    players = [name for name in sets if name not in people]
    about, beside = f"playing, {sets[playing.HUMAN].windows:,} windows of {split}", playing.COLUMNS - 1
    parts = [players[first : first + beside] for first in range(0, len(players), beside)]
    shown: list[Table | str] = [_playing_table(f"{about}: people", people, sets)]
    shown += [_playing_table(f"{about}: models", [playing.HUMAN, *part], sets) for part in parts]
    shown.append(playing.LEGEND)
    for first in range(0, len(sets), beside):
        table, names = _table("figures of GrooveEvaluator, means over windows"), [*sets][first : first + beside]
        for heading in ("published", *names):
            table.add_column(heading.replace(", ", ",\n"), justify="right")
        for figure in sets[playing.HUMAN].published:
            known = next(
                (value for name, value in playing.GROOVE_EVALUATOR.items() if figure.startswith(name)), math.nan
            )
            cells = (_played_cell(sets[name], sets[name].published, figure) for name in names)
            table.add_row(figure, _digits(known), *cells)
        shown.append(table)
    return [*shown, playing.published_note(sets)]


def _playing_table(title: str, names: Sequence[str], sets: playing.Playing) -> Table:
    table = _table(title)
    for name in names:
        table.add_column(name.replace(", ", ",\n"), justify="right")
    for figure in dict.fromkeys(figure for name in names for figure in sets[name].figures):
        table.add_row(figure, *(_played_cell(sets[name], sets[name].figures, figure) for name in names))
    return table


def _played_cell(played: playing.PlayedSet, figures: Mapping[str, ResampledFigure], name: str) -> Text | str:
    if name not in figures:
        return ""
    interval = _range(played.resamples.percentiles(figures[name].replicates), _digits)
    return Text.assemble(f"{_digits(figures[name].value)}\n", interval)


def _digits(value: float) -> str:
    """Three of them."""
    return "" if math.isnan(value) else _share(value) if abs(value) < 1 else f"{value:.3g}"


def _filled(table: Table, rows: Rows, names: Sequence[str]) -> Table:
    for result in _each(table, rows):
        if any(name in result.figures for name in names):
            values = [result.figures[name].value if name in result.figures else math.nan for name in names]
            table.add_row(result.name, _kl(result), *map(_share, values))
    return table


def _each(table: Table, rows: Rows) -> Iterator[Result]:
    """The rows, with a gap between baselines and models as the table is filled."""
    for before, result in zip([None, *rows], rows, strict=False):
        if before is not None and before.is_baseline and not result.is_baseline:
            table.add_section()
        yield result


def _table(title: str) -> Table:
    """Narrow enough for the 80 columns that a log file gets."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column()
    return table


def _kl(result: Result) -> str:
    return _nats(result.figures["kl"].value) if "kl" in result.figures else "0.0"


def _with_interval(figure: RatioOfSums, resamples: Resamples, show: Callable[[float], str]) -> Text:
    return Text.assemble(f"{show(figure.value)}\n", _range(resamples.interval(figure), show))


def _range(interval: Interval, show: Callable[[float], str]) -> Text:
    """`1.2 3.4`: a minus sign would be taken for a dash."""
    return Text("" if math.isnan(interval.low) else f"{show(interval.low)} {show(interval.high)}", style="dim")


def _nats(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def _share(value: float) -> str:
    """.604 rather than 0.604, as the field prints shares."""
    return "" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
