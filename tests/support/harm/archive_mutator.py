"""Zips and tars whose members are damaged, odd or dangerous while the rest is sound; a seed decides everything."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from random import Random

from tests.support.harm.byte_damage import flip_bits
from tests.support.midi.midi_oddities import EXTREMES

DAY = (2001, 2, 3, 4, 5, 6)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
LOCAL_HEADER = 30
FLAGS, METHOD, CHECKSUM, PACKED, SIZE, EXTRA, ATTRIBUTES, OFFSET, ENTRY = 8, 10, 16, 20, 24, 30, 38, 42, 46
"""Where a member's entry in the directory of a zip has its fields, and its bytes without name and extra field."""
DANGEROUS_NAMES = ("../escaped.mid", "a/../../deep/escaped.mid", "C:\\escaped.mid", "~/escaped.mid", "././x.mid")
"""Names that lead out of the folder that an archive is unpacked to."""


def zip_of(sound: Mapping[str, bytes], spoiled: Mapping[str, bytes], rng: Random) -> bytes:
    """A zip in which something befell each member of `spoiled` and none of `sound`."""
    members = [*sound.items(), *spoiled.items()]
    rng.shuffle(members)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name, DAY), data, rng.choice(METHODS))
        directory = archive.start_dir
    packed = bytearray(file.getvalue())
    for name, _ in members:
        entry = memoryview(packed)[directory:]
        if name in spoiled:
            start = struct.unpack_from("<I", entry, OFFSET)[0]
            size = struct.unpack_from("<I", entry, PACKED)[0]
            skipped = LOCAL_HEADER + sum(struct.unpack_from("<HH", packed, start + 26))
            local = memoryview(packed)[start : start + skipped]
            content = memoryview(packed)[start + skipped : start + skipped + size]
            rng.choice(ZIP_DAMAGES)(entry[:ENTRY], local, content, rng)
        directory += ENTRY + sum(struct.unpack_from("<HHH", entry, ENTRY - 18))
    return bytes(packed)


ZipDamage = Callable[[memoryview, memoryview, memoryview, Random], None]
"""Changes a member's entry in the directory, its own header, or its packed bytes."""


def damaged_bytes(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """An old disk."""
    content[:] = flip_bits(bytes(content), rng)


def wrong_checksum(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """Bytes that changed before they were packed, or after."""
    struct.pack_into("<I", entry, CHECKSUM, rng.getrandbits(32))


def wrong_size(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """A bomb that claims to be small, or a size beyond what the archive holds."""
    struct.pack_into("<I", entry, rng.choice((PACKED, SIZE)), rng.choice(EXTREMES))


def wrong_place(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """An archive that was cut in volumes or edited by hand."""
    struct.pack_into("<I", entry, OFFSET, rng.choice((*EXTREMES, rng.randrange(100_000))))


def unknown_method(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """Packed by a newer program; or a method that does not fit the bytes."""
    struct.pack_into("<H", entry, METHOD, rng.choice((0, 1, 6, 8, 9, 12, 14, 93, 98, 99, 0xFFFF)))


def encrypted(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """Protected by a password, whole or only in name."""
    struct.pack_into("<H", entry, FLAGS, struct.unpack_from("<H", entry, FLAGS)[0] | rng.choice((0x1, 0x41, 0x20)))


def lost_header(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """A hole where the member begins."""
    local[:] = rng.choice((bytes(len(local)), rng.randbytes(len(local))))


def link(entry: memoryview, local: memoryview, content: memoryview, rng: Random) -> None:
    """A symbolic link, a device or a folder by its attributes, whatever its bytes say."""
    struct.pack_into("<I", entry, ATTRIBUTES, rng.choice((0o120777, 0o060666, 0o010666, 0o040755)) << 16 | 0x10)


ZIP_DAMAGES: tuple[ZipDamage, ...] = (
    damaged_bytes,
    wrong_checksum,
    wrong_size,
    wrong_place,
    unknown_method,
    encrypted,
    lost_header,
    link,
)


def tar_of(sound: Mapping[str, bytes], spoiled: Mapping[str, bytes], rng: Random, packing: str) -> bytes:
    """A tar in which each member of `spoiled` is a file or something else that has its name.

    Args:
        packing: `gz`, `bz2`, `xz`, or anything else for none.
    """
    members = [*sound.items(), *spoiled.items()]
    rng.shuffle(members)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.mtime = rng.choice((0, 2**31, 2**33))
            if name in spoiled:
                info.type = rng.choice((tarfile.REGTYPE, tarfile.REGTYPE, *ODD_TYPES))
                info.linkname = rng.choice((name, "/etc/passwd", "../../escaped.mid", *spoiled))
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    match packing:
        case "gz":
            return gzip.compress(file.getvalue(), compresslevel=1)
        case "bz2":
            return bz2.compress(file.getvalue(), compresslevel=1)
        case "xz":
            return lzma.compress(file.getvalue(), preset=0)
        case _:
            return file.getvalue()


ODD_TYPES = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.CONTTYPE, b"Z")
"""Links, pipes, devices, and kinds that no standard has."""
