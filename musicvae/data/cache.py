"""Copies of remote shards on this machine's disk, shared by all its processes: each is fetched once."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import ENOLCK, ENOTSUP
from pathlib import Path

from musicvae.data.manifest import ShardEntry
from musicvae.durable import aside_of
from musicvae.errors import ConfigError

DEFAULT_GIB = 20.0
IN_USE_SECONDS = 300.0
"""A copy that some process read so recently stays, even where the limit is exceeded by it."""
ABANDONED_SECONDS = 3600.0
"""A part of a copy that has not grown for so long belongs to a process that was killed."""


class ShardCache:
    """A folder of copies named by their hash; the copies used longest ago give way to new ones.

    Files of one cache are told apart by their content's hash, so any number of runs, on any shards, may share it. A
    copy's access time is the time of its last use by any process: it is set here, whatever the file system does.

    Args:
        folder: where the copies are; made when the first is fetched.
        limit: bytes that all copies together may take.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    @classmethod
    def at(cls, folder: str | Path | None = None, gib: float | None = None) -> "ShardCache":
        """A cache in a folder; without one, in this user's own under the system's folder for temporary files."""
        if folder is None:
            folder = Path(tempfile.gettempdir()) / f"musicvae-{os.getuid()}" / "shards"
        return cls(Path(folder).expanduser(), int((DEFAULT_GIB if gib is None else gib) * 2**30))

    def get(self, shard: ShardEntry, fetch: Callable[[Path], None]) -> Path:
        """The copy of a shard; fetched by one process while the others that want it wait.

        Args:
            fetch: writes the shard's bytes, verified, to the path that it is given.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        path = self._path(shard)
        if _used_now(path):
            return path
        self._make_folder()
        with self._only_one(shard):
            if _used_now(path):  # another process fetched it in the meantime
                return path
            self._make_room(shard.bytes)
            aside = aside_of(path)
            try:
                fetch(aside)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
        return path

    def discard(self, shard: ShardEntry) -> None:
        """Removes a copy, if it is there."""
        self._path(shard).unlink(missing_ok=True)

    def _path(self, shard: ShardEntry) -> Path:
        return self.folder / f"{shard.sha256}.tar"

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError("no permission to write there")
        except OSError as error:
            raise ConfigError(
                f"cannot keep copies of remote shards in {self.folder}",
                expected="a folder that this user may write to, on a disk of this machine",
                found=str(error.strerror or error),
                do="name another with data.cache_dir=FOLDER (jobs.evaluate: --cache-dir FOLDER)",
            ) from None

    @contextmanager
    def _only_one(self, shard: ShardEntry) -> Iterator[None]:
        """Holds the shard's lock; a process that dies lets go of it. The empty file stays: removing it would race."""
        with (self.folder / f"{shard.sha256}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (ENOLCK, ENOTSUP):
                    raise
                # A file system without locks: several processes may fetch the shard, and the last one's copy stays.
            yield

    def _make_room(self, wanted: int) -> None:
        now = time.time()
        copies = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room too
                status = path.stat()
                if path.suffix == ".tar":
                    copies.append((status.st_atime, status.st_size, path))
                elif path.suffix == ".tmp" and now - status.st_mtime > ABANDONED_SECONDS:
                    path.unlink()
        total = sum(size for _, size, _ in copies)
        for last_use, size, path in sorted(copies):
            if total + wanted <= self.limit or now - last_use < IN_USE_SECONDS:
                break
            path.unlink(missing_ok=True)
            total -= size


def _used_now(path: Path) -> bool:
    """Notes the use of a copy; False if there is none."""
    try:
        modified = path.stat().st_mtime_ns
        with suppress(PermissionError):  # somebody else's copy, which may be read all the same
            os.utime(path, ns=(time.time_ns(), modified))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
