"""A trained model -> grooves as MIDI files: python -m jobs.sample --count 64 --out grooves"""

import math
import time
from pathlib import Path

import typer

from jobs.command_line import console, run_command
from jobs.sample_job import SampleJob
from jobs.sample_output import MANIFEST, SHEET, check_out, comparison, write_sample
from jobs.sample_source import windows_of_file
from musicvae.drum_grid import drum_grid
from musicvae.durable import whole_folder
from musicvae.errors import ConfigError
from musicvae.exported import load
from musicvae.origins import FromPrior, LikeWindows
from musicvae.recipe import Recipe
from musicvae.trained import load_run
from musicvae.trained_model import DEFAULT_DISTANCE, TrainedModel

GRIDS_SHOWN = 2


def main(
    run: Path | None = typer.Option(None, help="The run folder of a trained model, or an export of one."),
    preset: str | None = typer.Option(
        None,
        metavar="NAME|FOLDER",
        help="A shipped model (generation; with --like reconstruction).",
    ),
    count: int = typer.Option(..., help="How many grooves."),
    out: Path = typer.Option(..., help="The folder to make."),
    seed: int = typer.Option(0, help="Groove i of a seed is the same for every --count and --workers."),
    temperature: float | None = typer.Option(
        None, help="Below 1: likelier grooves, above: wilder ones (1; with --like the likeliest token of every step)."
    ),
    tempo: float | None = typer.Option(None, metavar="BPM", help="(that of --like, or the training data's median)"),
    dry: bool = typer.Option(False, "--dry", help="One velocity for every hit, and every hit on the grid."),
    like: Path | None = typer.Option(None, metavar="FILE.mid", help="Vary the 4-bar windows of a MIDI file in turn."),
    distance: float | None = typer.Option(
        None, help=f"From --like: 0 is its reconstruction, 1 a groove that knows nothing of it ({DEFAULT_DISTANCE})."
    ),
    workers: int = typer.Option(1, help="Processes; more pay off above a few thousand grooves."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT, once its successor is whole."),
) -> None:
    """Generate drum grooves in bulk: new ones, or variations of a given one."""
    _check_options(count, seed, temperature, tempo, like, distance, workers)
    if run is not None and preset is not None:
        raise ConfigError("--run and --preset exclude each other", do="give one of them")
    out = out.resolve()
    check_out(out, overwrite=overwrite)
    default = "generation" if like is None else "reconstruction"
    trained = load_run(run) if run is not None else load(preset or default)
    job = _job(trained, count, seed, temperature, tempo, dry, like, DEFAULT_DISTANCE if distance is None else distance)

    started = time.monotonic()
    try:
        with whole_folder(out, replace=overwrite) as folder:
            statistics, first = write_sample(folder, trained, job, workers)
    except OSError as error:
        cure = "name an --out in a folder that can be written"
        raise ConfigError(f"cannot write {out}", found=str(error), do=cure) from None
    seconds = time.monotonic() - started

    for groove in first[:GRIDS_SHOWN]:
        print(f"{groove.source}, {groove.tempo:.0f} bpm\n{drum_grid(groove, trained.drum_map.classes)}\n")
    console.print(comparison(statistics, trained))
    console.print(
        f"{count:,} grooves in {seconds:.1f} s ({count / seconds:.0f} a second), weights of step {trained.step}"
    )
    console.print(f"MIDI files: {out}\npicture:    {out / SHEET}\ntokens:     {out / MANIFEST}", soft_wrap=True)


def _check_options(
    count: int,
    seed: int,
    temperature: float | None,
    tempo: float | None,
    like: Path | None,
    distance: float | None,
    workers: int,
) -> None:
    for option, value, legal, expected in (
        ("--count", count, count >= 1, "1 or more"),
        ("--seed", seed, 0 <= seed < 2**64, "0 to 2^64 - 1"),
        ("--temperature", temperature, temperature is None or 0 < temperature < math.inf, "a number above 0"),
        ("--tempo", tempo, tempo is None or 4 <= tempo <= 1000, "4 to 1000 quarter notes a minute"),
        ("--distance", distance, distance is None or 0 <= distance <= 1, "0 (the same) to 1 (unrelated)"),
        ("--distance", distance, distance is None or like is not None, "--like FILE.mid beside it"),
        ("--workers", workers, workers >= 1, "1 or more processes"),
    ):
        if not legal:
            raise ConfigError(
                f"{option} {value} cannot be used", expected=expected, found=f"{value}", do="correct the command line"
            )


def _job(
    trained: TrainedModel,
    count: int,
    seed: int,
    temperature: float | None,
    tempo: float | None,
    dry: bool,
    like: Path | None,
    distance: float,
) -> SampleJob:
    if like is None:
        recipe = Recipe(FromPrior(), seed, 1.0 if temperature is None else temperature)
        return SampleJob(recipe, count, tempo, dry)
    windows = windows_of_file(like, trained.grid, trained.drum_map)
    origin = LikeWindows(trained.encode(windows.tokens), distance)
    return SampleJob(Recipe(origin, seed, temperature), count, tempo, dry, tuple(windows.meta))


if __name__ == "__main__":
    run_command(main)
