"""What a collection is: named files in order, each with the place where its bytes lie."""

import posixpath
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, overload

from musicvae.data.manifest import Split

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
HEAD_BYTES = 12
"""As many as tell a MIDI file without a suffix from others."""
NOWHERE = -1
"""The offset of a member whose bytes its archive does not hold in one piece: a link to nothing, a device, a sparse
file, or one that was too large to be copied."""

_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


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
