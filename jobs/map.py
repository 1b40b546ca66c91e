"""Draws a map of a model's latent space, coloured by style: python -m jobs.map --shards shards/groove --out map.png"""

from pathlib import Path

import typer

from jobs.command.command_line import console, run_command
from jobs.command.paths import check_output_file
from musicvae.data.manifest import open_shards
from musicvae.durable import write_whole
from musicvae.errors import ConfigError


def main(
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="The shards whose windows are drawn."),
    out: Path = typer.Option(..., metavar="FILE.png", help="The picture to write."),
    run: Path | None = typer.Option(None, metavar="FOLDER", help="A run folder or an export."),
    preset: str | None = typer.Option(None, metavar="NAME|FOLDER", help="A shipped model (reconstruction)."),
    split: str = typer.Option("validation", help="train, validation or test."),
) -> None:
    """Draw the windows of a split on the first two principal axes of their codes.

    python -m jobs.map --shards shards/groove --out map.png
    """
    if run is not None and preset is not None:
        raise ConfigError("--run and --preset exclude each other", do="give only one of them")
    check_output_file(out)

    # They load torch, which takes seconds.
    from jobs.evaluation.results import Candidate, check_same_format
    from musicvae.data.shards import read_blocks
    from musicvae.data.windows import WindowBlock
    from musicvae.pretrained.latent_space import draw_map, principal_axes
    from musicvae.pretrained.load import load, load_run

    trained = load_run(run) if run is not None else load(preset or "reconstruction")
    name = str(run or preset or "reconstruction")
    source = open_shards(shards)
    manifest = source.manifest()
    check_same_format(Candidate(name, run or Path(name), trained), source, manifest)
    windows = WindowBlock.joined(list(read_blocks(source, manifest, manifest.split(split).shards)))
    codes = trained.encode(windows.tokens)
    if len(codes) < 3 or trained.latent < 2:
        raise ConfigError(
            "a map cannot be drawn",
            expected="at least 3 windows and 2 latent dimensions",
            found=f"{len(codes)} windows and {trained.latent} latent dimensions",
            do="choose another split or model",
        )
    axes = principal_axes(codes)
    # GMD's styles are `rock/folk`, `latin/samba` and so on: the map shows what stands before the stroke.
    styles = [meta.style.partition("/")[0] for meta in windows.meta]
    title = f"{len(codes):,} windows of {split} in the latent space of {Path(name).name}"
    write_whole(out, draw_map(axes.place(codes), styles, axes.explained, title=title))
    shown = f"{sum(axes.explained):.1%} of the variance"
    console.print(f"{len(codes):,} windows of {len(set(styles))} styles; the picture shows {shown}")
    console.print(f"picture: {out.resolve()}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
