"""What models make of the nats that z costs, read from files of figures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicvae.errors import ConfigError, DataError
from tests.benchmarks.chart_picture import Chart, Curve, Level

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
    """Reads what `jobs.evaluate --json` or `tests.benchmarks.ablation` wrote; of the latter, means over seeds.

    Raises:
        ConfigError: the file cannot be read.
        DataError: it is neither.
    """
    try:
        content = json.loads(path.read_text())
        return _of_ablation(content) if "variants" in content else _of_evaluation(content)
    except OSError as error:
        raise ConfigError(f"cannot read {path}", found=error.strerror or str(error), do="check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} holds no figures",
            expected="what jobs.evaluate --json or tests.benchmarks.ablation writes",
            found=f"{type(error).__name__}: {error}",
            do="name such a file",
        ) from None


def distortion_charts(files: Sequence[tuple[str, FiguresFile]]) -> list[Chart]:
    """-ELBO and accuracy over the KL, a curve for each label.

    Raises:
        ConfigError: no file has a model with a latent space.
    """
    levels: dict[str, float] = {}
    for _, file in files:
        levels |= file.without_latent
    curves = [(label, sorted(file.points, key=lambda point: point.kl)) for label, file in files if file.points]
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
