"""The members of a tar: where in the file each one lies, without unpacking anything."""

import bz2
import gzip
import lzma
import posixpath
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import (
    GNUTYPE_LONGLINK,
    GNUTYPE_LONGNAME,
    SOLARIS_XHDTYPE,
    XGLTYPE,
    XHDTYPE,
    EOFHeaderError,  # pyright: ignore[reportAttributeAccessIssue] - missing in its stubs
    HeaderError,
    ReadError,
    TarError,
    TarFile,
    TarInfo,
)
from typing import IO, Literal, TypeAlias, cast

from musicvae.errors import DataError
from preprocess.sources import listing

Compression: TypeAlias = Literal["gzip", "bzip2", "xz"]
DAMAGE = (TarError, OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, lzma.LZMAError)
"""What reading an archive raises when its bytes make no sense; a header may even declare more than fits in memory."""
MOST_LINKS = 40
"""Links that are followed one after the other, as Linux does."""
REST_BYTES = 2**20
EXTENDED_HEADERS = (GNUTYPE_LONGNAME, GNUTYPE_LONGLINK, XHDTYPE, XGLTYPE, SOLARIS_XHDTYPE)
MOST_HEADER_BYTES = 2**20
"""Of such a header, which holds names and times."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A candidate, or a link to one.

    Attributes:
        name: as it would be unpacked, undecoded.
        offset: of its bytes within the uncompressed tar, or `NOWHERE`.
        size: its declared bytes.
        data: its bytes if the tar is compressed and it is not too large.
        target: the name of the member that it is a link to, empty for none.
    """

    name: str
    offset: int
    size: int
    data: bytes | None = None
    target: str = ""


@dataclass(slots=True, eq=False)
class Spans:
    """Members of one file in columns, so that a million are small."""

    names: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    links: dict[int, str] = field(default_factory=dict)

    def add(self, name: str, offset: int, size: int, target: str = "") -> None:
        """Appends a member."""
        if target:
            self.links[len(self.names)] = target
        self.names.append(name)
        self.offsets.append(offset)
        self.sizes.append(size)

    def in_order(self) -> "Spans":
        """The members by name, as unpacking leaves them: of several with one name the last, and links as their targets.

        A link to something else than a candidate stays if it is one by its name, without bytes.
        """
        keys = [listing.printable(name) for name in self.names]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        last = [i for n, i in enumerate(order) if n + 1 == len(order) or keys[order[n + 1]] != keys[i]]
        result = Spans()
        for index in last:
            end = self._end_of_links(index, last, keys)
            if end is not None:
                result.add(self.names[index], self.offsets[end], self.sizes[end])
            elif self.names[index].lower().endswith(listing.MIDI_SUFFIXES):
                result.add(self.names[index], listing.NOWHERE, 0)
        return result

    def as_listing(self, path: str) -> listing.Listing:
        """The members as files, whose bytes lie in `path`."""

        def make(index: int) -> listing.SourceFile:
            place = listing.SpanPlace(path, self.offsets[index], self.sizes[index])
            return listing.SourceFile(listing.printable(self.names[index]), place)

        return listing.Listing(len(self.names), make)

    def _end_of_links(self, index: int, last: list[int], keys: list[str]) -> int | None:
        for _ in range(MOST_LINKS):
            if index not in self.links:
                return index
            target = listing.printable(self.links[index])
            place = bisect_left(last, target, key=keys.__getitem__)
            if place == len(last) or keys[last[place]] != target:
                return None
            index = last[place]
        return None


def compression_of(path: Path) -> Compression | None:
    """How a file is compressed, by its first bytes; its name may be wrong about it."""
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh"):
        return "bzip2"
    return "xz" if head == b"\xfd7zXZ\x00" else None


def tar_members(path: Path, max_bytes: int) -> Iterator[TarMember]:
    """The candidates of a tar and the links among its members, in the order of the archive.

    Args:
        max_bytes: members of a compressed tar that are larger come without their bytes.

    Raises:
        DataError: it is damaged, also where tarfile would take damage for the end.
    """
    try:
        compression = compression_of(path)
        if compression is None:
            with path.open("rb") as file, _open(file, "r:") as tar:
                yield from _candidates(tar, None)
        else:
            with _unpacked(path, compression) as file, _open(file, "r|") as tar:
                yield from _candidates(tar, max_bytes)
                # Only at the end of the file is the checksum of what was unpacked compared.
                while file.read(REST_BYTES):
                    pass
    except DAMAGE as error:
        raise DataError(
            f"{path} cannot be read to its end",
            expected="a complete tar, plain or compressed with gzip, bzip2 or xz",
            found=f"{type(error).__name__}: {error}",
            likely="an incomplete download or copy",
            do="copy it again, or unpack its readable part and give that folder",
        ) from None


class _StrictTarInfo(TarInfo):
    """Reports damage that `TarFile` takes for the end of the archive: what comes after it would be lost in silence."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictTarInfo":
        header = super().frombuf(buf, encoding, errors)
        # tarfile takes as much memory as such a header says, and more for what it decodes.
        if header.type in EXTENDED_HEADERS and header.size > MOST_HEADER_BYTES:
            raise ReadError(f"a header of {header.size} bytes, expected at most {MOST_HEADER_BYTES}")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> "_StrictTarInfo":
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:
            raise
        except HeaderError as error:
            raise ReadError(f"{error}, and the mark at the end of the archive is missing") from None


def _unpacked(path: Path, compression: Compression) -> IO[bytes]:
    match compression:
        case "gzip":
            return cast("IO[bytes]", gzip.open(path))
        case "bzip2":
            return bz2.open(path)
        case "xz":
            return lzma.open(path)


def _open(file: IO[bytes], mode: Literal["r:", "r|"]) -> TarFile:
    """A tar whose names are bytes, decoded as UTF-8 as far as that goes."""
    return TarFile.open(fileobj=file, mode=mode, tarinfo=_StrictTarInfo, encoding="utf-8", errors="surrogateescape")


def _candidates(tar: TarFile, copy_up_to: int | None) -> Iterator[TarMember]:
    while (info := tar.next()) is not None:
        # tarfile keeps every member that it has seen, about a kilobyte each.
        tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        name = posixpath.normpath(info.name)
        if info.isreg():
            if member := _regular(tar, info, name, copy_up_to):
                yield member
        elif info.islnk() or info.issym():
            if listing.is_candidate(name, lambda: None):
                folder = posixpath.dirname(name) if info.issym() else ""
                yield TarMember(
                    name, listing.NOWHERE, 0, target=posixpath.normpath(posixpath.join(folder, info.linkname))
                )
        elif not info.isdir() and listing.is_candidate(name, lambda: b""):
            yield TarMember(name, listing.NOWHERE, 0)


def _regular(tar: TarFile, info: TarInfo, name: str, copy_up_to: int | None) -> TarMember | None:
    file = tar.extractfile(info)
    assert file is not None, "a regular member has bytes"
    head = b""

    def read_head() -> bytes:
        nonlocal head
        head = file.read(listing.HEAD_BYTES)
        return head

    if not listing.is_candidate(name, read_head):
        return None
    if copy_up_to is None:
        return TarMember(name, listing.NOWHERE if info.issparse() else info.offset_data, info.size)
    # A compressed archive is read once from front to end, so the rest follows the head.
    data = head + file.read(info.size - len(head)) if info.size <= copy_up_to else None
    return TarMember(name, listing.NOWHERE, info.size, data)
