"""Shards: WebDataset tars of blocks of windows. They are written, read whole, and read in pieces.

A shard is a tar of blocks of up to 1,024 windows. A block has four members: `<block>.tokens.npy` int16
(window, step), `<block>.velocity.npy` uint8 (window, step, drum; MIDI 1-127, 0 is no hit), `<block>.offset.npy` int16
(window, step, drum; 1/65536 of a step) and `<block>.meta.json` (a list with source, bar, tempo, style per window).
Members are decoded here and never by webdataset's default decoder, which unpickles.

A file is verified by its hash once. After that its windows are read in pieces for as long as it stays the same file.
"""

import hashlib
import io
import json
import math
import os
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16, Int64

from musicvae.data.manifest import ShardEntry, ShardManifest, ShardSource, check_bytes, check_whole
from musicvae.data.windows import SplitTokens, WindowBlock, WindowMeta
from musicvae.durable import open_regular, write_whole
from musicvae.errors import DataError
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, hits_from_tokens

BLOCK_WINDOWS = 1024
MEMBERS = ("tokens.npy", "velocity.npy", "offset.npy", "meta.json")
"""What every block of a shard consists of."""
ARRAYS = {"tokens.npy": np.dtype("<i2"), "velocity.npy": np.dtype("u1"), "offset.npy": np.dtype("<i2")}
"""The members that hold an array, and the type of its values."""
TOKENS, PLAYING = ("tokens.npy",), ("velocity.npy", "offset.npy")
"""What a reader of windows reads of them: their hits, or how they were played."""
TEMPO = "tempo"
"""Beside the names of arrays: what an index holds of each window."""


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
        blocks = [_decode(sample, grid.num_steps, num_drums) for sample in _samples(path.name, file)]
        windows = WindowBlock.joined(blocks)
        expected = (shard.windows, grid.num_steps, num_drums)
        if windows.velocity.shape != expected:
            raise ValueError(f"windows of shape {windows.velocity.shape}, the manifest says {expected}")
    return windows


def read_blocks(source: ShardSource, manifest: ShardManifest, shards: Iterable[ShardEntry]) -> Iterator[WindowBlock]:
    """The windows of shards, one shard at a time.

    Raises:
        DataError: a damaged shard.
    """
    for shard in shards:
        yield read_shard(source.local(shard), shard, grid=manifest.grid, num_drums=manifest.drum_map.num_drums)


def read_tokens(source: ShardSource, manifest: ShardManifest, split: str) -> SplitTokens:
    """The tokens of a whole split, in the order of the window ids.

    Raises:
        ConfigError: no such split.
        DataError: a damaged shard.
    """
    tokens, sources = [], []
    for block in read_blocks(source, manifest, manifest.split(split).shards):
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


def _decode(sample: dict[str, Any], steps: int, drums: int) -> WindowBlock:
    members = {name: value for name, value in sample.items() if not name.startswith("__")}
    check_members(sample["__key__"], members)
    tokens, velocity, offset = (_array(name, members, steps, drums) for name in ARRAYS)
    block = WindowBlock(tokens, velocity, offset, [_meta(**meta) for meta in json.loads(members["meta.json"])])
    check_tokens(block.tokens, drums)
    if block.velocity.size and block.velocity.max() > MAX_VELOCITY:
        raise ValueError(f"a velocity of {block.velocity.max()}, expected at most {MAX_VELOCITY}")
    return block


def _array(name: str, members: dict[str, bytes], steps: int, drums: int) -> np.ndarray:
    """An array without more memory than its bytes take, whatever its header says."""
    file, of_window = io.BytesIO(members[name]), shape_of_window(name, steps, drums)
    windows = _windows_in(file, name, len(members[name]), ARRAYS[name], of_window)
    return np.frombuffer(members[name], ARRAYS[name], offset=file.tell()).reshape(windows, *of_window)


def shape_of_window(name: str, steps: int, drums: int) -> tuple[int, ...]:
    """The shape of one window in an array."""
    return (steps,) if name in TOKENS else (steps, drums)


def _meta(source: object, bar: object, tempo: object, style: object = "") -> WindowMeta:
    check_whole("bar of a window", bar)
    if not (isinstance(source, str) and isinstance(style, str)):
        raise ValueError(f"source and style of a window: expected texts, found {source!r}, {style!r}")
    if isinstance(tempo, bool) or not isinstance(tempo, int | float) or not 0 < tempo < math.inf:
        raise ValueError(f"tempo of a window: expected quarter notes a minute, found {tempo!r}")
    return WindowMeta(source, bar, tempo, style)  # type: ignore[arg-type]


def check_tokens(tokens: Int16[np.ndarray, "window step"], num_drums: int) -> None:
    """Refuses tokens with bits for drums that there are not.

    Raises:
        ValueError: there is one.
    """
    if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < 1 << num_drums:
        raise ValueError(f"tokens of {tokens.min()} to {tokens.max()}, expected 0 to {(1 << num_drums) - 1}")


def _npy(array: np.ndarray) -> memoryview:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getbuffer()


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells that a file is still the one that was verified, without reading it."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, file: BufferedReader) -> "FileIdentity":
        status = os.fstat(file.fileno())
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


@dataclass(frozen=True, slots=True, eq=False)
class ShardIndex:
    """Where the windows of a verified shard lie.

    Attributes:
        starts: the first window of each block, then the number of windows of the shard.
        offsets: by array, the place in the file of each block's first value.
        tempo: of each window, in quarter notes per minute; only where the playing is read.
    """

    identity: FileIdentity
    starts: Int64[np.ndarray, " bound"]
    offsets: Mapping[str, Int64[np.ndarray, " block"]]
    tempo: Float32[np.ndarray, " window"] | None = None


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
        with open_regular(path) as file:
            check_bytes(file, shard)
            file.seek(0)
            yield file
    except OSError as error:
        raise _damaged(path, f"{error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, RecursionError, tarfile.TarError) as error:
        raise _damaged(path, str(error)) from None


def index_tokens(path: Path, shard: ShardEntry, *, num_steps: int, num_drums: int) -> ShardIndex:
    """Verifies a shard and notes where its tokens lie; holds the tokens of one block in memory at a time.

    Raises:
        DataError: the file is missing, not the one that the manifest describes, or holds anything unexpected.
    """
    with verified(path, shard) as file:
        identity, index = FileIdentity.of(file), _IndexOfBlocks(TOKENS, num_steps, num_drums)
        for _, members in _blocks(file):
            index.add(file, members)
            file.seek(int(index.offsets["tokens.npy"][-1]))
            tokens = file.read(index.sizes[-1] * num_steps * ARRAYS["tokens.npy"].itemsize)
            check_tokens(np.frombuffer(tokens, ARRAYS["tokens.npy"]).reshape(-1, num_steps), num_drums)
        return index.whole(identity, shard)


def index_playing(path: Path, shard: ShardEntry, *, num_steps: int, num_drums: int) -> ShardIndex:
    """Verifies a shard and notes where velocity and timing lie; holds one block in memory at a time.

    Raises:
        DataError: as `index_tokens`; or there is a velocity without a hit, or a hit without a velocity.
    """
    with verified(path, shard) as file:
        identity, index = FileIdentity.of(file), _IndexOfBlocks(PLAYING, num_steps, num_drums)
        tempo: list[float] = []
        for number, members in _blocks(file):
            index.add(file, members)
            parts = {}
            for name, info in members.items():
                file.seek(info.offset_data)
                parts[name] = file.read(info.size)
            block = _decode({"__key__": number, **parts}, num_steps, num_drums)
            if not np.array_equal(block.velocity > 0, hits_from_tokens(block.tokens, num_drums)):
                raise ValueError(f"block {number} has velocities that do not belong to its hits")
            tempo += [meta.tempo for meta in block.meta]
        return index.whole(identity, shard, np.array(tempo, dtype=np.float32))


class _IndexOfBlocks:
    """Where some arrays of a shard lie, found block by block; the arrays of a block are equally long."""

    def __init__(self, arrays: Collection[str], num_steps: int, num_drums: int) -> None:
        self.num_steps, self.num_drums = num_steps, num_drums
        self.sizes: list[int] = []
        self.offsets: dict[str, list[int]] = {name: [] for name in arrays}

    def add(self, file: BufferedReader, members: Mapping[str, tarfile.TarInfo]) -> None:
        size = 0
        for name, offsets in self.offsets.items():
            info, of_window = members[name], shape_of_window(name, self.num_steps, self.num_drums)
            file.seek(info.offset_data)
            size = _windows_in(file, info.name, info.size, ARRAYS[name], of_window)
            offsets.append(file.tell())
        self.sizes.append(size)

    def whole(
        self, identity: FileIdentity, shard: ShardEntry, tempo: Float32[np.ndarray, " window"] | None = None
    ) -> ShardIndex:
        if sum(self.sizes) != shard.windows:
            shape = (sum(self.sizes), self.num_steps)
            raise ValueError(f"windows of shape {shape}, the manifest says {shard.windows} windows")
        offsets = {name: np.array(places, dtype=np.int64) for name, places in self.offsets.items()}
        return ShardIndex(identity, np.cumsum([0, *self.sizes]), offsets, tempo)


def read_windows_at(path: Path, index: ShardIndex, first: int, into: Mapping[str, np.ndarray]) -> None:
    """Reads consecutive windows of a verified shard, from `first` on, as many as there is room for.

    Args:
        into: room for each array that is wanted, or for `TEMPO`; all for the same number of windows.

    Raises:
        ShardChangedError: the file is gone, or another than the index was made of.
    """
    try:
        with open_regular(path) as file:
            for name, room in into.items():
                if name == TEMPO and index.tempo is not None:
                    room[:] = index.tempo[first : first + len(room)]
                else:
                    _read_array_at(file, index.starts, index.offsets[name], first, room)
            if FileIdentity.of(file) != index.identity:  # asked after reading: what was read is what was verified
                raise ShardChangedError(f"{path} was changed")
    except (OSError, ValueError) as error:
        raise ShardChangedError(f"{path}: {error}") from None


def _read_array_at(
    file: BufferedReader,
    starts: Int64[np.ndarray, " bound"],
    offsets: Int64[np.ndarray, " block"],
    first: int,
    into: np.ndarray,
) -> None:
    last, row_bytes = first + len(into), math.prod(into.shape[1:]) * into.itemsize
    block = int(np.searchsorted(starts, first, side="right")) - 1
    while first < last:
        end = min(last, int(starts[block + 1]))
        room = into[first - last :][: end - first]
        _fill(file, int(offsets[block]) + (first - int(starts[block])) * row_bytes, room)
        first, block = end, block + 1


def _fill(file: BufferedReader, place: int, room: np.ndarray) -> None:
    values = os.pread(file.fileno(), room.nbytes, place)
    if len(values) != room.nbytes:
        raise ShardChangedError("the file became shorter")
    room[:] = np.frombuffer(values, dtype=room.dtype.newbyteorder("<")).reshape(room.shape)


def _blocks(file: BufferedReader) -> Iterator[tuple[str, Mapping[str, tarfile.TarInfo]]]:
    """The name and the members of each block in order, from the tar's headers; anything but whole blocks is refused."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        members = list(tar)
    blocks: dict[str, dict[str, tarfile.TarInfo]] = {}
    for info in members:
        block, _, part = info.name.partition(".")
        parts = blocks.setdefault(block, {})
        if not info.isreg() or part in parts:
            raise ValueError(f"unexpected member {info.name!r}: not a regular file, or listed twice")
        parts[part] = info
    for block, parts in blocks.items():
        check_members(block, parts)
        yield block, parts


def check_members(block: str, names: Collection[str]) -> None:
    """Refuses a block that has other members than the format's.

    Raises:
        ValueError: it has.
    """
    if set(names) != set(MEMBERS):
        raise ValueError(f"block {block} has members {sorted(names)}, expected {sorted(MEMBERS)}")


def _windows_in(file: BufferedIOBase, name: str, size: int, dtype: np.dtype, of_window: tuple[int, ...]) -> int:
    """The number of windows of a `.npy` of `size` bytes; leaves the file at its first value."""
    start = file.tell()
    match np.lib.format.read_magic(file):
        case (1, 0):
            shape, by_column, stored_dtype = np.lib.format.read_array_header_1_0(file)
        case version:
            raise ValueError(f"{name} is of npy version {version}, expected (1, 0)")
    length = file.tell() - start + math.prod(shape) * dtype.itemsize
    if stored_dtype != dtype or by_column or shape[1:] != of_window or not shape or shape[0] < 0 or size != length:
        dimensions = ", ".join(("windows", *map(str, of_window)))
        raise ValueError(
            f"{name} holds {stored_dtype} of shape {shape} in {size} bytes, expected {dtype} of shape ({dimensions})"
        )
    return shape[0]


def _damaged(path: Path, damage: str) -> DataError:
    return DataError(
        f"shard {path} cannot be used",
        expected="the file that the manifest describes",
        found=damage,
        likely="an incomplete copy, or a shard of another build in the same folder",
        do="copy the shards again, or rebuild them with --overwrite",
    )
