"""The bytes of a source's file, wherever they lie, or the reason why there are none."""

import errno
import hashlib
import lzma
import os
import stat as stat_bits
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from preprocess.listing import NOWHERE, FilePlace, SourceFile, SpanPlace, ZipPlace
from preprocess.rejection import Reason, Rejection
from preprocess.settings import LimitSettings

MEMBER_CHUNK = 4096
"""bzip2 and LZMA members inflate a whole chunk of compressed bytes at once; a bomb makes 100 MiB of 4 KiB."""
ABSENT = "absent"
ENCRYPTED = 0x1
"""The bit in the flags of a zip's member."""
MACHINE_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT})
"""What is no fault of the file: a machine out of handles or memory, a shared folder that is gone."""
MEMBER_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    NotImplementedError,
    struct.error,
)
_KINDS = {
    stat_bits.S_IFDIR: "a folder",
    stat_bits.S_IFIFO: "a FIFO",
    stat_bits.S_IFSOCK: "a socket",
    stat_bits.S_IFCHR: "a device",
    stat_bits.S_IFBLK: "a device",
}


class _UnreadableError(Exception):
    """The cause, in words."""


class _TooLargeError(Exception):
    """The number of bytes, in words."""


def read_source(file: SourceFile, limits: LimitSettings) -> bytes | Rejection:
    """A file's content, unless it cannot be read or is too large; no more than `limits.max_bytes` are ever read.

    Raises:
        OSError: the machine is at fault, not the file (see `MACHINE_ERRORS`): another try may succeed.
    """
    try:
        match file.place:
            case FilePlace(path):
                return _read_file(path, limits.max_bytes)
            case ZipPlace(archive, member):
                return _read_member(archive, member, limits.max_bytes)
            case SpanPlace(path, offset, size):
                return _read_span(path, offset, size, limits.max_bytes)
    except _TooLargeError as error:
        return Rejection(file.name, Reason.TOO_LARGE, f"{error}, limits.max_bytes is {limits.max_bytes}")
    except _UnreadableError as error:
        return Rejection(file.name, Reason.UNREADABLE, str(error))
    except OSError as error:
        if error.errno in MACHINE_ERRORS:
            raise
        return Rejection(file.name, Reason.UNREADABLE, error.strerror or type(error).__name__)


def stamp(file: SourceFile) -> str:
    """A cheap identity of what is on disk now: size and time of the file or its archive, and the member in it.

    Equal stamps of one place mean equal bytes, as far as the file system's clock can tell.
    """
    match file.place:
        case FilePlace(path):
            return _file_stamp(path)
        case ZipPlace(archive, member):
            return f"{_file_stamp(archive)} {member}"
        case SpanPlace(path, offset, size):
            return f"{_file_stamp(path)} {offset}+{size}"


def content_digest(data: bytes | Rejection) -> int:
    """8 bytes of BLAKE2b, as an unsigned number, of what was read, or of why nothing was."""
    content = data if isinstance(data, bytes) else f"{data.reason} {data.detail}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _file_stamp(path: str) -> str:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return ABSENT
    return f"{status.st_size} {status.st_mtime_ns}"


def _read_file(path: str, max_bytes: int) -> bytes:
    size = _regular_size(path)
    _check_size(size, max_bytes)
    with Path(path).open("rb") as file:
        return file.read(size)


def _read_span(path: str, offset: int, size: int, max_bytes: int) -> bytes:
    _check_size(size, max_bytes)
    if offset == NOWHERE:
        raise _UnreadableError("no regular file, or a link to nothing in the archive")
    _regular_size(path)
    with Path(path).open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), size, offset)
    if len(data) < size:
        raise _UnreadableError(f"the archive ends after {len(data)} of its {size} bytes")
    return data


def _read_member(path: str, member: str, max_bytes: int) -> bytes:
    """A member of a zip; its declared size is not trusted."""
    _regular_size(path)
    try:
        archive = _opened_zip(path, _file_stamp(path), os.getpid())
        info = archive.getinfo(member)
        _check_size(info.file_size, max_bytes)
        if info.flag_bits & ENCRYPTED:
            raise _UnreadableError("encrypted")
        with archive.open(info) as file:
            chunks = []
            while chunk := file.read(MEMBER_CHUNK):
                chunks.append(chunk)
        return b"".join(chunks)
    except KeyError:
        raise _UnreadableError("not in the archive") from None
    except OSError as error:
        if error.errno is None:  # bz2 reports damaged data so
            raise _UnreadableError(str(error)) from None
        raise
    except MEMBER_ERRORS as error:
        raise _UnreadableError(str(error) or type(error).__name__) from None


@lru_cache(maxsize=4)
def _opened_zip(path: str, _stamp: str, _process: int) -> zipfile.ZipFile:
    """One open archive per state of its file and per process: a forked process may not share its parent's position."""
    return zipfile.ZipFile(path)


def _regular_size(path: str) -> int:
    """The size of a regular file; others are not even opened, which could block for ever or move a device."""
    try:
        status = Path(path).stat()
    except ValueError:
        raise _UnreadableError("no path of a file") from None
    if not stat_bits.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat_bits.S_IFMT(status.st_mode), "not a regular file")
        raise _UnreadableError(f"{kind} that cannot be listed" if path.endswith("/") else kind)
    return status.st_size


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise _TooLargeError(f"{size} bytes")
