"""Models beside the baselines on held-out windows: python -m jobs.evaluate [--run runs/demo] --shards shards/demo"""

from pathlib import Path

import torch
import typer

from jobs.command.command_line import console, run_command
from jobs.evaluation.evaluated import (
    Evaluated,
    Setting,
    candidates,
    check_same_format,
    differences,
    evaluate_counted,
    evaluate_trained,
    other_shards_note,
    setting_for,
    trained_baselines,
)
from jobs.evaluation.figures_json import as_json
from jobs.evaluation.tables import (
    LEGEND,
    bar_table,
    difference_table,
    drum_table,
    likelihood_table,
    nearness_table,
    overlap_tables,
    score_table,
    verdict_lines,
)
from musicvae.data.shards import read_tokens
from musicvae.data.sources import open_shards
from musicvae.durable import write_json
from musicvae.errors import ConfigError
from musicvae.evaluation.baselines import all_baselines
from musicvae.evaluation.bootstrap import Resamples
from musicvae.evaluation.samples import SampleFigures
from musicvae.kept_memory import keep_freed_memory
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
    trained = trained_baselines(manifest) if baselines else []
    trained += candidates(chosen, [candidate.name for candidate in trained])
    for candidate in trained:
        check_same_format(candidate, source, manifest)
        if candidate.trained.fingerprint != manifest.fingerprint:
            console.print(other_shards_note(candidate, manifest), soft_wrap=True)
    train, whole = read_tokens(source, manifest, "train"), read_tokens(source, manifest, split)
    setting = setting_for(manifest, train, whole, quick=quick, seed=seed)

    evaluated: list[Evaluated] = []
    with console.status("") as status:
        if baselines:
            status.update("counted baselines")
            reference = setting.windows.split
            counted = all_baselines(train, reference, manifest.grid, manifest.drum_map.num_drums, setting.uniforms())
            evaluated += [evaluate_counted(baseline, setting) for baseline in counted]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cpu":
            keep_freed_memory()
        for candidate in trained:

            def beat(done: int, name: str = candidate.name) -> None:
                status.update(f"{name}: {done:,} of {len(setting.windows):,} windows")

            evaluated.append(evaluate_trained(candidate, setting, batch=batch, device=device, beat=beat))
        status.update("training windows")
        data = [setting.comparison.resample_of_train(), setting.comparison.reference_itself(split)]
    report(evaluated, data, setting, source=str(source), split=split, whole=len(whole.tokens), quick=quick, json=json)


def report(
    evaluated: list[Evaluated],
    data: list[SampleFigures],
    setting: Setting,
    *,
    source: str,
    split: str,
    whole: int,
    quick: bool,
    json: Path | None,
) -> None:
    """Prints the tables, and writes all figures."""
    windows, protocol = len(setting.windows), setting.protocol
    performances = int(setting.windows.split.performance.max(initial=-1)) + 1
    resamples = Resamples(performances, replicates=protocol.replicates, seed=setting.seed)
    baselines = [one for one in evaluated if one.is_baseline]
    models = [one for one in evaluated if not one.is_baseline]
    against = {
        model.name: {baseline.name: differences(model, baseline, setting, resamples) for baseline in baselines}
        for model in models
    }
    of = f"QUICK, not to be quoted: {windows:,} of {whole:,}" if quick else f"{windows:,}"
    title = f"{of} windows of {performances} performances of {source}, {split}"
    sets = [*data, *(one.samples for one in evaluated if one.samples)]
    drum_map, grid = setting.drum_map, setting.grid
    tables = [
        likelihood_table(evaluated, resamples, title=f"{title}: nats per window, bound of {protocol.draws} draws"),
        score_table(evaluated, resamples, title="token accuracy and hit F1, beside the nats that z costs"),
        *(bar_table(evaluated, way, grid) for way in ("free_running", "teacher_forced")),
        *(drum_table(evaluated, way, drum_map) for way in ("free_running", "teacher_forced")),
        *overlap_tables(sets, drum_map, title=f"OA of {setting.samples:,} prior samples with the split"),
        nearness_table(sets),
        *(difference_table(model, against[model.name]) for model in models if baselines),
    ]
    for table in tables:
        console.print(table)
    console.print(LEGEND, soft_wrap=True)
    for model in models:
        console.print(verdict_lines(model, against[model.name], grid), soft_wrap=True)
    if json is not None:
        about = {
            "shards": setting.manifest.fingerprint,
            "split": split,
            "windows": windows,
            "windows_of_split": whole,
            "performances": performances,
            "quick": quick,
            "seed": setting.seed,
            "draws": protocol.draws,
            "replicates": protocol.replicates,
            "samples": setting.samples,
        }
        write_json(json, about | as_json(evaluated, data, against, resamples))
        console.print(f"all figures: {json}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
