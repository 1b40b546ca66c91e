"""Models beside the baselines on held-out windows: python -m jobs.evaluate [--run runs/demo] --shards shards/demo"""

from pathlib import Path

import typer

from jobs.command.command_line import run_command
from musicvae.data.sources import open_shards
from musicvae.errors import ConfigError
from musicvae.pretrained.shipped import model_folder, shipped_models


def main(
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="Shards: a folder, or any URL that fsspec reads."),
    run: list[Path] = typer.Option([], help="A trained run, or an export; may be repeated. (the shipped models)"),
    preset: list[str] = typer.Option([], metavar="NAME", help="A shipped model; may be repeated."),
    split: str = typer.Option("validation", help="train, validation or test."),
    json: Path | None = typer.Option(None, metavar="FILE", help="Write all figures to this file."),
    quick: bool = typer.Option(False, "--quick", help="Some windows, few draws: figures to look at, not to quote."),
    seed: int = typer.Option(0, min=0, max=2**64 - 1, help="Of the noise that z is drawn with, and of all samples."),
    batch: int = typer.Option(128, min=1, help="Windows at once; changes no figure."),
    baselines: bool = typer.Option(True, "--baselines/--no-baselines", help="Evaluate them too."),
    models: bool = typer.Option(True, "--models/--no-models", help="Without: the baselines alone."),
    cache_dir: Path | None = typer.Option(None, help="Folder for copies of remote shards, as data.cache_dir."),
) -> None:
    """Measure models on windows that they were not trained on, beside what they must beat."""
    named = [*run, *(model_folder(name) for name in preset)]
    chosen = (named or [model_folder(name) for name in shipped_models()]) if models else []
    if not chosen and not baselines:
        raise ConfigError("there is nothing to evaluate", expected="--run RUN, baselines, or both", do="add --run RUN")
    if json is not None and (json.is_dir() or not json.resolve().parent.is_dir()):
        raise ConfigError(f"cannot write {json}", expected="a file in a folder that exists", do="name another file")
    source = open_shards(shards, cache_dir=cache_dir)
    manifest = source.manifest()
    manifest.split(split)
    from jobs.evaluation.run import evaluate  # loads torch, which takes seconds

    evaluate(source, manifest, chosen, split=split, json=json, quick=quick, seed=seed, batch=batch, baselines=baselines)


if __name__ == "__main__":
    run_command(main)
