"""Stage 2 of a build, as a task that runs anywhere and any number of times: rows of some parts -> one shard."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from musicvae.data.manifest import ShardEntry
from musicvae.data.shards import write_shard
from musicvae.data.statistics import WindowStatistics, count_windows
from musicvae.data.windows import WindowBlock
from musicvae.durable import write_whole
from musicvae.groove.grid import GridSpec
from preprocess.parts import read_windows


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some windows of one part, by their places in it; `content` is the part's hash."""

    part: Path
    content: str
    rows: Int64[np.ndarray, " row"]


@dataclass(frozen=True, slots=True, eq=False)
class ShardPlan:
    """The pieces that make up a shard, in order, and where it and the receipt for it are written."""

    pieces: Sequence[Piece]
    shard: Path
    receipt: Path


@dataclass(frozen=True, slots=True, eq=False)
class WrittenShard:
    """A shard as the manifest lists it, and what is in it."""

    entry: ShardEntry
    statistics: WindowStatistics


def write_planned_shard(plan: ShardPlan, grid: GridSpec) -> WrittenShard:
    """Gathers a shard's windows from the parts and writes it, unless it is there already.

    Raises:
        OSError: it cannot be written, or a part is gone.
    """
    key = _key(plan)
    if written := _receipt(plan, key):
        return written
    windows = WindowBlock.joined([read_windows(piece.part, piece.rows) for piece in plan.pieces])
    written = WrittenShard(write_shard(plan.shard, windows), count_windows(windows, grid))
    receipt = {"key": key, "entry": asdict(written.entry), "statistics": written.statistics.to_json()}
    write_whole(plan.receipt, json.dumps(receipt), sync=False)
    return written


def _key(plan: ShardPlan) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for piece in plan.pieces:
        digest.update(piece.content.encode() + piece.rows.astype("<i8").tobytes())
    return digest.hexdigest()


def _receipt(plan: ShardPlan, key: str) -> WrittenShard | None:
    try:
        values = json.loads(plan.receipt.read_text())
        data = plan.shard.read_bytes()
        entry = ShardEntry(**values["entry"])
        if values["key"] == key and hashlib.sha256(data).hexdigest() == entry.sha256:
            return WrittenShard(entry, WindowStatistics.from_json(values["statistics"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no receipt, or a torn one: the shard is written again
    return None
