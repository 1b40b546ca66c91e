"""One evaluation: models and baselines measured on a split, and what is shown and written of it."""

from pathlib import Path

import torch

from jobs.command.command_line import console
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
from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_tokens
from musicvae.data.sources import ShardSource
from musicvae.durable import write_json
from musicvae.evaluation.baselines import all_baselines
from musicvae.evaluation.bootstrap import Resamples
from musicvae.evaluation.samples import SampleFigures
from musicvae.kept_memory import keep_freed_memory


def evaluate(
    source: ShardSource,
    manifest: ShardManifest,
    chosen: list[Path],
    *,
    split: str,
    json: Path | None,
    quick: bool,
    seed: int,
    batch: int,
    baselines: bool,
) -> None:
    """Measures models beside the baselines, prints the tables and writes the figures.

    Args:
        chosen: folders of runs and exports.
        json: a file for all figures.

    Raises:
        ConfigError: no model in a folder, or one of another grid or drum map.
        DataError: damaged shards, or a damaged model.
    """
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
