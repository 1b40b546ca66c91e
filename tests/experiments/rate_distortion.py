"""What models make of the nats that z costs, read from files of figures, runs, exports and a table of a page."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicvae.errors import ConfigError, DataError
from musicvae.pretrained.load import WEIGHTS, is_export
from musicvae.training.best_weights import read_best
from musicvae.training.run_folder import RunFolder
from tests.experiments.chart_picture import Chart, Curve, Level

FREE = "free_running.token_accuracy"


@dataclass(frozen=True, slots=True)
class ModelPoint:
    """A model with a latent space: nats per window, and the share of tokens right from mu alone."""

    name: str
    kl: float
    negative_elbo: float
    free_accuracy: float


@dataclass(frozen=True, slots=True)
class FiguresFile:
    """Points of the models, and -ELBO of those without a latent space by name."""

    points: tuple[ModelPoint, ...]
    without_latent: dict[str, float]


def read_figures(path: Path) -> FiguresFile:
    """Reads what `jobs.evaluate --json` or `tests.experiments.ablation` wrote; of the latter, means over seeds.

    Of a run's folder or an export: the figures that training found its weights to have on the whole validation split.

    Raises:
        ConfigError: the file cannot be read, or the folder has no weights.
        DataError: it is none of these.
    """
    if path.is_dir():
        return _of_weights(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _of_ablation(content) if "variants" in content else _of_evaluation(content)
    except OSError as error:
        raise ConfigError(f"cannot read {path}", found=error.strerror or str(error), do="correct the path") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} has no figures",
            expected="what jobs.evaluate --json or tests.experiments.ablation writes",
            found=f"{type(error).__name__}: {error}",
            do="name such a file",
        ) from None


def read_rows(page: Path, heading: str) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """The first table below a heading of a Markdown page: its head, and of each row the first cell and the numbers.

    Raises:
        DataError: there is no such table.
    """
    _, _, below = page.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    lines = table[0].splitlines() if table else []
    try:
        (first, *names), _, *cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        rows = [(name, [float(number) for _, number in zip(names, numbers, strict=True)]) for name, *numbers in cells]
    except ValueError as error:
        problem = f"{page} has no table of figures below {heading!r}"
        raise DataError(problem, found=str(error), do="correct the table") from None
    return [first, *names], rows


def read_table(page: Path, heading: str) -> list[tuple[str, FiguresFile]]:
    """Curves with their labels, from the first table below a heading of a Markdown page.

    A row has one point of each curve: after the first column, three columns a curve, headed `LABEL: KL`, `-ELBO` and
    `accuracy`.

    Raises:
        DataError: there is no such table.
    """
    head, rows = read_rows(page, heading)
    return [
        (
            head[1 + first].removesuffix(": KL"),
            FiguresFile(tuple(ModelPoint(name, *numbers[first : first + 3]) for name, numbers in rows), {}),
        )
        for first in range(0, len(head) - 1, 3)
    ]


def distortion_charts(files: Sequence[tuple[str, FiguresFile]]) -> list[Chart]:
    """-ELBO and accuracy over the KL, a curve for each label, of all files that have it.

    Raises:
        ConfigError: no file has a model with a latent space.
    """
    levels: dict[str, float] = {}
    for _, file in files:
        levels |= file.without_latent
    by_label: dict[str, list[ModelPoint]] = {}
    for label, file in files:
        by_label.setdefault(label, []).extend(file.points)
    curves = [(label, sorted(points, key=lambda point: point.kl)) for label, points in by_label.items() if points]
    if not curves:
        raise ConfigError("no model in these figures has a latent space", do="name figures of one that has")

    def chart(title: str, figure: str, lines: tuple[Level, ...]) -> Chart:
        drawn = tuple(
            Curve(label, tuple((point.kl, getattr(point, figure)) for point in points), number, dots=True)
            for number, (label, points) in enumerate(curves)
        )
        return Chart(title, "KL, nats per window", drawn, lines)

    return [
        chart("-ELBO, nats per window", "negative_elbo", tuple(Level(*level) for level in levels.items())),
        chart("Token accuracy, free-running from mu", "free_accuracy", ()),
    ]


def _of_ablation(content: dict[str, Any]) -> FiguresFile:
    points = []
    for name, variant in content["variants"].items():
        mean = {figure: value["mean"] for figure, value in variant["figures"].items()}
        points.append(ModelPoint(name, mean["kl"], mean["negative_elbo"], mean["token_accuracy_free_running"]))
    return FiguresFile(tuple(points), {})


def _of_evaluation(content: dict[str, Any]) -> FiguresFile:
    points, without = [], {}
    for name, model in (content["models"] | content["baselines"]).items():
        value = {figure: found["value"] for figure, found in model["figures"].items()}
        if model.get("latent"):
            points.append(ModelPoint(name, value["kl"], value["negative_elbo"], value[FREE]))
        elif "negative_elbo" in value:
            without[name] = value["negative_elbo"]
    return FiguresFile(tuple(points), without)


def _of_weights(folder: Path) -> FiguresFile:
    best = read_best(folder / WEIGHTS if is_export(folder) else RunFolder(folder).best)
    figures = {name.removeprefix("validation."): value for name, value in best.figures.items()}
    if "token_accuracy_free_running" not in figures:
        raise DataError(
            f"{folder} has no figures of free running",
            likely="its best weights are not those of its last step, which alone is decoded",
            do="name what jobs.evaluate --json writes for it",
        )
    free = figures["token_accuracy_free_running"]
    return FiguresFile((ModelPoint(folder.name, figures["kl_nats"], figures["negative_elbo"], free),), {})
