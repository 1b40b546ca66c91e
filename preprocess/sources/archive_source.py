"""A zip or a tar of MIDI files, read in place: nothing is unpacked, so the paths within are names and nothing else."""

import lzma
import os
import posixpath
import struct
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

from musicvae.errors import DataError
from preprocess.settings import BuildSettings
from preprocess.sources.listing import (
    HEAD_BYTES,
    MIDI_SUFFIXES,
    Listing,
    Source,
    SourceFile,
    ZipPlace,
    is_candidate,
    printable,
)
from preprocess.sources.splits import possible_splits
from preprocess.sources.spool import spool_tar
from preprocess.sources.tar import Spans, compression_of, tar_members

ZIP_SUFFIXES = (".zip",)
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UTF8_NAME = 0x800
"""The bit in the flags of a zip's member."""
DAMAGE = (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, lzma.LZMAError)


def open_archive(path: Path, settings: BuildSettings, *, spool: Path) -> Source:
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
        files = spans.in_order().listing(os.fspath(path))
    if not files:
        raise DataError(
            f"no MIDI files in {path}",
            expected=f"members that end in {', '.join(MIDI_SUFFIXES)} in any case, or begin like MIDI, in any depth",
            likely="another archive, or archives inside it, which are not opened",
        )
    return Source("archive", files, possible_splits(settings.split))


def zip_place(archive: str, info: zipfile.ZipInfo) -> ZipPlace:
    """Where a member lies, as the directory of its zip says."""
    return ZipPlace(
        archive, info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type, info.flag_bits
    )


def _compression(path: Path) -> bool:
    try:
        return compression_of(path) is not None
    except OSError as error:
        raise _damaged(path, error) from None


def _zip_listing(path: Path) -> Listing:
    try:
        with zipfile.ZipFile(path) as archive:
            # Of members with one name the last is what unpacking leaves.
            members = {_name(info): info for info in archive.infolist() if _is_member(archive, info)}
    except DAMAGE as error:
        raise _damaged(path, error) from None
    names = sorted(members, key=printable)
    return _listing(os.fspath(path), names, [members[name] for name in names])


def _listing(path: str, names: Sequence[str], infos: Sequence[zipfile.ZipInfo]) -> Listing:
    """Keeps of each member what its place needs, in columns."""
    offsets = array("q", [info.header_offset for info in infos])
    packed = array("q", [info.compress_size for info in infos])
    sizes = array("q", [info.file_size for info in infos])
    crcs = array("I", [info.CRC for info in infos])
    methods = array("H", [info.compress_type for info in infos])
    flags = array("H", [info.flag_bits for info in infos])

    def make(index: int) -> SourceFile:
        numbers = (column[index] for column in (offsets, packed, sizes, crcs, methods, flags))
        return SourceFile(printable(names[index]), ZipPlace(path, *numbers))

    return Listing(len(names), make)


def _is_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    return not info.is_dir() and is_candidate(_name(info), lambda: _head(archive, info))


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | None:
    try:
        with archive.open(info) as file:
            return file.read(HEAD_BYTES)
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
        expected=f"a whole archive ({', '.join(ZIP_SUFFIXES + TAR_SUFFIXES)})",
        found=f"{type(error).__name__}: {error}",
        likely="a download or a copy that broke off",
        do="copy it again, or unpack what is left of it and name that folder",
    )
