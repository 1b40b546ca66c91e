"""What moving through a model's latent space does to its grooves: python -m jobs.latent --shards shards/groove"""

from pathlib import Path

import typer

from jobs.command.command_line import run_command
from musicvae.errors import ConfigError


def main(
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="Where starting windows are taken from."),
    run: Path | None = typer.Option(None, help="A trained run, or an export of one with attribute vectors."),
    preset: str | None = typer.Option(None, metavar="NAME|FOLDER", help="A shipped model (reconstruction)."),
    split: str = typer.Option("validation", help="train, validation or test."),
    starts: int = typer.Option(64, min=2, help="Windows to start from, evenly spaced over the performances."),
    json: Path | None = typer.Option(None, metavar="FILE", help="Write all figures to this file."),
) -> None:
    """Measure attribute directions, interpolations and variations on decoded grooves."""
    if run is not None and preset is not None:
        raise ConfigError("--run and --preset exclude each other", do="give one of them")
    from jobs.evaluation.latent_space import measure  # loads torch, which takes seconds

    measure(shards, run, preset, split=split, starts=starts, json=json)


if __name__ == "__main__":
    run_command(main)
