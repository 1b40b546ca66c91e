"""Pictures of any runs and models, and grooves as sound. `make pictures` makes those of README and docs.

    python -m tests.experiments.model_pictures --out out/pictures --run runs/generation --run runs/reconstruction \\
        --figures "reconstruction=runs/ablation-reconstruction/ablation.json" \\
        --figures "feed-forward VAE=jobs/baselines/feed_forward" --figures "feed-forward VAE=runs/curve/free-bits-43" \\
        --model generation --sound grooves.wav

learning-curves.png   of --run: run folders, a row each; the rows of the table of docs/model-history.md are printed
rate-distortion.png   of --figures LABEL=PATH: what `jobs.evaluate --json` or `tests.experiments.ablation` wrote, a run
                      or an export; those of one label are one curve
grooves-NAME.png      of --model: 64 grooves from the prior, and all of them one after the other as --sound
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer

from jobs.command.command_line import console, run_command
from jobs.run_report.record import Metrics, read_metrics
from musicvae.durable import write_whole
from musicvae.errors import ConfigError
from musicvae.groove.groove import DrumGroove
from musicvae.groove.picture import drum_sheet
from musicvae.groove.sound import render, write_wav
from musicvae.pretrained.load import load_run
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.shipped import model_folder
from tests.experiments.chart_picture import Chart, Curve, draw_charts
from tests.experiments.rate_distortion import FiguresFile, distortion_charts, read_figures, read_rows

FIGURES = {
    "validation.negative_elbo": "-ELBO",
    "validation.reconstruction": "reconstruction",
    "validation.kl_nats": "KL",
}
"""What learning curves show, and its title; the columns of their table, behind stage and step."""
GROOVES, COLUMNS = 64, 4
MOST_POINTS = 40
"""Of a curve: what is drawn of training are means."""


def main(
    out: Path = typer.Option(..., help="Folder of the pictures."),
    run: list[Path] = typer.Option([], help="A run folder; may be repeated."),
    figures: list[str] = typer.Option([], metavar="LABEL=PATH", help="Figures of models, or runs; may be repeated."),
    model: str | None = typer.Option(None, metavar="NAME|FOLDER", help="A shipped model, a run or an export."),
    sound: Path | None = typer.Option(None, metavar="FILE.wav", help="The grooves of --model as sound."),
    seed: int = typer.Option(0, min=0, help="Of the grooves."),
    temperature: float = typer.Option(1.0, min=0.01, help="Of the grooves."),
) -> None:
    """Draw learning curves, rate-distortion curves and grooves."""
    out.mkdir(parents=True, exist_ok=True)
    if run:
        charts = [chart for folder in run for chart in learning_curves(folder)]
        write_picture(out / "learning-curves.png", curves_picture(charts))
        console.print("\n".join(row for folder in run for row in table_rows(folder)), soft_wrap=True)
    if figures:
        files = [(label, read_figures(path)) for label, path in map(labelled, figures)]
        for label, file in files:
            for point in file.points:
                row = f"KL {point.kl:.1f}, -ELBO {point.negative_elbo:.1f}, accuracy {point.free_accuracy:.3f}"
                console.print(f"{label}, {point.name}: {row}", soft_wrap=True)
        write_picture(out / "rate-distortion.png", distortion_picture(files))
    if model is not None:
        trained = load_run(model_folder(model))
        grooves = numbered(trained, seed=seed, temperature=temperature)
        write_picture(out / f"grooves-{Path(model).resolve().name}.png", numbered_picture(trained, grooves))
        if sound is not None:
            write_wav(sound, np.concatenate([render(groove, trained.drum_map) for groove in grooves]))
            console.print(f"sound: {sound}", soft_wrap=True)


def curves_picture(charts: Sequence[Chart]) -> bytes:
    """Learning curves as a PNG, a row each run."""
    return draw_charts(charts, columns=len(FIGURES))


def distortion_picture(files: Sequence[tuple[str, FiguresFile]]) -> bytes:
    """Rate-distortion curves as a PNG, a curve for each label.

    Raises:
        ConfigError: no file has a model with a latent space.
    """
    return draw_charts(distortion_charts(files), columns=2)


def learning_curves(run: Path) -> list[Chart]:
    """-ELBO, reconstruction and KL over the steps, on the validation split and as they were trained.

    Raises:
        ConfigError: a run that has not been evaluated yet.
    """
    name, metrics = run.resolve().name, evaluated(run)
    of_training = {"validation.reconstruction": "reconstruction", "validation.kl_nats": "kl_nats"}
    charts = []
    for figure, title in FIGURES.items():
        validation = Curve("validation", settled(metrics, figure), colour=0, dots=True)
        training = [Curve("training", settled(metrics, of_training[figure]), 1)] if figure in of_training else []
        charts.append(Chart(f"{name}: {title}, nats per window", "steps", (*training, validation)))
    return charts


def table_rows(run: Path) -> list[str]:
    """A run's evaluations as rows of the table that `tabled_curves` reads.

    Raises:
        ConfigError: a run that has not been evaluated yet.
    """
    name, series = run.resolve().name, evaluated(run).series
    evaluations = zip(*(series[figure].points for figure in FIGURES), strict=True)
    return [f"| {name} | {row[0].step} | {' | '.join(f'{point.mean:.2f}' for point in row)} |" for row in evaluations]


def tabled_curves(page: Path, heading: str) -> list[Chart]:
    """The charts of the first table below a heading of a Markdown page: stage, step and figures of each evaluation.

    Raises:
        DataError: there is no such table.
    """
    _, rows = read_rows(page, heading)
    return [
        Chart(f"{stage}: {title}, nats per window", "steps", (Curve("validation", points, colour=0, dots=True),))
        for stage in dict.fromkeys(name for name, _ in rows)
        for column, title in enumerate(FIGURES.values(), start=1)
        if (points := tuple((numbers[0], numbers[column]) for name, numbers in rows if name == stage))
    ]


def evaluated(run: Path) -> Metrics:
    """The metrics of a run.

    Raises:
        ConfigError: it has not been evaluated yet.
    """
    metrics = read_metrics(run / "metrics.jsonl")
    if "validation.negative_elbo" not in metrics.series:
        raise ConfigError(f"{run} has no evaluation", likely="it has just begun", do="leave it out")
    return metrics


def settled(metrics: Metrics, figure: str) -> tuple[tuple[float, float], ...]:
    """The figure after the first tenth of the run, which would set the scale: every value, or means of many."""
    points = [point for point in metrics.series[figure].points if point.step >= metrics.last_step / 10]
    size = -(-len(points) // MOST_POINTS)
    groups = [points[first : first + size] for first in range(0, len(points), max(1, size))]
    return tuple((group[-1].step, statistics.fmean(point.mean for point in group)) for group in groups)


def labelled(text: str) -> tuple[str, Path]:
    """A label and a path.

    Raises:
        ConfigError: no label.
    """
    label, equals, path = text.partition("=")
    if not (label and equals and path):
        raise ConfigError(f"cannot read --figures {text!r}", expected="LABEL=PATH", do="put a label before the path")
    return label, Path(path)


def numbered(trained: TrainedModel, *, seed: int, temperature: float) -> list[DrumGroove]:
    """Grooves from the prior; the number of each stands in the picture, in the order in which they sound."""
    made = trained.sample(GROOVES, seed=seed, temperature=temperature)
    return [replace(groove, source=str(number)) for number, groove in enumerate(made)]


def numbered_picture(trained: TrainedModel, grooves: Sequence[DrumGroove]) -> bytes:
    """Grooves of a model as a PNG."""
    return drum_sheet(grooves, trained.drum_map.classes, columns=COLUMNS)


def write_picture(path: Path, picture: bytes) -> None:
    """Writes the bytes of a PNG and prints where they are."""
    write_whole(path, picture)
    console.print(f"picture: {path}, {len(picture) / 1e3:.0f} kB", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
