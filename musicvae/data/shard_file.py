"""A shard's tar on disk: proved by its hash once, then read in pieces for as long as it stays the same file."""

import os
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from jaxtyping import Int16, Int64

from musicvae.data.manifest import ShardEntry, check_bytes
from musicvae.errors import DataError

MEMBERS = ("tokens.npy", "velocity.npy", "offset.npy", "meta.json")
"""What every block of a shard consists of."""
TOKEN_TYPE = np.dtype("<i2")


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
