"""The two stages of a build: a batch of files -> one part on disk; pieces of parts -> one shard.

Both run as tasks anywhere and pass only names, counts and hashes through the driver. A part is a shard of its own that
lives until the build ends, so it comes with a hash that is checked when it is read.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from musicvae.drum_map import DrumMap
from musicvae.manifest import ShardEntry, Split
from musicvae.shards import WindowBlock, read_shard, write_shard
from preprocess.convert import Conversion, HitCounts, convert
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings, LimitSettings
from preprocess.sources import SourceFile
from preprocess.splits import split_of_content


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        sha256: hex digest of its content; of its reason and detail if it was not read.
        split: where its windows go; none if it is rejected.
        windows: number of windows it gave.
    """

    name: str
    sha256: str
    split: Split | None
    windows: int
    hits: HitCounts
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Stage 1's task: some files, and the name of the part that they become."""

    files: tuple[SourceFile, ...]
    part: Path


@dataclass(frozen=True, slots=True, eq=False)
class BatchOutcome:
    """Stage 1's answer.

    Attributes:
        part: the part with the windows of all files in order; none if there are no windows.
        hashes: 8 bytes for the tokens of each window.
    """

    files: tuple[FileOutcome, ...]
    part: ShardEntry | None
    hashes: UInt64[np.ndarray, " window"]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some windows of one part, by their places in it."""

    part: ShardEntry
    windows: Int64[np.ndarray, " window"]


@dataclass(frozen=True, slots=True, eq=False)
class ShardPlan:
    """Stage 2's task: the pieces that make up a shard, in order."""

    parts: Path
    pieces: Sequence[Piece]
    shard: Path


def convert_batch(batch: Batch, settings: BuildSettings, drum_map: DrumMap) -> BatchOutcome:
    """Stage 1: converts each file on its own and writes all windows as one part."""
    outcomes: list[FileOutcome] = []
    blocks: list[WindowBlock] = []
    for file in batch.files:
        data = read_source(file, settings.limits)
        if isinstance(data, Rejection):
            conversion = Conversion(data)
        else:
            conversion = convert(data, settings, drum_map, source=file.name, style=file.style)
        sha256 = content_key(data)
        if isinstance(conversion.result, Rejection):
            outcomes.append(FileOutcome(file.name, sha256, None, 0, conversion.hits, conversion.result))
        else:
            split = file.split or split_of_content(sha256, settings.split.validation_share)
            outcomes.append(FileOutcome(file.name, sha256, split, len(conversion.result), conversion.hits))
            blocks.append(conversion.result)
    if not blocks:
        return BatchOutcome(tuple(outcomes), None, np.zeros(0, dtype=np.uint64))
    windows = WindowBlock.joined(blocks)
    return BatchOutcome(tuple(outcomes), write_shard(batch.part, windows), window_hashes(windows))


def write_planned_shard(plan: ShardPlan, settings: BuildSettings, drum_map: DrumMap) -> ShardEntry:
    """Stage 2: gathers a shard's windows from the parts and writes it."""
    grid = settings.window.grid
    blocks = [
        read_shard(plan.parts, piece.part, grid=grid, num_drums=drum_map.num_drums).take(piece.windows)
        for piece in plan.pieces
    ]
    return write_shard(plan.shard, WindowBlock.joined(blocks))


def read_source(file: SourceFile, limits: LimitSettings) -> bytes | Rejection:
    """A file's content, unless it cannot be read or is too large."""
    try:
        if (size := file.path.stat().st_size) > limits.max_bytes:
            return Rejection(file.name, Reason.TOO_LARGE, f"{size} bytes, limits.max_bytes is {limits.max_bytes}")
        return file.path.read_bytes()
    except OSError as error:
        return Rejection(file.name, Reason.UNREADABLE, error.strerror or type(error).__name__)


def content_key(data: bytes | Rejection) -> str:
    """Hex digest of what was read, or of why nothing was."""
    content = data if isinstance(data, bytes) else f"{data.reason} {data.detail}".encode()
    return hashlib.sha256(content).hexdigest()


def window_hashes(windows: WindowBlock) -> UInt64[np.ndarray, " window"]:
    """8 bytes for the tokens of each window: equal windows have equal hashes."""
    digests = [hashlib.blake2b(tokens.tobytes(), digest_size=8).digest() for tokens in windows.tokens]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
