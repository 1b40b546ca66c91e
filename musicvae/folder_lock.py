"""One process at a time works on a folder, also where several machines share it."""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from musicvae.durable import aside_of
from musicvae.errors import FolderInUseError

LOCK_NAME = "lock"
HEARTBEAT_SECONDS = 5.0
DEAD_SECONDS = 30.0
"""A holder on another machine that has not been heard of for so long is gone."""


LOOK_SECONDS = 1.0
"""In which whoever has taken a folder has written down who it is."""
LOOKED_SECONDS = 0.2
"""`check_free` and `holders` lock a folder for less."""


@contextmanager
def hold_folder(folder: Path, *, at: Path | None = None, group: str | None = None) -> Iterator[str]:
    """Holds a folder for this process until the block ends or the process does, however it does; gives a random key.

    The operating system's lock tells the processes of one machine apart; many shared file systems do not pass it on to
    other machines, so the holder also sends heartbeats there. A holder on another machine is watched until it sends
    one or has been silent for `DEAD_SECONDS`, so that a job that is requeued elsewhere after its node died gets in.

    Args:
        at: a folder in it that has the lock, where there is more than one of them.
        group: names those who work on it together; the others of a holder's group are let in, without a key.

    Raises:
        FolderInUseError: another process holds it.
        OSError: the folder cannot be written to.
    """
    with ((at or folder) / LOCK_NAME).open("a+", encoding="utf-8") as file:
        if not _take(file, folder, fcntl.LOCK_EX, group):
            yield ""
            return
        this_holder = {"host": socket.gethostname(), "pid": os.getpid(), "key": uuid4().hex, "group": group}
        _write(file, this_holder)
        ended = threading.Event()
        heartbeat = threading.Thread(target=_send_heartbeats, args=(Path(file.name), this_holder, ended), daemon=True)
        heartbeat.start()
        try:
            yield this_holder["key"]
        finally:
            ended.set()
            heartbeat.join()
            with suppress(OSError):
                if _holder(file) == this_holder:
                    _write(file, {})


def check_free(folder: Path) -> None:
    """Makes sure that nobody holds a folder, and leaves it as it is.

    Raises:
        FolderInUseError: another process holds it.
    """
    with suppress(FileNotFoundError), (folder / LOCK_NAME).open(encoding="utf-8") as file:
        _take(file, folder, fcntl.LOCK_SH)


def holders(folders: Iterable[Path]) -> dict[Path, str]:
    """The keys of the living processes that hold some folders. It is looked at once, and nobody is waited for.

    A process on another machine whose lock does not reach this one counts until it has been silent for `DEAD_SECONDS`.
    """
    living: dict[Path, str] = {}
    now = 0.0
    for folder in folders:
        with suppress(FileNotFoundError), (folder / LOCK_NAME).open(encoding="utf-8") as file:
            holder = _holder(file)
            lives: bool | None = None if holder.get("host") != socket.gethostname() else False
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                lives = True if error.errno in (EACCES, EAGAIN) else None
            if holder and lives is None:  # its heartbeat alone tells
                now = now or _clock(folder)
                lives = now - os.fstat(file.fileno()).st_mtime < DEAD_SECONDS
            if holder and lives:
                living[folder] = holder["key"]
    return living


def _take(file: IO[str], folder: Path, kind: int, group: str | None = None) -> bool:
    """Locks a folder; False where somebody else of the group holds it."""
    locked, started = False, time.monotonic()
    while not locked:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            locked = True
        except OSError as error:
            if error.errno not in (EACCES, EAGAIN):
                break  # a file system without locks: the heartbeat alone has to do
            if _is_of(group, holder := _holder(file)):
                return False
            # Whoever only looks locks it for a moment; what it says then may be from a holder that died.
            waited = time.monotonic() - started
            if waited > (LOOKED_SECONDS if holder else LOOK_SECONDS):
                raise _held(folder, holder) from None
            time.sleep(LOOK_SECONDS / 20)
    holder = _holder(file)
    known_dead = locked and holder.get("host") == socket.gethostname()
    if holder and not known_dead:
        if _is_of(group, holder):
            return False
        if _sends_heartbeats(file, folder):
            raise _held(folder, holder)
    return True


def _is_of(group: str | None, holder: dict[str, Any]) -> bool:
    return group is not None and holder.get("group") == group


def _sends_heartbeats(file: IO[str], folder: Path) -> bool:
    """Watches the lock file until its holder touches it, or has not done so for too long."""
    before = os.fstat(file.fileno()).st_mtime
    while _clock(folder) - before < DEAD_SECONDS:
        time.sleep(HEARTBEAT_SECONDS / 5)
        if Path(file.name).stat().st_mtime != before:
            return True
    return False


def _send_heartbeats(path: Path, holder: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        with suppress(OSError, ValueError):
            if json.loads(path.read_text(encoding="utf-8")) != holder:
                return  # taken over while this process was not heard of: the heartbeat is the new holder's
            os.utime(path)


def _write(file: IO[str], holder: dict[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(holder))
    file.flush()


def _holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        return dict(json.loads(file.read() or "{}"))
    except ValueError:
        return {}


def _clock(folder: Path) -> float:
    """Now, by the clock of the file system, in seconds."""
    probe = aside_of(folder / LOCK_NAME)
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _name_of(holder: dict[str, Any]) -> str:
    launch = f", launch {group}" if (group := holder.get("group")) else ""
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}{launch}"


def _held(folder: Path, holder: dict[str, Any]) -> FolderInUseError:
    return FolderInUseError(
        f"{folder} is in use by {_name_of(holder)}",
        expected="one process at a time",
        likely="the same command is running already",
        do="wait for it; or stop it and run this command again to resume",
    )
