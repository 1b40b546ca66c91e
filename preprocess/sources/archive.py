"""A zip or a tar of MIDI files, read in place: nothing is unpacked, so the paths within are names and nothing else.

The members of a compressed tar are copied once, to one flat file with an index, so that tasks read them in place. The
copy carries its archive's time, so that a build that is resumed finds its files unchanged. It is used as long as the
archive does not change.
"""

import json
import lzma
import os
import posixpath
import struct
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from musicvae.durable import aside_of, sync_folder
from musicvae.errors import DataError
from preprocess.settings import BuildSettings
from preprocess.sources import listing
from preprocess.sources.listing import possible_splits
from preprocess.sources.tar import Spans, compression_of, tar_members

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UTF8_NAME = 0x800
"""The bit in the flags of a zip's member."""
DAMAGE = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, lzma.LZMAError)
MEMBERS_FILE = "members.bin"
INDEX_FILE = "index.jsonl"


def open_archive(path: Path, settings: BuildSettings, *, spool: Path) -> listing.Source:
    """The MIDI files of an archive, chosen and named as those of the folder that it would be unpacked to.

    Archives inside an archive are not opened. Zips and plain tars are read where they are; the members of a compressed
    tar, which could only be read from its front, are copied to `spool` first.

    Args:
        path: absolute.

    Raises:
        DataError: it is damaged, or holds no MIDI file.
        OSError: `spool` cannot be written.
    """
    if path.name.lower().endswith(ZIP_SUFFIXES):
        files = _zip_listing(path)
    elif _compression(path):
        files = spool_tar(path, spool, settings.limits.max_bytes)
    else:
        spans = Spans()
        for member in tar_members(path, settings.limits.max_bytes):
            spans.add(member.name, member.offset, member.size, member.target)
        files = spans.in_order().as_listing(os.fspath(path))
    if not files:
        raise DataError(
            f"no MIDI files in {path}",
            expected=f"members that {listing.MIDI_LIKE}, at any depth",
            likely="the wrong archive, or archives inside it, which are not opened",
        )
    return listing.Source("archive", files, possible_splits(settings.split))


def zip_place(archive: str, info: zipfile.ZipInfo) -> listing.ZipPlace:
    """Where a member lies, as the directory of its zip says."""
    return listing.ZipPlace(
        archive, info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type, info.flag_bits
    )


def _compression(path: Path) -> bool:
    try:
        return compression_of(path) is not None
    except OSError as error:
        raise _damaged(path, error) from None


def _zip_listing(path: Path) -> listing.Listing:
    try:
        with zipfile.ZipFile(path) as archive:
            # Of members with one name the last is what unpacking leaves.
            members = {_name(info): info for info in archive.infolist() if _is_member(archive, info)}
    except DAMAGE as error:
        raise _damaged(path, error) from None
    names = sorted(members, key=listing.printable)
    return _listing(os.fspath(path), names, [members[name] for name in names])


def _listing(path: str, names: Sequence[str], infos: Sequence[zipfile.ZipInfo]) -> listing.Listing:
    """Keeps of each member what its place needs, in columns."""
    offsets = array("q", [info.header_offset for info in infos])
    packed = array("q", [info.compress_size for info in infos])
    sizes = array("q", [info.file_size for info in infos])
    crcs = array("I", [info.CRC for info in infos])
    methods = array("H", [info.compress_type for info in infos])
    flags = array("H", [info.flag_bits for info in infos])

    def make(index: int) -> listing.SourceFile:
        numbers = (column[index] for column in (offsets, packed, sizes, crcs, methods, flags))
        return listing.SourceFile(listing.printable(names[index]), listing.ZipPlace(path, *numbers))

    return listing.Listing(len(names), make)


def _is_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    return not info.is_dir() and listing.is_candidate(_name(info), lambda: _head(archive, info))


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | None:
    try:
        with archive.open(info) as file:
            return file.read(listing.HEAD_BYTES)
    except DAMAGE:
        return None


def _name(info: zipfile.ZipInfo) -> str:
    """A member's path; without the flag that says UTF-8 its bytes are whatever the packing machine had."""
    name = info.filename
    if not info.flag_bits & UTF8_NAME:
        # zipfile decodes such names as code page 437, which has a character for every byte.
        name = name.encode("cp437", errors="replace").decode(errors="surrogateescape")
    return posixpath.normpath(name)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} cannot be read",
        expected=f"a complete archive ({', '.join(ZIP_SUFFIXES + TAR_SUFFIXES)})",
        found=f"{type(error).__name__}: {error}",
        likely="an incomplete download or copy",
        do="copy it again, or unpack its readable part and give that folder",
    )


def spool_tar(archive: Path, folder: Path, max_bytes: int) -> listing.Listing:
    """The candidates of a compressed tar, copied to a folder unless they are there already.

    Args:
        archive: absolute.
        folder: made if it is missing; the archive's own paths play no part in it.
        max_bytes: larger members are listed, not copied.

    Raises:
        DataError: the archive is damaged; nothing is left in the folder then.
        OSError: the folder cannot be written.
    """
    status = archive.stat()
    identity = {
        "archive": os.fsencode(archive).decode(errors="backslashreplace"),
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "max_bytes": max_bytes,
    }
    members, index = folder / MEMBERS_FILE, folder / INDEX_FILE
    spans = _read_index(index, identity) if members.exists() else None
    if spans is None:
        folder.mkdir(parents=True, exist_ok=True)
        index.unlink(missing_ok=True)
        with _written_whole(members) as file:
            spans = _copy(archive, file, max_bytes).in_order()
            file.flush()
            os.utime(file.fileno(), ns=(status.st_mtime_ns, status.st_mtime_ns))
        # Written last: where there is an index, the members are whole.
        with _written_whole(index) as file:
            file.write(_line(identity))
            file.writelines(map(_line, zip(spans.names, spans.offsets, spans.sizes, strict=True)))
    return spans.as_listing(os.fspath(members))


def _copy(archive: Path, file: BinaryIO, max_bytes: int) -> Spans:
    spans = Spans()
    for member in tar_members(archive, max_bytes):
        offset = listing.NOWHERE
        if member.data is not None:
            offset = file.tell()
            file.write(member.data)
        spans.add(member.name, offset, member.size, member.target)
    return spans


def _read_index(path: Path, identity: dict[str, Any]) -> Spans | None:
    """The members that were copied, if they are those of this archive."""
    try:
        with path.open("rb") as file:
            if json.loads(next(file, b"null")) != identity:
                return None
            spans = Spans()
            for line in file:
                spans.add(*json.loads(line))
            return spans
    except (OSError, ValueError, TypeError):
        return None


def _line(record: Any) -> bytes:
    return json.dumps(record).encode() + b"\n"


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its name when the block ends without an error."""
    aside = aside_of(path)
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)
