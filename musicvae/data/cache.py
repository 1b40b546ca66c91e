"""Copies of remote shards on this machine's disk, shared by all its processes: each is fetched once."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import ENOLCK, ENOTSUP
from pathlib import Path
from stat import S_ISDIR, S_ISREG

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
    copy was last used when its lock was last written: the copy itself, which readers know by its times, stays as it is.

    Args:
        folder: where the copies are; made when the first is fetched.
        limit: bytes that all copies together may take.
        private: a folder above it that has to be this user's alone, as it lies where everybody may write.
    """

    def __init__(self, folder: Path, limit: int, *, private: Path | None = None) -> None:
        self.folder = folder
        self.limit = limit
        self.private = private

    @classmethod
    def at(cls, folder: str | Path | None = None, gib: float | None = None) -> "ShardCache":
        """A cache in a folder; without one, in this user's own under the system's folder for temporary files."""
        limit = int((DEFAULT_GIB if gib is None else gib) * 2**30)
        if folder is None:
            private = Path(tempfile.gettempdir()) / f"musicvae-{os.getuid()}"
            return cls(private / "shards", limit, private=private)
        return cls(Path(folder).expanduser(), limit)

    def get(self, shard: ShardEntry, fetch: Callable[[Path], None]) -> Path:
        """The copy of a shard; fetched by one process while the others that want it wait.

        Args:
            fetch: writes the shard's bytes, verified, to the path that it is given.

        Raises:
            ConfigError: the folder cannot be written to, or is not this user's alone where it has to be.
        """
        path = self._path(shard)
        if self.private is not None:
            self._check_private(self.private)
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

    def _check_private(self, folder: Path) -> None:
        with self._usable():
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            if not S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
                raise PermissionError(f"{folder} is a link, or belongs to another user")
            folder.chmod(0o700)

    def _make_folder(self) -> None:
        with self._usable():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError("no permission to write there")

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"cannot keep copies of remote shards in {self.folder}",
                expected="a folder on a disk of this machine that you can write to",
                found=str(error.strerror or error),
                do="choose another with data.cache_dir=FOLDER (jobs.evaluate: --cache-dir FOLDER)",
            ) from None

    @contextmanager
    def _only_one(self, shard: ShardEntry) -> Iterator[None]:
        """Holds the shard's lock; a process that dies lets go of it. The empty file stays: removing it would race."""
        with self._usable():
            lock = os.open(_lock_of(self._path(shard)), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (ENOLCK, ENOTSUP):
                    raise
                # A file system without locks: several processes may fetch the shard, and the last one's copy stays.
            os.utime(lock)
            yield
        finally:
            os.close(lock)

    def _make_room(self, wanted: int) -> None:
        now = time.time()
        copies = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process makes room too
                status = path.lstat()
                if path.suffix == ".tar":
                    copies.append((_last_use(path), status.st_size, path))
                elif path.suffix == ".tmp" and now - status.st_mtime > ABANDONED_SECONDS:
                    path.unlink()
        total = sum(size for _, size, _ in copies)
        for last_use, size, path in sorted(copies):
            if total + wanted <= self.limit or now - last_use < IN_USE_SECONDS:
                break
            path.unlink(missing_ok=True)
            total -= size


def _used_now(path: Path) -> bool:
    """Notes the use of a copy; False if there is none. A link is none, wherever it leads."""
    try:
        if not S_ISREG(path.lstat().st_mode):
            return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    with suppress(PermissionError, FileNotFoundError):  # somebody else's copy, or one that was put there by hand
        os.utime(_lock_of(path), follow_symlinks=False)
    return True


def _last_use(path: Path) -> float:
    """Seconds since the epoch."""
    times = [path.lstat().st_atime]
    with suppress(FileNotFoundError):  # a copy that was put there by hand
        times.append(_lock_of(path).lstat().st_mtime)
    return max(times)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")
