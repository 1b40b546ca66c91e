"""Files that are either whole or absent, and logs whose last line may be torn."""

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any

from musicvae.errors import ConfigError, DiskFullError

SLACK_SECONDS = 10.0
"""Between the last files that a command writes; and the last that is heard of a command that is killed."""
MOST_NAMED = 5
NO_UTF8 = "backslashreplace"
"""What becomes of bytes of file names that are no UTF-8, which Python keeps as halves of characters."""
FULL = (errno.ENOSPC, errno.EDQUOT)
SYNC_THREADS = 16
"""A sync waits for the disk, not for the CPU; many at once let the disk order them."""


def open_regular(path: Path) -> BufferedReader:
    """Opens a file for reading; does not wait for the other end of a pipe.

    Raises:
        ValueError: something else has its name.
        OSError: it cannot be opened.
    """
    return os.fdopen(_handle_of(path), "rb")


def read_beginning(path: Path | str, most: int) -> bytes:
    """The first bytes of a file, as `open_regular` opens it; for thousands of small files, in a third of the time.

    Args:
        most: bytes; all of a file that has no more.
    """
    handle = _handle_of(path)
    try:
        return os.read(handle, min(os.fstat(handle).st_size, most))
    finally:
        os.close(handle)


def _handle_of(path: Path | str) -> int:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("no regular file")
    return handle


def write_whole(path: Path, data: bytes | memoryview | str, *, sync: bool = True, scratch: Path | None = None) -> None:
    """Writes aside, syncs and renames: `path` never holds a part of `data`, also after a power cut.

    Args:
        data: text becomes UTF-8; bytes of a name that are none are spelt out, as JSON spells them.
        sync: whether to wait for the disk; not needed where a torn file is noticed, or the folder is published later.
        scratch: a folder to write aside in, on the same file system, whose owner removes what a kill leaves; the
            folder of `path` unless given.
    """
    aside = aside_of(path if scratch is None else scratch / path.name)
    try:
        with aside.open("wb") as file:
            file.write(data.encode(errors=NO_UTF8) if isinstance(data, str) else data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def write_files(files: Mapping[Path, bytes | None]) -> None:
    """Writes whole files, with the folders that they need; None removes one.

    Raises:
        ConfigError, DiskFullError: one cannot be written.
    """
    for path, data in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data, sync=False) if data is not None else path.unlink()
        except OSError as error:
            kind = DiskFullError if error.errno in FULL else ConfigError
            cure = "choose --out in a writable folder"
            raise kind(f"cannot write {path}", found=error.strerror or str(error), do=cure) from None


def aside_of(path: Path) -> Path:
    """Where to write what will become `path`: hidden beside it, and nobody else's, be they on another machine."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def write_json(path: Path, value: Any) -> None:
    """`write_whole` of readable JSON with a fixed key order."""
    write_whole(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def output_folder(out: Path) -> Path:
    """The absolute path of an output; a link stands for the folder that it leads to.

    Raises:
        ConfigError: it is a mount point, which cannot be replaced by a finished folder.
    """
    out = out.resolve()
    if out.is_mount():
        raise ConfigError(
            f"{out} is a mount point",
            expected="a folder that can be created and replaced as a whole",
            do=f"choose a folder in it, such as {out / 'shards'}",
        )
    return out


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes its final name only when the block ends without an error.

    Args:
        path: the final name; missing parents are made, and removed again after an error.
        replace: whether a folder that stands there gives way; it does so at the very end.

    Raises:
        OSError: the folder cannot be made, or `path` exists and is not to be replaced.
    """
    aside = aside_of(path)
    new_parents = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        aside.mkdir(parents=True)
        yield aside
        publish_folder(aside, path, before=aside_of(path) if replace else None)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in new_parents:
            with suppress(OSError):
                parent.rmdir()
        raise


def publish_folder(aside: Path, path: Path, *, before: Path | None = None) -> None:
    """Syncs all files of a folder and gives it its final name, on the same file system.

    Args:
        before: where a folder that stands there goes; if not given, only an empty one gives way.

    Raises:
        OSError: something stands there; it stays as it is.
    """
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        list(pool.map(_sync_file, [file for file in aside.rglob("*") if file.is_file()]))
    if before and path.exists():
        path.replace(before)
    try:
        aside.replace(path)
    except OSError:
        if before and before.exists():
            before.replace(path)
        raise
    sync_folder(path.parent)
    if before:
        shutil.rmtree(before, ignore_errors=True)


def publish_files(aside: Path, folder: Path) -> None:
    """Syncs the files of a folder and moves them into another one, each over what has its name there.

    Raises:
        OSError: one cannot be moved.
    """
    files = [path for path in aside.iterdir() if path.is_file()]
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        list(pool.map(_sync_file, files))
    for file in files:
        file.replace(folder / file.name)
    sync_folder(folder)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_asides(folder: Path) -> None:
    """Removes what a killed process was writing in a folder. Nobody else may be writing there."""
    for aside in folder.glob(".*.tmp"):
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def refuse_strangers(folder: Path, made: re.Pattern[str], finished: float, maker: str, *, work: str = "") -> None:
    """Makes sure that a folder can be removed without anything that its maker has not made.

    Args:
        made: matches the whole relative paths of what `maker` makes there.
        finished: when the last of it was written, in seconds since the epoch; a file that is newer was changed.
        work: a folder right in it that is no output, and is not looked into.

    Raises:
        ConfigError: there is something else, or something that was changed; it is named.
    """
    strangers = []
    for parent, folders, names in os.walk(folder):
        if work in folders and Path(parent) == folder:
            folders.remove(work)
        # A link to a folder is not walked into; it is somebody's all the same.
        for path in (Path(parent, name) for name in [*names, *folders]):
            status, name = path.lstat(), path.relative_to(folder).as_posix()
            if S_ISDIR(status.st_mode):
                continue
            if not made.fullmatch(name) or status.st_mtime > finished + SLACK_SECONDS or S_ISLNK(status.st_mode):
                strangers.append(name)
    if strangers:
        more = f" and {len(strangers) - MOST_NAMED} more" if len(strangers) > MOST_NAMED else ""
        raise ConfigError(
            f"{folder} exists and contains files that {maker} did not write",
            expected=f"only files of {maker}, unchanged",
            found=", ".join(sorted(strangers)[:MOST_NAMED]) + more,
            likely="files were added or edited, or the folder is a copy with new file times",
            do="move them to another folder, or choose another output folder",
        )


def append_line(path: Path, record: Mapping[str, Any], *, sync: bool = False) -> None:
    """Appends one JSON line in one write, so that lines of several writers never mix.

    Args:
        sync: whether to wait for the disk, so that the line survives a power cut.

    Raises:
        OSError: the line cannot be written whole; a full disk takes a part of it without an error.
    """
    line = (json.dumps(record, ensure_ascii=False) + "\n").encode(errors=NO_UTF8)
    with path.open("ab", buffering=0) as file:
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if sync:
            os.fsync(file.fileno())


def cut_torn_line(path: Path) -> None:
    """Removes a last line that a kill left unfinished, so that the next one begins a line of its own."""
    if path.exists() and (torn := len(path.read_bytes().rpartition(b"\n")[2])):
        os.truncate(path, path.stat().st_size - torn)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON-lines file; a torn last line, as a kill leaves it, is ignored."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]
