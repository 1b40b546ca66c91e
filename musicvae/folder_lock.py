"""One process at a time works on a folder, also where several machines share it."""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from musicvae.durable import aside_of
from musicvae.errors import FolderInUseError

LOCK_NAME = "lock"
BEAT_SECONDS = 5.0
DEAD_SECONDS = 30.0
"""A holder on another machine that has not been heard of for so long is gone."""


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Holds a folder for this process until the block ends or the process does, however it does.

    The operating system's lock tells the processes of one machine apart; many shared file systems do not pass it on to
    other machines, so the holder also gives a sign of life there. A holder on another machine is watched until it gives
    one or has been silent for `DEAD_SECONDS`, so that a job that is requeued elsewhere after its node died gets in.

    Raises:
        FolderInUseError: another process holds it.
        OSError: the folder cannot be written to.
    """
    with (folder / LOCK_NAME).open("a+") as file:
        locked = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (EACCES, EAGAIN):
                raise _held(folder, _holder(file)) from None
            locked = False  # a file system without locks: the sign of life alone has to do
        holder = _holder(file)
        known_dead = locked and holder.get("host") == socket.gethostname()
        if holder and not known_dead and _gives_sign_of_life(file, folder):
            raise _held(folder, holder)
        own = {"host": socket.gethostname(), "pid": os.getpid(), "key": uuid4().hex}
        _write(file, own)
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(Path(file.name), own, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            with suppress(OSError):
                if _holder(file) == own:
                    _write(file, {})


def _gives_sign_of_life(file: IO[str], folder: Path) -> bool:
    """Watches the lock file until its holder touches it, or has not done so for too long."""
    before = os.fstat(file.fileno()).st_mtime
    while _clock(folder) - before < DEAD_SECONDS:
        time.sleep(BEAT_SECONDS / 5)
        if Path(file.name).stat().st_mtime != before:
            return True
    return False


def _beat(path: Path, own: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with suppress(OSError, ValueError):
            if json.loads(path.read_text()) != own:
                return  # taken over while this process was not heard of: the sign of life is the new holder's
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


def _held(folder: Path, holder: dict[str, Any]) -> FolderInUseError:
    return FolderInUseError(
        f"{folder} is in use",
        expected="one process at a time",
        found=f"process {holder.get('pid', '?')} on {holder.get('host', '?')}",
        likely="the same command is running already",
        do="wait for it, or end it and run this command again: it goes on where that one stopped",
    )
