"""Measures how grooves change along paths in latent space: python -m jobs.latent --shards shards/groove"""

from pathlib import Path

import typer

from jobs.command.command_line import run_command
from jobs.command.paths import check_output_file
from musicvae.errors import ConfigError


def main(
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="The shards that starting windows are read from."),
    run: Path | None = typer.Option(None, metavar="FOLDER", help="A run folder, or an export with attribute vectors."),
    preset: str | None = typer.Option(None, metavar="NAME|FOLDER", help="A shipped model (reconstruction)."),
    split: str = typer.Option("validation", help="train, validation or test."),
    starts: int = typer.Option(64, min=2, help="Number of starting windows, evenly spaced over the performances."),
    json: Path | None = typer.Option(None, metavar="FILE", help="Write all figures to this file."),
) -> None:
    """Measure on decoded grooves how well attribute vectors, interpolations and variations work.

    python -m jobs.latent --shards shards/groove
    """
    if run is not None and preset is not None:
        raise ConfigError("--run and --preset exclude each other", do="give only one of them")
    check_output_file(json)
    from jobs.evaluation.latent_space import measure  # loads torch, which takes seconds

    measure(shards, run, preset, split=split, starts=starts, json=json)


if __name__ == "__main__":
    run_command(main)
