"""The manifest as a Parquet file."""

from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
    "log_likelihood": pa.float64(),
    "memorised": pa.bool_(),
    "nearest_training": pa.int32(),
    "duplicate_of": pa.string(),
    "nearest_groove": pa.int32(),
    "tokens": pa.list_(pa.int16()),
}


class ParquetManifest:
    """Takes blocks of columns; each becomes a row group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "ParquetManifest":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, columns: dict[str, list[Any]]) -> None:
        """Columns of `jobs.sampler.sample_records`, the same ones every time."""
        schema = pa.schema([(name, TYPES[name]) for name in columns])
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
        self._writer.write_table(pa.table(columns, schema=schema))
