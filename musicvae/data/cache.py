"""Copies of remote shards on this machine's disk, shared by all its processes: each is fetched once."""

import fcntl
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
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
FETCHES_AT_ONCE = 8
"""By all processes of this machine: more of them share the same network."""
COUNTED_FETCHES = 1000
"""After which the copies are counted again: other programs may have removed some, and killed ones left their parts."""
RECOUNT_SECONDS = 10.0
"""Between two counts while too much is in use for the limit to be kept."""
OURS = re.compile(r"\.?[0-9a-f]{64}\.(tar|lock|tar\..+\.tmp)")
"""Names of copies, of their locks, and of their parts; nothing else in the folder is looked at or removed."""
MOST_SIZE_BYTES = 256
SLACK = 0.05
"""Of the limit, which is cleared beyond what is wanted, so that not every copy that comes has all others looked at."""


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
        with self._locked(_lock_of(path)):
            if _used_now(path):  # another process fetched it in the meantime
                return path
            self._make_room(shard.bytes)
            aside = aside_of(path)
            with self._fetching():
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
    def _locked(self, path: Path) -> Iterator[int]:
        """Holds a lock, and gives its open file; a process that dies lets go of it."""
        while True:
            with self._usable():
                lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            try:
                _lock(lock)
                if not _is_at(lock, path):  # it went away with its copy while this process waited
                    continue
                os.utime(lock)
                yield lock
                return
            finally:
                os.close(lock)

    def _own(self, name: str) -> Path:
        """A file of bookkeeping: another user who fetches into the same folder has one too."""
        return self.folder / f"user-{os.getuid()}-{name}"

    @contextmanager
    def _fetching(self) -> Iterator[None]:
        """Waits until fewer than `FETCHES_AT_ONCE` fetches are under way on this machine."""
        places = [self._own(f"fetch-{place}.lock") for place in range(FETCHES_AT_ONCE)]
        random.shuffle(places)
        with self._locked(next((place for place in places if _is_free(place)), places[0])):
            yield

    def _make_room(self, wanted: int) -> None:
        """Notes that a copy of some size comes; removes others if the limit asks for it."""
        with self._locked(self._own("size.lock")) as file:
            size, now = _read_size(file), time.time()
            is_full = size.bytes + wanted > self.limit and now >= size.recount_after
            if size.fetches >= COUNTED_FETCHES or is_full:
                size = self._cleared(wanted, now)
            with self._usable():
                os.ftruncate(file, 0)
                os.pwrite(file, json.dumps(astuple(size.with_copy(wanted))).encode(), 0)

    def _cleared(self, wanted: int, now: float) -> "_Size":
        """Looks at all copies; removes those used longest ago as long as there is too little room."""
        copies = []
        for path in self.folder.iterdir():
            if not OURS.fullmatch(path.name):
                continue
            with suppress(FileNotFoundError, PermissionError):  # another process removes it too, or another user's
                status = path.lstat()
                age = now - status.st_mtime
                if path.suffix == ".tar":
                    copies.append((_last_use(path), status.st_size, path))
                elif path.suffix == ".tmp" and age > ABANDONED_SECONDS:
                    path.unlink()
                elif path.suffix == ".lock" and age > ABANDONED_SECONDS and not path.with_suffix(".tar").exists():
                    _remove_lock(path)
        total = sum(size for _, size, _ in copies)
        most = self.limit if total + wanted <= self.limit else (1 - SLACK) * self.limit
        for last_use, size, path in sorted(copies):
            if total + wanted <= most or now - last_use < IN_USE_SECONDS:
                break
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
                total -= size
                _remove_lock(_lock_of(path))
        return _Size(total, 0, now + RECOUNT_SECONDS if total + wanted > self.limit else 0.0)


@dataclass(frozen=True, slots=True)
class _Size:
    """What is known of all copies without looking at them.

    Attributes:
        bytes: of all of them; too many where other programs have removed some.
        fetches: since they were counted.
        recount_after: seconds since the epoch; before it, another count would find no more room.
    """

    bytes: int
    fetches: int
    recount_after: float

    def with_copy(self, wanted: int) -> "_Size":
        return _Size(self.bytes + wanted, self.fetches + 1, self.recount_after)


def _read_size(file: int) -> _Size:
    """What was written into an open file; before that, or where it cannot be read, a size that has all counted."""
    try:
        size, fetches, recount_after = json.loads(os.pread(file, MOST_SIZE_BYTES, 0))
        return _Size(int(size), int(fetches), float(recount_after))
    except (OSError, ValueError, TypeError):
        return _Size(0, COUNTED_FETCHES, 0.0)


def _lock(lock: int, *, at_once: bool = False) -> bool:
    """Locks an open file; whether it is held, which is certain unless it has to be `at_once`."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if at_once else 0))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (ENOLCK, ENOTSUP):
            raise
        # A file system without locks: several processes may fetch a shard, and the last one's copy stays.
    return True


def _is_at(lock: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(lock), path.lstat())
    except FileNotFoundError:
        return False


def _is_free(path: Path) -> bool:
    """Whether nobody holds a lock at this moment."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        return _lock(lock, at_once=True)
    finally:
        os.close(lock)


def _remove_lock(path: Path) -> None:
    """Removes a lock that nobody holds; who waits for it notices that it has gone."""
    with suppress(FileNotFoundError):
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if _lock(lock, at_once=True) and _is_at(lock, path):
                path.unlink()
        finally:
            os.close(lock)


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
