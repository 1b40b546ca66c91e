"""The two stages of a build, as tasks that run anywhere and any number of times.

Stage 1: a batch of files -> one part. Stage 2: rows of some parts -> one shard.
"""

import errno
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

import preprocess
from musicvae.data.manifest import ShardEntry
from musicvae.data.shards import write_shard
from musicvae.data.statistics import WindowStatistics, count_windows
from musicvae.data.windows import WindowBlock
from musicvae.durable import write_whole
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from preprocess.outcome import FileOutcome, convert_file, rejected
from preprocess.parts import Chunk, PartSummary, read_summary, read_windows, writing_part
from preprocess.rejection import Reason, Rejection
from preprocess.sandbox import Allowance, Failure, Sandbox
from preprocess.settings import BuildSettings, LimitSettings
from preprocess.sources.listing import SourceFile, content_digest, read_source, stamp

CHECKOUT = Path(preprocess.__file__).parents[1]
CONVERSION = ("musicvae/midi", "musicvae/groove", "musicvae/data/windows.py", "musicvae/durable.py", "preprocess")
"""The code that makes a part. An edit of it converts all files again; an edit of the model, say, converts none."""
CHUNK_WINDOWS = 512
"""Windows that gather before they are handed over: about 1 MB, whatever the files are, and little to read for a shard
that needs only some of them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some files, and the part that they become."""

    files: tuple[SourceFile, ...]
    part: Path


@dataclass(slots=True)
class Conversions:
    """The sandbox's work: converts files one by one."""

    settings: BuildSettings
    drum_map: DrumMap
    landmarks: tuple[str, ...]
    gathered: list[tuple[FileOutcome, WindowBlock | None]]
    windows: int = 0

    def do(self, item: SourceFile) -> bool:
        outcome, block = convert_file(item, self.settings, self.drum_map)
        if outcome.rejection and outcome.rejection.reason == Reason.UNREADABLE:
            self._check_source(outcome)
        self.gathered.append((outcome, block))
        self.windows += outcome.windows
        return self.windows >= CHUNK_WINDOWS

    def _check_source(self, outcome: FileOutcome) -> None:
        """A source that is gone must not look like a million unreadable files."""
        if gone := next((path for path in self.landmarks if not os.path.lexists(path)), None):
            raise OSError(errno.ESTALE, f"the source was removed while it was read: no {gone}, nor {outcome.name}")

    def hand_over(self) -> Chunk:
        chunk = Chunk.of(self.gathered)
        self.gathered, self.windows = [], 0
        return chunk


def convert_batch(
    batch: Batch, settings: BuildSettings, drum_map: DrumMap, landmarks: tuple[str, ...] = ()
) -> PartSummary:
    """Converts each file on its own and writes all windows as one part, unless that part is there already.

    Args:
        landmarks: paths that are there as long as the source is.

    Raises:
        OSError: the part cannot be written, or the source is gone.
    """
    key = part_key(batch, settings, drum_map)
    if summary := read_summary(batch.part, key):
        return summary
    work = Conversions(settings, drum_map, landmarks, [])
    with writing_part(batch.part) as part:
        for answer in _sandbox().run(work, batch.files, _allowance(settings.limits)):
            part.add(_chunk_of(answer, settings.limits) if isinstance(answer, Failure) else answer)
        return part.finish(key)


def part_key(batch: Batch, settings: BuildSettings, drum_map: DrumMap) -> str:
    """A hash of all that decides a part: files as they lie on disk now, settings, and the code that converts."""
    files = [[file.name, file.split, file.style, file.group, file.tempo, stamp(file)] for file in batch.files]
    decides = settings.deciding("shard")
    pitches = [[drum, list(pitches)] for drum, pitches in drum_map.pitches.items()]
    content: list[Any] = [conversion_code(), decides, pitches, files]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


@functools.cache
def conversion_code(checkout: Path = CHECKOUT) -> str:
    """A hash of `CONVERSION`, so that a part of another version is never mixed with parts of this one."""
    digest = hashlib.blake2b(digest_size=16)
    for place in CONVERSION:
        path = checkout / place
        for file in [path] if path.suffix else sorted(path.rglob("*.py")):
            digest.update(f"{file.relative_to(checkout).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@functools.cache
def _sandbox() -> Sandbox:
    """One for each process that runs tasks; it dies with it."""
    return Sandbox()


def _allowance(limits: LimitSettings) -> Allowance:
    return Allowance(limits.cpu_seconds, limits.wall_seconds, limits.memory_mib << 20)


def _chunk_of(failure: "Failure[SourceFile]", limits: LimitSettings) -> Chunk:
    rejection = Rejection(failure.item.name, failure.reason, failure.detail)
    digest = content_digest(read_source(failure.item, limits))
    return Chunk.of([(rejected(failure.item, rejection, digest=digest), None)])


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some windows of one part, by their places in it; `content` is the part's hash."""

    part: Path
    content: str
    rows: Int64[np.ndarray, " row"]


@dataclass(frozen=True, slots=True, eq=False)
class ShardAssignment:
    """The pieces that make up a shard, in order, and where it and the receipt for it are written."""

    pieces: Sequence[Piece]
    shard: Path
    receipt: Path


@dataclass(frozen=True, slots=True, eq=False)
class WrittenShard:
    """A shard as the manifest lists it, and what is in it."""

    entry: ShardEntry
    statistics: WindowStatistics


def write_planned_shard(plan: ShardAssignment, grid: GridSpec) -> WrittenShard:
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


def _key(plan: ShardAssignment) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for piece in plan.pieces:
        digest.update(piece.content.encode() + piece.rows.astype("<i8").tobytes())
    return digest.hexdigest()


def _receipt(plan: ShardAssignment, key: str) -> WrittenShard | None:
    try:
        values = json.loads(plan.receipt.read_text(encoding="utf-8"))
        data = plan.shard.read_bytes()
        entry = ShardEntry(**values["entry"])
        if values["key"] == key and hashlib.sha256(data).hexdigest() == entry.sha256:
            return WrittenShard(entry, WindowStatistics.from_json(values["statistics"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no receipt, or a torn one: the shard is written again
    return None
