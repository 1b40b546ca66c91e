"""What the manifest says of each groove: one line of JSON, and one row of Parquet.

id, file, index, seed     which groove it is, and its MIDI file; no file with --no-files
z                         its row in z.npy, which is its line in the manifest, counted from 0
weights, settings         hashes of what made it; settings.json has them in full
tempo, tokens             quarter notes a minute; the drums of each step, one bit each
like                      the window that it is a variation or a take of
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64, Int64

from jobs.sampler.job import SampleJob
from jobs.sampler.parts import NOT_KNOWN, Rows
from jobs.sampler.selection import NO_ITEM
from jobs.sampler.settings import OutputFormat
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
    unknown = [None] * count
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
    """Takes blocks of columns; each becomes a row group."""

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

    def write(self, columns: dict[str, list[Any]]) -> None:
        """Columns of `jobs.sampler.manifest`, the same ones every time."""
        schema = pa.schema([(name, TYPES[name]) for name in columns])
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self._writer.write_table(pa.table(columns, schema=schema))
