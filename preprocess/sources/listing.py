"""A collection: named files in order, each with its split and place; and its bytes, or why there are none."""

import errno
import hashlib
import lzma
import os
import posixpath
import re
import stat as stat_bits
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, overload

from musicvae.data.manifest import SPLITS, Split
from preprocess.rejection import Reason, Rejection
from preprocess.settings import LimitSettings, SplitSettings

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
MIDI_LIKE = f"end in {', '.join(MIDI_SUFFIXES)} in upper or lower case, or start like a MIDI file"
HEAD_BYTES = 12
"""As many as tell a MIDI file without a suffix from others."""
NOWHERE = -1
"""The offset of a member whose bytes its archive does not hold in one piece: a link to nothing, a device, a sparse
file, or one that was too large to be copied."""
_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
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


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file of its own; `path` is absolute, with undecodable bytes as `os.fsdecode` keeps them."""

    path: str


@dataclass(frozen=True, slots=True)
class ZipPlace:
    """A member of a zip as its central directory describes it, so that no task has to read that directory again.

    Attributes:
        offset: of the member's own header; `NOWHERE` if the archive has no such member.
        packed: compressed bytes.
        size: declared bytes.
        crc: CRC-32 of the bytes.
        method: compression method.
        flags: general purpose bits.
    """

    archive: str
    offset: int
    packed: int = 0
    size: int = 0
    crc: int = 0
    method: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class SpanPlace:
    """`size` bytes of a file from `offset`, as an uncompressed tar holds its members; or `NOWHERE`."""

    path: str
    offset: int
    size: int


Place: TypeAlias = FilePlace | ZipPlace | SpanPlace


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One MIDI file of a collection.

    Attributes:
        name: its path within the collection, printable, with forward slashes; what windows and reports call it.
        place: where its bytes lie, for tasks run in other folders and on other nodes.
        split: the split that the collection gives it, if it gives any.
        style: its style, empty if unknown.
        group: what `split.group=column` keeps together, empty if the collection has no groups.
        tempo: quarter notes per minute as the collection says, instead of what the file says.
    """

    name: str
    place: Place
    split: Split | None = None
    style: str = ""
    group: str = ""
    tempo: float | None = None


class Listing(Sequence[SourceFile]):
    """Files made when they are asked for, so that a million cost little more than their names.

    A slice is a tuple of its files alone and can be sent to another process; the listing itself stays with the driver.

    Args:
        size: number of files.
        make: the file of an index from 0 to size - 1, in the order of the names.
    """

    __slots__ = ("_make", "_size")

    def __init__(self, size: int, make: Callable[[int], SourceFile]) -> None:
        self._size = size
        self._make = make

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> SourceFile: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SourceFile, ...]: ...
    def __getitem__(self, index: int | slice) -> SourceFile | tuple[SourceFile, ...]:
        places = range(self._size)[index]
        return self._make(places) if isinstance(places, int) else tuple(map(self._make, places))


@dataclass(frozen=True, slots=True)
class Source:
    """A collection of MIDI files, ordered by name.

    Attributes:
        kind: what it is.
        files: every file that will be accounted for.
        splits: the splits that its files can go to, in the manifest's order.
        drum_map: the drum map that `auto` stands for.
        unopened_archives: archives that lie in the folder and are not looked into.
        keeps_duplicates: whether a table names the files; then those of equal content are meant to be there.
    """

    kind: Literal["folder", "archive", "list", "groove", "demo"]
    files: Sequence[SourceFile]
    splits: tuple[Split, ...]
    drum_map: str = "general_midi"
    keeps_duplicates: bool = False
    unopened_archives: int = 0


def is_candidate(name: str, read_head: Callable[[], bytes | None]) -> bool:
    """Whether a file is taken for MIDI: by its suffix in any case or, if that says nothing, by its first bytes.

    Args:
        name: its name; what follows a dot and a space, as in `Mr. Drum`, is no suffix.
        read_head: gives its first `HEAD_BYTES` bytes, or None if it cannot be read: then it is a candidate, so that it
            is accounted for.
    """
    suffix = posixpath.splitext(name)[1].lower()
    # macOS lays `._song.mid` with attributes beside `song.mid` in zips and on foreign disks.
    if not posixpath.basename(name).startswith("._"):
        if suffix in MIDI_SUFFIXES:
            return True
        if len(suffix) > 1 and " " not in suffix:
            return False
    head = read_head()
    return head is None or head[:4] == b"MThd" or (head[:4] == b"RIFF" and head[8:12] == b"RMID")


def printable(name: str) -> str:
    r"""A name as text: bytes that are not UTF-8, and control characters, stand as `\xff`.

    Different names stay different: a name that looks as if it were escaped already has its backslashes doubled.

    Args:
        name: decoded as UTF-8 with `surrogateescape`, as `os.fsdecode` and tarfile do.
    """
    if name.isprintable() and "\\x" not in name:
        return name
    odd = {character for character in name if unicodedata.category(character) in _UNPRINTABLE}
    if not odd and not _ESCAPE.search(name):
        return name
    return "".join(_escaped(character) if character in odd or character == "\\" else character for character in name)


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))


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
        return Rejection(file.name, Reason.TOO_LARGE, f"{error}, more than limits.max_bytes = {limits.max_bytes}")
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


def is_there(path: str) -> bool:
    """Whether a path can be looked at; one that is too long, or no path at all, cannot."""
    return _file_stamp(path) != ABSENT


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
    regular, size = _regular_file(path)
    _check_size(size, max_bytes)
    with regular.open("rb", buffering=0) as file:
        return file.read(size)


def _read_span(path: str, offset: int, size: int, max_bytes: int) -> bytes:
    _check_size(size, max_bytes)
    if offset == NOWHERE:
        raise _UnreadableError("not a regular file, or a link to a missing file")
    archive, _ = _regular_file(path)
    with archive.open("rb", buffering=0) as file:
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
    archive, _ = _regular_file(place.archive)
    info = zipfile.ZipInfo("the member")
    info.compress_type, info.compress_size, info.file_size = place.method, place.packed, place.size
    info.CRC, info.flag_bits = place.crc, place.flags
    try:
        with archive.open("rb") as file:
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


def _regular_file(path: str) -> tuple[Path, int]:
    """A regular file and its size; others are not even opened, which could block for ever or move a device."""
    regular = Path(path)
    try:
        status = regular.stat()
    except ValueError:
        raise _UnreadableError("not the path of a file") from None
    if not stat_bits.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat_bits.S_IFMT(status.st_mode), "not a regular file")
        raise _UnreadableError(f"{kind} that cannot be listed" if path.endswith("/") else kind)
    return regular, status.st_size


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise _TooLargeError(f"{size} bytes")


def split_of(file: SourceFile, digest: int, settings: SplitSettings) -> Split:
    """The split of a file: the one that its collection gives it, else by a hash of its group's key.

    The hash knows the key and the seed alone, so that adding files to a collection moves none. A larger
    `validation_share` or `test_share` only moves groups into that split, never between the two.

    Args:
        file: the file, with its folder and group.
        digest: `content_digest` of it, its key where every file is a group of its own.
    """
    if file.split is not None:
        return file.split
    match settings.group:
        case "file":
            key = digest.to_bytes(8, "big")
        case "folder":
            key = posixpath.dirname(file.name).encode()
        case "column":
            key = file.group.encode()
    hashed = hashlib.blake2b(b"%d " % settings.seed + key, digest_size=8)
    share = int.from_bytes(hashed.digest(), "big") / 2**64
    if share < settings.validation_share:
        return "validation"
    return "test" if share >= 1 - settings.test_share else "train"


def possible_splits(settings: SplitSettings) -> tuple[Split, ...]:
    """The splits that files without a given one can go to, in the manifest's order."""
    shares = {"train": 1.0, "validation": settings.validation_share, "test": settings.test_share}
    return tuple(split for split in SPLITS if shares[split] > 0)
