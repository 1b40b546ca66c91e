"""A run beside the baselines on held-out windows: python -m jobs.evaluate --run runs/demo --shards shards/demo"""

from pathlib import Path

import torch
import typer

from jobs.command_line import console, run_command
from jobs.evaluation_output import LEGEND, Evaluated, as_json, by_drum, summary, verdict
from musicvae.baselines import all_baselines
from musicvae.drum_map import DrumMap
from musicvae.durable import write_json
from musicvae.errors import ConfigError
from musicvae.evaluation import EVALUATION_BLOCKS, EvaluationReport, evaluate_split
from musicvae.manifest import ShardManifest
from musicvae.shard_source import ShardSource, open_shards
from musicvae.shards import read_tokens
from musicvae.trained import TrainedModel, load_run
from musicvae.window_store import WindowStore


def main(
    shards: str = typer.Option(..., metavar="FOLDER|URL", help="Shards: a folder, or any URL that fsspec reads."),
    run: Path | None = typer.Option(None, help="A trained run; without one, the baselines alone."),
    split: str = typer.Option("validation", help="train, validation or test."),
    json: Path | None = typer.Option(None, metavar="FILE", help="Write all figures to this file."),
    seed: int = typer.Option(0, min=0, max=2**64 - 1, help="Of the noise that z is drawn with."),
    batch: int = typer.Option(256, min=1, help="Windows at once; changes no figure."),
    baselines: bool = typer.Option(True, "--baselines/--no-baselines", help="Count the training windows for them."),
    cache_dir: Path | None = typer.Option(None, help="Folder for copies of remote shards, as data.cache_dir."),
) -> None:
    """Measure a model on windows that it was not trained on, beside what it must beat."""
    if run is None and not baselines:
        raise ConfigError("there is nothing to evaluate", expected="--run RUN, baselines, or both", do="add --run RUN")
    if json is not None and (json.is_dir() or not json.resolve().parent.is_dir()):
        raise ConfigError(f"cannot write {json}", expected="a file in a folder that exists", do="name another file")
    source = open_shards(shards, cache_dir=cache_dir)
    manifest = source.manifest()
    windows = manifest.split(split).windows

    evaluated = None
    if run is not None:
        trained = load_run(run)
        check_same_format(run, trained, source, manifest)
        if trained.fingerprint != manifest.fingerprint:
            console.print(
                f"note: {run} was trained on shards {trained.fingerprint}, these are {manifest.fingerprint}: "
                f"its training windows may be among them",
                soft_wrap=True,
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        store = WindowStore(source, manifest, split, cached_blocks=EVALUATION_BLOCKS)
        sums = evaluate_split(trained.model.to(device), store, seed=seed, batch=batch, device=device)
        evaluated = Evaluated(run, trained.step, trained.fingerprint, EvaluationReport.from_sums(sums))

    reports = []
    if baselines:
        train, reference = read_tokens(source, manifest, "train"), read_tokens(source, manifest, split)
        reports = all_baselines(train, reference, manifest.grid, manifest.drum_map.num_drums)

    console.print(summary(evaluated, reports, title=f"{windows:,} windows of {source}, {split}"))
    console.print(LEGEND, soft_wrap=True)
    console.print(by_drum(evaluated, reports, manifest.drum_map))
    if evaluated and reports:
        console.print(verdict(evaluated, reports), soft_wrap=True)
    if json is not None:
        about = {"shards": manifest.fingerprint, "split": split, "windows": windows, "seed": seed}
        write_json(json, about | as_json(evaluated, reports, manifest.drum_map))
        console.print(f"all figures: {json}", soft_wrap=True)


def check_same_format(run: Path, trained: TrainedModel, shards: ShardSource, manifest: ShardManifest) -> None:
    """A token means another thing under another grid or drum map.

    Raises:
        ConfigError: the run and the shards differ in them.
    """
    if trained.grid != manifest.grid:
        what, of_run, of_shards = "grid", str(trained.grid), str(manifest.grid)
    elif list(trained.drum_map.pitches.items()) != list(manifest.drum_map.pitches.items()):
        what, of_run, of_shards = "drum map", _described(trained.drum_map), _described(manifest.drum_map)
    else:
        return
    raise ConfigError(
        f"the run and the shards differ in their {what}",
        expected=f"{of_run}, which {run} was trained with",
        found=f"{of_shards} in {shards}",
        likely="shards built with other settings than those trained on",
        do="name the shards that the run was trained on, or build some with its settings",
    )


def _described(drum_map: DrumMap) -> str:
    pitches = ", ".join(f"{drum} {'/'.join(map(str, pitches))}" for drum, pitches in drum_map.pitches.items())
    return f"{drum_map.name} ({pitches})"


if __name__ == "__main__":
    run_command(main)
