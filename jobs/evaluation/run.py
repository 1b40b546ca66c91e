"""One evaluation: models and baselines measured on a split, and what is shown and written of it."""

from pathlib import Path

import torch
from rich.table import Table

from jobs.command.command_line import console, show_next
from jobs.evaluation import tables
from jobs.evaluation.playing import Playing, evaluate_playing, load_performers, playing_json
from jobs.evaluation.results import (
    EvaluationData,
    Result,
    as_json,
    check_same_format,
    differences,
    evaluate_counted,
    evaluate_trained,
    evaluation_data,
    load_models,
    other_shards_note,
    trained_baselines,
)
from musicvae.data.manifest import ShardManifest, ShardSource
from musicvae.data.shards import read_tokens
from musicvae.durable import write_json
from musicvae.evaluation.baselines import all_baselines
from musicvae.evaluation.bootstrap import Resamples
from musicvae.evaluation.samples import SampleFigures
from musicvae.kept_memory import keep_freed_memory


def evaluate(
    source: ShardSource,
    manifest: ShardManifest,
    chosen: list[Path],
    players: list[Path],
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
        players: of performance models.
        json: a file for all figures.

    Raises:
        ConfigError: no model in a folder, or one of another grid or drum map.
        DataError: damaged shards, or a damaged model.
    """
    trained = trained_baselines(manifest) if baselines else []
    trained += load_models(chosen, [candidate.name for candidate in trained])
    for candidate in trained:
        check_same_format(candidate, source, manifest)
        if candidate.trained.fingerprint != manifest.fingerprint:
            console.print(other_shards_note(candidate, manifest), soft_wrap=True)
    performers = load_performers(players, source, manifest)
    train, whole = read_tokens(source, manifest, "train"), read_tokens(source, manifest, split)
    evaluation = evaluation_data(manifest, train, whole, quick=quick, seed=seed)

    results: list[Result] = []
    with console.status("") as status:
        if baselines:
            status.update("baselines")
            reference = evaluation.windows.split
            counted = all_baselines(train, reference, manifest.grid, manifest.drum_map.num_drums, evaluation.uniforms())
            results += [evaluate_counted(baseline, evaluation) for baseline in counted]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cpu":
            keep_freed_memory()
        for candidate in trained:

            def beat(done: int, name: str = candidate.name) -> None:
                status.update(f"{name}: {done:,} of {len(evaluation.windows):,} windows")

            results.append(evaluate_trained(candidate, evaluation, batch=batch, device=device, beat=beat))
        status.update("training windows")
        data = []
        if results:
            data = [evaluation.comparison.resample_of_train(), evaluation.comparison.reference_itself(split)]
        playing = None
        if performers:
            playing = evaluate_playing(performers, evaluation, source, split, train, status.update)
    report(
        results, data, playing, evaluation, str(source), split=split, whole=len(whole.tokens), quick=quick, json=json
    )
    if chosen:
        show_next("sample", "--run", chosen[0], "--count", 64, "--out", "grooves/first")


def report(
    results: list[Result],
    data: list[SampleFigures],
    playing: Playing | None,
    evaluation: EvaluationData,
    source: str,
    *,
    split: str,
    whole: int,
    quick: bool,
    json: Path | None,
) -> None:
    """Prints the tables, and writes all figures."""
    windows, protocol = len(evaluation.windows), evaluation.protocol
    performances = int(evaluation.windows.split.performance.max(initial=-1)) + 1
    resamples = Resamples(performances, replicates=protocol.replicates, seed=evaluation.seed)
    baselines = [result for result in results if result.is_baseline]
    models = [result for result in results if not result.is_baseline]
    against = {
        model.name: {baseline.name: differences(model, baseline, evaluation, resamples) for baseline in baselines}
        for model in models
    }
    earlier = {
        model.name: {other.name: differences(model, other, evaluation, resamples) for other in models[:place]}
        for place, model in enumerate(models)
    }
    window_count = f"quick evaluation, do not quote: {windows:,} of {whole:,}" if quick else f"{windows:,}"
    title = f"{window_count} windows of {performances} performances of {source}, {split}"
    sets = [*data, *(result.samples for result in results if result.samples)]
    drum_map, grid = evaluation.drum_map, evaluation.grid
    shown: list[Table | str] = (
        []
        if not results
        else [
            tables.likelihood_table(
                results, resamples, title=f"{title}: nats per window, bound of {protocol.draws} draws"
            ),
            tables.score_table(results, resamples, title="token accuracy and hit F1, with the KL"),
            *(tables.bar_table(results, mode, grid) for mode in ("free_running", "teacher_forced")),
            *(tables.drum_table(results, mode, drum_map) for mode in ("free_running", "teacher_forced")),
            *tables.overlap_tables(sets, drum_map, title=f"OA of {evaluation.samples:,} prior samples with the split"),
            tables.structure_table(sets, resamples),
            tables.nearness_table(sets),
            *(tables.difference_table(model, against[model.name], "each baseline") for model in models if baselines),
            *(tables.difference_table(model, earlier[model.name], "the models before it") for model in models[1:]),
            tables.LEGEND,
        ]
    )
    if playing is not None:
        shown += tables.playing_tables(playing, split)
    if json is not None:  # first: whoever reads the tables may leave
        about = {
            "shards": evaluation.manifest.fingerprint,
            "split": split,
            "windows": windows,
            "windows_of_split": whole,
            "performances": performances,
            "quick": quick,
            "seed": evaluation.seed,
            "draws": protocol.draws,
            "replicates": protocol.replicates,
            "samples": evaluation.samples,
        }
        compared = {name: against[name] | earlier[name] for name in against}
        played = {} if playing is None else {"playing": playing_json(playing)}
        write_json(json, about | as_json(results, data, compared, resamples) | played)
    for table in shown:
        console.print(table, soft_wrap=isinstance(table, str))
    for model in models:
        console.print(tables.verdict_lines(model, against[model.name], grid), soft_wrap=True)
    place = f"all figures: {json}" if json else "these figures are not saved; --json FILE saves them"
    console.print(place, soft_wrap=True)
