"""The bytes of a source's file, wherever they lie, or the reason why there are none."""

import errno
import hashlib
import lzma
import os
import stat as stat_bits
import struct
import zipfile
import zlib
from pathlib import Path

from preprocess.rejection import Reason, Rejection
from preprocess.settings import LimitSettings
from preprocess.sources.listing import NOWHERE, FilePlace, SourceFile, SpanPlace, ZipPlace

MEMBER_CHUNK = 4096
"""bzip2 and LZMA members inflate a whole chunk of compressed bytes at once; a bomb makes 100 MiB of 4 KiB."""
ABSENT = "absent"
ENCRYPTED = 0x1
"""The bit in the flags of a zip's member."""
LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a zip's member: what matters are the lengths of the name and of the extra field, after which its bytes begin."""
LOCAL_MAGIC = b"PK\x03\x04"
MACHINE_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN}
)
"""What is no fault of the file: a machine out of handles or memory, a shared folder that is gone."""
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
            case ZipPlace() as place:
                return _read_member(place, limits.max_bytes)
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
        case ZipPlace(path, offset, size=size) | SpanPlace(path, offset, size):
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


def _read_member(place: ZipPlace, max_bytes: int) -> bytes:
    """A member of a zip; what it declares of itself is not trusted."""
    if place.offset < 0:
        raise _UnreadableError("not in the archive")
    _check_size(place.size, max_bytes)
    if place.flags & ENCRYPTED:
        raise _UnreadableError("encrypted")
    _regular_size(place.archive)
    info = zipfile.ZipInfo("the member")
    info.compress_type, info.compress_size, info.file_size = place.method, place.packed, place.size
    info.CRC, info.flag_bits = place.crc, place.flags
    try:
        with Path(place.archive).open("rb") as file:
            file.seek(place.offset)
            header = file.read(LOCAL_HEADER.size)
            if len(header) < LOCAL_HEADER.size or not header.startswith(LOCAL_MAGIC):
                raise _UnreadableError("damaged: no header where the directory of the archive says")
            name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
            file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
            with zipfile.ZipExtFile(file, "r", info) as member:
                return b"".join(iter(lambda: member.read(MEMBER_CHUNK), b""))
    except NotImplementedError as error:  # so does zipfile refuse a compression that it lacks
        raise _UnreadableError(f"not supported: {error}") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error) as error:
        raise _UnreadableError(f"damaged: {error or 'the archive ends within it'}") from None
    except OSError as error:
        if error.errno is None:  # so does bz2 report damage
            raise _UnreadableError(f"damaged: {error}") from None
        raise


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
