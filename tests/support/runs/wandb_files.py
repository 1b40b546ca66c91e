"""Reads what W&B keeps of an offline run: its log of records, in LevelDB's log format, and the files beside it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

HEADER_BYTES = 7
BLOCK_BYTES = 32768
FULL, LAST = 1, 4
"""Types of a piece that ends a record."""


def offline_folders(run: Path) -> list[Path]:
    """W&B's folder of each launch of a run, oldest first."""
    return sorted((run / "wandb").glob("offline-run-*"))


def records(folder: Path) -> Iterator[Any]:
    """Every record of an offline run."""
    (path,) = folder.glob("*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, parts = HEADER_BYTES, b""
    while place + HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < HEADER_BYTES:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + HEADER_BYTES : place + HEADER_BYTES + length]
        place += HEADER_BYTES + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(folder: Path) -> dict[int, dict[str, Any]]:
    """What was logged, by W&B's own step."""
    return {
        int(record.history.step.num): {
            item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
        }
        for record in records(folder)
        if record.WhichOneof("record_type") == "history"
    }


def of_kind(folder: Path, kind: str) -> list[Any]:
    """The records of a kind: run, artifact, exit, preempting ..."""
    return [getattr(record, kind) for record in records(folder) if record.WhichOneof("record_type") == kind]
