"""Copies of a compressed tar's members: one flat file and an index, so that tasks read them in place.

The copy is made once. It carries its archive's time, so that a build that goes on finds its files unchanged, and serves
as long as the archive does not change.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from musicvae.durable import aside_of, sync_folder
from preprocess.sources.listing import NOWHERE, Listing
from preprocess.sources.tar import Spans, tar_members

MEMBERS_FILE = "members.bin"
INDEX_FILE = "index.jsonl"


def spool_tar(archive: Path, folder: Path, max_bytes: int) -> Listing:
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
    return spans.listing(os.fspath(members))


def _copy(archive: Path, file: BinaryIO, max_bytes: int) -> Spans:
    spans = Spans()
    for member in tar_members(archive, max_bytes):
        offset = NOWHERE
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
