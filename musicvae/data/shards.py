"""Shards: WebDataset tars of blocks of windows. They are written, read whole, and read in pieces.

A shard is a tar of blocks of up to 1,024 windows. A block has four members: `<block>.tokens.npy` int16
(window, step), `<block>.velocity.npy` uint8 (window, step, drum; MIDI 1-127, 0 is no hit), `<block>.offset.npy` int16
(window, step, drum; 1/65536 of a step) and `<block>.meta.json` (a list with source, bar, tempo, style per window).
Members are decoded here and never by webdataset's default decoder, which unpickles.

A file is verified by its hash once. After that its tokens are read in pieces for as long as it stays the same file.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16, Int64

from musicvae.data.manifest import ShardEntry, ShardManifest, check_bytes
from musicvae.data.sources import ShardSource
from musicvae.data.windows import SplitTokens, WindowBlock, WindowMeta
from musicvae.durable import write_whole
from musicvae.errors import DataError
from musicvae.groove.grid import GridSpec

BLOCK_WINDOWS = 1024
MEMBERS = ("tokens.npy", "velocity.npy", "offset.npy", "meta.json")
"""What every block of a shard consists of."""
TOKEN_TYPE = np.dtype("<i2")


def write_shard(path: Path, windows: WindowBlock) -> ShardEntry:
    """Writes windows as one tar. The same windows give the same bytes everywhere.

    The tar is whole under its name but not yet on disk for good: `publish_folder` syncs a whole folder of them at once.
    """
    from webdataset.writer import TarWriter  # loads torch, so only where tars are written

    buffer = io.BytesIO()
    with TarWriter(buffer, encoder=False, mtime=0, user="root", group="root") as tar:
        for number, start in enumerate(range(0, len(windows), BLOCK_WINDOWS)):
            tar.write({"__key__": f"{number:06d}", **_encode(windows[start : start + BLOCK_WINDOWS])})
    data = buffer.getbuffer()
    write_whole(path, data, sync=False)
    return ShardEntry(path.name, len(windows), len(data), hashlib.sha256(data).hexdigest())


def read_shard(path: Path, shard: ShardEntry, *, grid: GridSpec, num_drums: int) -> WindowBlock:
    """All windows of a shard, with its hash checked first.

    Raises:
        DataError: the file is missing, not the one that the manifest describes, or holds anything unexpected.
    """
    with verified(path, shard) as file:
        windows = WindowBlock.joined([_decode(sample) for sample in _samples(path.name, file)])
        expected = (shard.windows, grid.num_steps, num_drums)
        if windows.velocity.shape != expected:
            raise ValueError(f"windows of shape {windows.velocity.shape}, the manifest says {expected}")
    return windows


def read_tokens(source: ShardSource, manifest: ShardManifest, split: str) -> SplitTokens:
    """The tokens of a whole split, in the order of the window ids.

    Raises:
        ConfigError: no such split.
        DataError: a damaged shard.
    """
    tokens, sources = [], []
    for shard in manifest.split(split).shards:
        block = read_shard(source.local(shard), shard, grid=manifest.grid, num_drums=manifest.drum_map.num_drums)
        tokens.append(block.tokens)
        sources += [meta.source for meta in block.meta]
    _, performance = np.unique(sources, return_inverse=True)
    return SplitTokens(np.concatenate(tokens), performance.astype(np.int64))


def _samples(name: str, file: BufferedReader) -> Iterator[dict[str, Any]]:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    return group_by_keys(tar_file_expander([{"url": name, "stream": file}]))


def _encode(block: WindowBlock) -> dict[str, bytes | memoryview]:
    meta = [{"source": m.source, "bar": m.bar, "tempo": m.tempo, "style": m.style} for m in block.meta]
    return {
        "tokens.npy": _npy(block.tokens),
        "velocity.npy": _npy(block.velocity),
        "offset.npy": _npy(block.offset),
        "meta.json": json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode(),
    }


def _decode(sample: dict[str, Any]) -> WindowBlock:
    members = {name: value for name, value in sample.items() if not name.startswith("__")}
    check_members(sample["__key__"], members)
    return WindowBlock(
        np.load(io.BytesIO(members["tokens.npy"]), allow_pickle=False),
        np.load(io.BytesIO(members["velocity.npy"]), allow_pickle=False),
        np.load(io.BytesIO(members["offset.npy"]), allow_pickle=False),
        [WindowMeta(**meta) for meta in json.loads(members["meta.json"])],
    )


def _npy(array: np.ndarray) -> memoryview:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getbuffer()


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells that a file is still the one that was verified, without reading it."""

    size: int
    modified_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, file: BufferedReader) -> "FileIdentity":
        status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


@dataclass(frozen=True, slots=True, eq=False)
class TokenIndex:
    """Where the tokens of a verified shard lie.

    Attributes:
        starts: the first window of each block, then the number of windows of the shard.
        offsets: the place in the file of each block's first token.
    """

    identity: FileIdentity
    starts: Int64[np.ndarray, " bound"]
    offsets: Int64[np.ndarray, " block"]


class ShardChangedError(Exception):
    """The file is gone, or not the one that was verified."""


@contextmanager
def verified(path: Path, shard: ShardEntry) -> Iterator[BufferedReader]:
    """The shard's file, open at its start, once its size and its hash are those of the manifest.

    What goes wrong while the block reads it becomes a `DataError` that names the file.

    Raises:
        DataError: the file is missing, not the one that the manifest describes, or not what the block expects.
    """
    try:
        with path.open("rb") as file:
            check_bytes(file, shard)
            file.seek(0)
            yield file
    except OSError as error:
        raise _damaged(path, f"{error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, tarfile.TarError) as error:
        raise _damaged(path, str(error)) from None


def index_tokens(path: Path, shard: ShardEntry, *, num_steps: int) -> TokenIndex:
    """Verifies a shard and notes where its tokens lie; holds a chunk of it in memory at a time.

    Raises:
        DataError: the file is missing, not the one that the manifest describes, or holds anything unexpected.
    """
    with verified(path, shard) as file:
        identity = FileIdentity.of(file)
        sizes, offsets = [], []
        for member in _token_members(file):
            sizes.append(_windows_in(file, member, num_steps))
            offsets.append(file.tell())
        if sum(sizes) != shard.windows:
            raise ValueError(f"windows of shape {(sum(sizes), num_steps)}, the manifest says {shard.windows} windows")
        return TokenIndex(identity, np.cumsum([0, *sizes]), np.array(offsets, dtype=np.int64))


def read_tokens_at(path: Path, index: TokenIndex, first: int, into: Int16[np.ndarray, "window step"]) -> None:
    """Reads consecutive windows of a verified shard, from `first` on, as many as there is room for.

    Raises:
        ShardChangedError: the file is gone, or another than the index was made of.
    """
    last, row_bytes = first + len(into), into.shape[1] * TOKEN_TYPE.itemsize
    try:
        with path.open("rb") as file:
            block = int(np.searchsorted(index.starts, first, side="right")) - 1
            while first < last:
                end = min(last, int(index.starts[block + 1]))
                room = into[first - last :][: end - first]
                place = int(index.offsets[block]) + (first - int(index.starts[block])) * row_bytes
                _fill(file, place, room)
                first, block = end, block + 1
            if FileIdentity.of(file) != index.identity:  # asked after reading: what was read is what was verified
                raise ShardChangedError(f"{path} was changed")
    except OSError as error:
        raise ShardChangedError(f"{path}: {error.strerror or error}") from None


def _fill(file: BufferedReader, place: int, room: Int16[np.ndarray, "window step"]) -> None:
    values = os.pread(file.fileno(), room.nbytes, place)
    if len(values) != room.nbytes:
        raise ShardChangedError("the file became shorter")
    room[:] = np.frombuffer(values, dtype=TOKEN_TYPE).reshape(room.shape)


def _token_members(file: BufferedReader) -> Iterator[tarfile.TarInfo]:
    """The tokens of each block in order, from the tar's headers alone; anything but whole blocks is refused."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        members = list(tar)
    blocks: dict[str, dict[str, tarfile.TarInfo]] = {}
    for info in members:
        block, _, part = info.name.partition(".")
        parts = blocks.setdefault(block, {})
        if not info.isreg() or part in parts:
            raise ValueError(f"unexpected member {info.name!r}: no plain file, or there twice")
        parts[part] = info
    for block, parts in blocks.items():
        check_members(block, parts)
        yield parts["tokens.npy"]


def check_members(block: str, names: Collection[str]) -> None:
    """Refuses a block that has other members than the format's.

    Raises:
        ValueError: it has.
    """
    if set(names) != set(MEMBERS):
        raise ValueError(f"block {block} has members {sorted(names)}, expected {sorted(MEMBERS)}")


def _windows_in(file: BufferedReader, member: tarfile.TarInfo, num_steps: int) -> int:
    """The number of windows of a `tokens.npy`; leaves the file at its first token."""
    file.seek(member.offset_data)
    match np.lib.format.read_magic(file):
        case (1, 0):
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        case version:
            raise ValueError(f"{member.name} is of npy version {version}, expected (1, 0)")
    length = file.tell() - member.offset_data + shape[0] * num_steps * TOKEN_TYPE.itemsize if shape else 0
    if dtype != TOKEN_TYPE or by_column or shape[1:] != (num_steps,) or member.size != length:
        raise ValueError(
            f"{member.name} holds {dtype} of shape {shape} in {member.size} bytes, "
            f"expected {TOKEN_TYPE} of shape (windows, {num_steps})"
        )
    return shape[0]


def _damaged(path: Path, found: str) -> DataError:
    return DataError(
        f"shard {path} cannot be used",
        expected="the file that the manifest describes",
        found=found,
        likely="a copy that broke off, or a shard of another build in the same folder",
        do="copy the shards again, or build them anew with --overwrite",
    )
