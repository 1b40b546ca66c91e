"""What the manifest says of each groove: one line of JSON, and one row of Parquet; and the gallery of these grooves.

id, file, index, seed     which groove it is, and its MIDI file; no file with --no-files
z                         its row in z.npy, which is its line in the manifest, counted from 0
weights, settings         hashes of what made it; settings.json has them in full
tempo, tokens             quarter notes a minute; the drums of each step, one bit each
like                      the window that it is a variation or a take of
style                     the likeliest style of the training data for its code; only where the model knows them
empty, hits_per_bar, syncopation, quality, log_likelihood
                          figures of its own; log_likelihood is log p(x | z) in nats at temperature 1, null where the
                          hits are given
steered                   hits that --must-have or --density decided, and not the model; only with these options
memorised                 whether it is a training window; null where the model does not carry their hashes
nearest_training          hits that differ from the nearest training window; null without --shards
duplicate_of              the first earlier groove with the same tokens
nearest_groove            hits that differ from the nearest other groove of its block of 10,000
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64, Int64

from jobs.sampler.gallery import MEAN, PLAIN, PLAYED, FigureColumn, GalleryGroove, write_gallery
from jobs.sampler.job import SampleJob
from jobs.sampler.parts import NOT_KNOWN, Rows
from jobs.sampler.selection import NO_ITEM
from jobs.sampler.settings import OutputFormat
from musicvae.durable import NO_UTF8
from musicvae.generation.style_guide import StyleGuide
from musicvae.groove.distance import nearest_others, window_hashes
from musicvae.groove.features import hits_per_bar, quality, syncopation
from musicvae.groove.groove import hits_from_tokens
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord

BLOCK = 10_000
"""Grooves among which the nearest other one is looked for; and that are in memory at once."""
DECIMALS = 4
"""Of the figures; the last bits of a sum over steps say nothing."""
LIKE = pa.struct([("file", pa.string()), ("bar", pa.int32())])
TYPES = {
    "id": pa.string(),
    "file": pa.string(),
    "index": pa.int64(),
    "seed": pa.uint64(),
    "z": pa.int64(),
    "weights": pa.string(),
    "settings": pa.string(),
    "tempo": pa.float64(),
    "like": LIKE,
    "style": pa.string(),
    "empty": pa.bool_(),
    "hits_per_bar": pa.float64(),
    "syncopation": pa.float64(),
    "quality": pa.float64(),
    "log_likelihood": pa.float64(),
    "steered": pa.int16(),
    "memorised": pa.bool_(),
    "nearest_training": pa.int32(),
    "duplicate_of": pa.string(),
    "nearest_groove": pa.int32(),
    "tokens": pa.list_(pa.int16()),
}


def style_guide(job: SampleJob, trained: TrainedModel) -> StyleGuide | None:
    """What tells the style of a job's grooves; None where they have no codes, or the model carries no guide."""
    return trained.training and trained.training.guide if job.made.humanizing is None else None


@dataclass(frozen=True, slots=True, eq=False)
class CheckedBlock:
    """Up to `BLOCK` grooves of the output with all their figures; see the module."""

    rows: Rows
    hits: Bool[np.ndarray, "groove step drum"]
    hits_per_bar: Float64[np.ndarray, " groove"]
    syncopation: Float64[np.ndarray, " groove"]
    quality: Float64[np.ndarray, " groove"]
    memorised: Bool[np.ndarray, " groove"] | None
    duplicate_of: Int64[np.ndarray, " groove"]
    nearest_groove: Int64[np.ndarray, " groove"] | None

    @property
    def empty(self) -> Bool[np.ndarray, " groove"]:
        return (self.rows.tokens == 0).all(axis=1)


def checked(
    rows: Rows, duplicate_of: Int64[np.ndarray, " groove"], trained: TrainedModel, training: TrainingRecord | None
) -> CheckedBlock:
    """A block of the output, with its figures."""
    hits = hits_from_tokens(rows.tokens, trained.drum_map.num_drums)
    return CheckedBlock(
        rows=rows,
        hits=hits,
        hits_per_bar=hits_per_bar(hits, trained.grid),
        syncopation=syncopation(hits, trained.grid),
        quality=quality(hits, trained.grid, trained.drum_map.classes),
        memorised=None if training is None else training.holds(window_hashes(rows.tokens)),
        duplicate_of=duplicate_of,
        nearest_groove=nearest_others(rows.tokens, trained.drum_map.num_drums) if len(rows) > 1 else None,
    )


def columns(job: SampleJob, trained: TrainedModel, block: CheckedBlock, first_row: int) -> dict[str, list[Any]]:
    """The manifest's columns of a block whose first groove has this row."""
    rows, count = block.rows, len(block.rows)
    items = rows.items.tolist()
    sources = [job.made.source(item) for item in items]
    like = {"like": [source and {"file": source.source, "bar": source.bar} for source in sources]}
    unknown, guide = [None] * count, style_guide(job, trained)
    steered = [None if hits == NOT_KNOWN else hits for hits in rows.known_steered().tolist()]
    return {
        "id": [job.name(item) for item in items],
        "file": unknown if job.options.pack is OutputFormat.NONE else [job.file(item) for item in items],
        "index": items,
        "seed": [job.made.recipe.seed] * count,
        "z": list(range(first_row, first_row + count)),
        "weights": [job.weights if job.made.humanizing is None else job.made.performer] * count,
        "settings": [job.settings_hash] * count,
        "tempo": [round(job.made.tempo_of(trained, item), 3) for item in items],
        **(like if any(sources) else {}),
        **({} if guide is None else {"style": [guide.names[style] for style in guide.recognised(rows.codes).tolist()]}),
        "empty": block.empty.tolist(),
        "hits_per_bar": block.hits_per_bar.round(DECIMALS).tolist(),
        "syncopation": block.syncopation.round(DECIMALS).tolist(),
        "quality": block.quality.round(DECIMALS).tolist(),
        "log_likelihood": [None if value != value else value for value in rows.log_likelihood.round(DECIMALS).tolist()],
        **({} if job.made.recipe.constraint is None else {"steered": steered}),
        "memorised": unknown if block.memorised is None else block.memorised.tolist(),
        "nearest_training": rows.nearest_training.tolist() or unknown,
        "duplicate_of": [None if item == NO_ITEM else job.name(item) for item in block.duplicate_of.tolist()],
        "nearest_groove": unknown if block.nearest_groove is None else block.nearest_groove.tolist(),
        "tokens": rows.tokens.tolist(),
    }


def lines(of_block: dict[str, list[Any]]) -> Iterator[str]:
    """A line of JSON for each groove of a block."""
    for values in zip(*of_block.values(), strict=True):
        yield json.dumps(dict(zip(of_block, values, strict=True)), ensure_ascii=False) + "\n"


class ParquetManifest:
    """Takes blocks of lines; each becomes a row group."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")  # pyarrow opens no path that is not UTF-8
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "ParquetManifest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        self._file.close()

    def write(self, names: Iterable[str], lines: Iterable[str]) -> None:
        """Lines with columns of these names, the same ones every time.

        pyarrow reads JSON faster than lists, and loads pandas, for a third of a second, where it is given a list.
        """
        schema = pa.schema([(name, TYPES[name]) for name in names])
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        text = "".join(lines).encode("utf-8", NO_UTF8)
        whole = pa_json.ReadOptions(use_threads=False, block_size=len(text))
        typed = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        self._writer.write_table(pa_json.read_json(pa.BufferReader(text), whole, typed))


DUPLICATE = FigureColumn("duplicate", "duplicate", "an earlier groove has the same hits", kind="flag")
STYLE = FigureColumn("style", "style", "the most likely one of those of the training data, by the code", kind="name")
QUALITY = FigureColumn("quality", "quality", "built as played grooves are, 0 to 1: bars repeat, one differs")
MANIFEST_COLUMNS = (
    STYLE,
    FigureColumn("hits_per_bar", "hits per bar", "of all drums", decimals=2),
    FigureColumn("syncopation", "syncopation", "after Longuet-Higgins and Lee, per bar", decimals=2),
    QUALITY,
    FigureColumn("log_likelihood", "likelihood", "log p(x | z) in nats: higher is more usual", decimals=1),
    FigureColumn("nearest_training", "differs from training", "hits, from the nearest training window", decimals=0),
    FigureColumn("steered", "steered", "hits that --must-have or --density decided", decimals=0),
    FigureColumn("nearest_groove", "differs from others", "hits, from the nearest other groove", decimals=0),
    FigureColumn("empty", "empty", "without a hit", kind="flag"),
    FigureColumn("memorised", "memorised", "is a training window", kind="flag"),
    DUPLICATE,
)
"""What the manifest says of a groove; a figure that is not known of a job's grooves has no column."""


def write_sample_gallery(
    page: Path, manifest: Path, job: SampleJob, trained: TrainedModel, rows: Iterator[Rows]
) -> None:
    """Writes the page from manifest.jsonl, of which no more is read than the page shows.

    Args:
        rows: of the grooves of the manifest, in its order.

    Raises:
        OSError: it cannot be written.
    """
    with manifest.open(encoding="utf-8") as lines:
        records = map(json.loads, lines)
        first, guide = next(records), style_guide(job, trained)
        named = {STYLE: STYLE if guide is None else replace(STYLE, names=guide.names)}
        write_gallery(
            page,
            _manifest_grooves(chain([first], records), rows, job, trained),
            title=f"Grooves of seed {job.made.recipe.seed}",
            grid=trained.grid,
            drum_map=job.drum_map,
            figures=[named.get(c, c) for c in MANIFEST_COLUMNS if c is DUPLICATE or first.get(c.name) is not None],
            sorted_by=None if job.made.windows is not None else QUALITY.name,
            ticks_per_quarter=job.layout.ticks_per_quarter,
            lead_in=job.layout.lead_in,
            sources=job.made.windows,
            pad=job.made.shape,
            written=_written(job),
            mean=trained.feel.centred() if job.made.is_centred else trained.feel,
        )


def _written(job: SampleJob) -> str:
    """What is played in the files of a job."""
    made = job.made
    if made.performer is not None:
        return PLAYED
    return PLAIN if made.dry else MEAN if made.style is None else made.style.name


def _manifest_grooves(
    records: Iterator[dict[str, Any]], rows: Iterator[Rows], job: SampleJob, trained: TrainedModel
) -> Iterator[GalleryGroove]:
    guide = style_guide(job, trained)
    for some in rows:
        items = some.items.tolist()
        kept = job.made.kept(items)
        of_rows = zip(islice(records, len(some)), items, job.grooves(trained, some), strict=True)
        for row, (record, item, groove) in enumerate(of_rows):
            figures = record | {DUPLICATE.name: record["duplicate_of"] is not None}
            if guide is not None:
                figures[STYLE.name] = guide.names.index(record[STYLE.name])
            of_source = {"sources": job.made.sources(item), "kept": None if kept is None else kept.hits[row]}
            yield GalleryGroove.of(record["id"], groove, figures, **of_source, place=job.made.place(item))
