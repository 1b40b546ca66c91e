"""Measures models and baselines on held-out windows: python -m jobs.evaluate [--run runs/demo] --shards shards/demo"""

from pathlib import Path

import typer

from jobs.command.command_line import WORK, end_of_checks, run_command
from jobs.command.paths import check_output_file
from musicvae.data.manifest import open_shards
from musicvae.errors import ConfigError
from musicvae.pretrained.shipped import (
    WEIGHTS,
    check_model_is_there,
    is_performance,
    model_folder,
    shipped_models,
    shipped_performances,
)


def main(
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="The shards: a folder, or any URL that fsspec reads."),
    run: list[Path] = typer.Option(
        [], metavar="FOLDER", help="A run folder or an export; repeatable (the shipped models)."
    ),
    preset: list[str] = typer.Option([], metavar="NAME", help="A shipped model; repeatable."),
    split: str = typer.Option("validation", help="train, validation or test."),
    json: Path | None = typer.Option(None, metavar="FILE", help="Write all figures to this file."),
    quick: bool = typer.Option(
        False, "--quick", help="Evaluate some of the windows with few draws. Do not quote these figures."
    ),
    baselines: bool = typer.Option(
        True, "--baselines/--no-baselines", help="Evaluate the baselines.", rich_help_panel="What is evaluated"
    ),
    models: bool = typer.Option(True, "--models/--no-models", help="Evaluate models."),
    seed: int = typer.Option(
        0, min=0, max=2**64 - 1, help="Seed of the draws of z and of all samples.", rich_help_panel=WORK
    ),
    batch: int = typer.Option(128, min=1, help="Windows in a batch; does not change the figures."),
    cache_dir: Path | None = typer.Option(None, metavar="FOLDER", help="The folder for copies of remote shards."),
) -> None:
    """Measure models on held-out windows, and compare them with baselines.

    The tables show -ELBO, reconstruction and KL, token accuracy and hit F1, and how close samples from the prior are to
    the data; of a performance model, how it plays the hits of people beside their own playing. Each figure has a 95%
    confidence interval. If all models given are performance models, only their playing is evaluated.

        python -m jobs.evaluate --run runs/first --shards shards/groove
    """
    shipped = [*shipped_models(), *shipped_performances()]
    named = [*run, *(WEIGHTS / name if name in shipped else model_folder(name) for name in preset)]
    chosen = (named or [WEIGHTS / name for name in shipped]) if models else []
    if not chosen and not baselines:
        raise ConfigError(
            "there is nothing to evaluate",
            expected="models, baselines or both",
            do="leave out --no-models or --no-baselines",
        )
    check_output_file(json)
    source = open_shards(shards, cache_dir=cache_dir)
    manifest = source.manifest()
    manifest.split(split)
    for model in chosen:
        check_model_is_there(model)
    players = [model for model in chosen if is_performance(model)]
    others = [model for model in chosen if model not in players]
    end_of_checks()
    from jobs.evaluation.run import evaluate  # loads torch, which takes seconds

    evaluate(
        source,
        manifest,
        others,
        players,
        split=split,
        json=json,
        quick=quick,
        seed=seed,
        batch=batch,
        baselines=baselines and bool(others or not players),
    )


if __name__ == "__main__":
    run_command(main)
