"""The folder that jobs.sample makes, and what it says about it.

groove-00000.mid ...  the grooves; above 1,000 of them in folders 000/, 001/, ... of 1,000
manifest.jsonl        one line a groove: id, file, index, seed, tempo, tokens, source window of --like
settings.json         weights and settings that made them
grooves.png           the first grooves as drum grids
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from rich.table import Table

from jobs.command_line import console
from jobs.output_folder import check_output
from jobs.sample_job import SampleJob, write_batches
from musicvae.drum_sheet import drum_sheet
from musicvae.durable import write_json
from musicvae.groove import DrumGroove, hits_from_tokens
from musicvae.groove_statistics import GrooveStatistics, count_grooves
from musicvae.origins import FromPrior, LikeWindows
from musicvae.sampling import num_batches
from musicvae.trained_model import TrainedModel

MANIFEST, SETTINGS, SHEET = "manifest.jsonl", "settings.json", "grooves.png"
GROOVES_ON_SHEET = 16


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuses to touch what is not to be replaced.

    Raises:
        ConfigError: `out` holds something, and --overwrite is not given or jobs.sample has not made it.
    """
    check_output(
        out,
        option="--out",
        maker="jobs.sample",
        ours="grooves of an earlier sampling",
        is_ours=(out / MANIFEST).is_file() and (out / SETTINGS).is_file(),
        overwrite=overwrite,
    )


def write_sample(
    folder: Path, trained: TrainedModel, job: SampleJob, workers: int
) -> tuple[GrooveStatistics, list[DrumGroove]]:
    """Fills an empty folder; gives the statistics of all grooves and the first of them."""
    first: list[DrumGroove] = []
    statistics = None
    item = 0
    with (folder / MANIFEST).open("w") as manifest:
        for batch in _with_progress(write_batches(trained, job, folder, workers), num_batches(job.count)):
            counted = count_grooves(hits_from_tokens(batch, trained.drum_map.num_drums), trained.grid)
            statistics = counted if statistics is None else statistics + counted
            for tokens in batch:
                if item < GROOVES_ON_SHEET:
                    first.append(job.groove(trained, item, tokens))
                manifest.write(json.dumps(_record(job, item, tokens, job.tempo_of(trained, item))) + "\n")
                item += 1
    assert statistics is not None, "a job makes at least one groove"
    (folder / SHEET).write_bytes(drum_sheet(first, trained.drum_map.classes))
    write_json(folder / SETTINGS, _settings(trained, job))
    return statistics, first


def comparison(made: GrooveStatistics, trained: TrainedModel) -> Table:
    """The grooves made beside the windows trained on."""
    data = trained.feel.statistics
    table = Table(title="what was made, beside what was learnt from", title_justify="left")
    table.add_column()
    table.add_column(f"{made.windows:,} grooves", justify="right")
    table.add_column(f"{data.windows:,} training windows", justify="right")
    table.add_row("empty", f"{made.empty_share:.1%}", f"{data.empty_share:.1%}")
    table.add_row("hits per bar", f"{made.hits_per_bar:.2f}", f"{data.hits_per_bar:.2f}")
    table.add_section()
    for drum, mine, theirs in zip(trained.drum_map.classes, made.class_shares, data.class_shares, strict=True):
        table.add_row(f"{drum.replace('_', ' ')}, share of hits", f"{mine:.1%}", f"{theirs:.1%}")
    return table


def _record(job: SampleJob, item: int, tokens: np.ndarray, tempo: float) -> dict[str, Any]:
    record = {
        "id": job.name(item),
        "file": job.file(item),
        "index": item,
        "seed": job.recipe.seed,
        "tempo": round(tempo, 3),
        "tokens": tokens.tolist(),
    }
    if source := job.source(item):
        record["like"] = {"file": source.source, "bar": source.bar}
    return record


def _settings(trained: TrainedModel, job: SampleJob) -> dict[str, Any]:
    match job.recipe.origin:
        case FromPrior():
            origin = {"origin": "prior"}
        case LikeWindows(distance=distance):
            origin = {"origin": "like", "distance": distance, "like": sorted({w.source for w in job.windows})}
    return {
        **origin,
        "count": job.count,
        "seed": job.recipe.seed,
        "temperature": job.recipe.temperature,
        "tempo": job.tempo,
        "dry": job.dry,
        "weights": trained.weights_hash,
        "step": trained.step,
        "training_shards": trained.fingerprint,
    }


def _with_progress(batches: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
    """A moving line on a terminal, nothing elsewhere."""
    quiet = not console.is_terminal
    yield from track(batches, "decoding", total=total, console=console, transient=True, disable=quiet)
