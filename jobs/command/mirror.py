"""A copy of an output folder at a URL, made while a command works in it and at its end; and a folder fetched from one.

Only whole files are copied. Our writers give a file its name when it is whole; of a log that grows, whole lines are.
`mirror.json`, written last, lists the files with their sizes and hashes. While a file is replaced the list has both
versions, so a copy can be fetched whenever the command is killed. Files of an earlier list that have gone from the
folder are removed, and nothing else.
"""

import hashlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from uuid import uuid4

import typer

from jobs.command.command_line import console
from musicvae.data.manifest import is_url, refuse_programs, without_secrets
from musicvae.durable import whole_folder, write_whole
from musicvae.errors import DAMAGES, ConfigError, DataError, FolderInUseError, NotThereError, UserError
from musicvae.folder_lock import LOCK_NAME, hold_folder

LISTING, TRIAL, FORMAT = "mirror.json", "mirror.trial", 1
WITH_FOLDERS = {"file", "local", "sftp", "ssh", "smb", "hdfs", "webhdfs"}
"""File systems whose files lie in folders that have to be made."""
SECONDS, LOOK_SECONDS = 30.0, 1.0
"""Between two looks at what has changed, and at whether another process has ended its copying."""
AT_ONCE = 8
"""Files that are copied at the same time."""
READ_WHOLE = 2**23
"""Bytes of a file up to which it is copied out of memory, so that the copy is what was looked at."""
GROWING = (".jsonl", ".log")
"""Files that are only added to, line by line."""
LAST = ("status.json", "settings.json", "manifest.json", "manifest.jsonl")
"""Files that are copied after all others, as they tell what there is."""
PRIVATE, IDENTITY = ".mirror", "identity"
SyncTo: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Copy the output to a URL, such as s3://, during the work and at its end."),
]
ResumeFrom: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Begin with the copy at a URL, if there is one and the output is not there yet."),
]
File: TypeAlias = dict[str, Any]
"""`bytes` and `sha256` of a version of a file."""
Listing: TypeAlias = dict[str, list[File]]
"""The versions that a file of the copy may have, by path."""


class MirrorError(UserError):
    """The copy is not up to date; the folder is as it should be."""


class Mirror:
    """A folder and its copy.

    Args:
        folder: may be made later.
        private: a folder in it, for the lock of whoever copies and a name that the copy has too.
        skipped: names of folders that are of use on this machine alone.

    Raises:
        ConfigError: a path, a URL that runs a program, or one of no known kind.
        NotThereError: its driver is not installed on this machine.
    """

    def __init__(self, folder: Path, url: str, *, private: str = PRIVATE, skipped: Sequence[str] = ()) -> None:
        check_urls(sync_to=url)
        self.folder, self.private, self.name = folder, folder / private, without_secrets(url)
        self.skipped = frozenset(skipped)
        self._files, self._root = _connected(url)
        self._seen: dict[str, tuple[tuple[int, int], File]] = {}

    def check(self) -> Listing:
        """Makes sure that the copy is one of this folder, or that there is none yet; gives its list.

        Raises:
            ConfigError: something else is there, or nothing can be written there.
            NotThereError: the server cannot be reached.
        """
        identity, listing = read_listing(self._files, self._root, self.name)
        if identity is None:
            self._try_out()
        if identity not in (None, self._identity()):
            raise ConfigError(
                f"--sync-to {self.name} cannot be used",
                expected=f"a new place, or the copy of {self.folder}",
                found="the copy of another folder",
                do="choose another URL, or begin with that copy: --resume-from URL, and a folder that is not there yet",
            )
        return listing

    def copy(self) -> None:
        """Brings the copy up to date.

        Raises:
            ConfigError: as `check`.
            MirrorError: something could not be copied; the list still names whole files alone.
        """
        if not self.folder.is_dir():
            return
        try:
            self._copy(self.check())
        except UserError:
            raise
        except Exception as error:  # drivers raise what they like
            raise MirrorError(
                f"{self.folder} cannot be copied to {self.name}",
                found=f"{type(error).__name__}: {without_secrets(str(error))}",
                likely="the server or the network is down, or credentials have expired",
                do="run the same command again",
            ) from None

    def _copy(self, before: Listing) -> None:
        listing, names = before, set(self._names())
        for last in (False, True):
            some = sorted(name for name in names if (name.rpartition("/")[2] in LAST) == last)
            now = {name: version for name in some if (version := self._version(name))}
            changed = {name: version for name, version in now.items() if listing.get(name) != [version]}
            replaced = {name: [*listing[name], version] for name, version in changed.items() if name in listing}
            if replaced:
                self._write(listing | replaced)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                copied = pool.map(self._put, changed, changed.values(), [listing.get(name, []) for name in changed])
                listing = listing | {name: versions for name, versions in zip(changed, copied, strict=True) if versions}
        listing = {name: versions for name, versions in listing.items() if name in names}
        if listing != before:
            self._write(listing)
        for name in before.keys() - listing.keys():
            with suppress(FileNotFoundError):
                self._files.rm_file(self._place(name))

    def _try_out(self) -> None:
        place = self._place(TRIAL)
        try:
            self._pipe(place, b"")
            self._files.rm_file(place)
        except Exception as error:  # drivers raise what they like
            raise ConfigError(
                f"--sync-to {self.name} cannot be used",
                expected="a place that can be written to",
                found=f"{type(error).__name__}: {without_secrets(str(error))}",
                likely="a bucket that is not there, or credentials that may not write to it",
                do="make the bucket, or correct the URL or the credentials",
            ) from None

    def _names(self) -> Iterator[str]:
        for path in self.folder.rglob("*"):
            parts = path.relative_to(self.folder).parts
            hidden = any(part.startswith(".") or part.endswith((".aside", ".tmp")) for part in parts)
            skipped = hidden or self.private in path.parents or not self.skipped.isdisjoint(parts)
            if not skipped and parts[-1] != LOCK_NAME and path.is_file() and not path.is_symlink():
                yield "/".join(parts)

    def _version(self, name: str) -> File | None:
        """What a file is now; None if it has just gone."""
        path = self.folder / name
        with suppress(FileNotFoundError):
            looked = (status := path.stat()).st_size, status.st_mtime_ns
            known, version = self._seen.get(name, (None, {}))
            if known != looked:
                version = _version_of(path)
                self._seen[name] = looked, version
            return version
        return None

    def _put(self, name: str, version: File, before: list[File]) -> list[File]:
        """Copies a file; gives the versions that the copy may have then: `before` if the file has just changed."""
        place, path = self._place(name), self.folder / name
        if version["bytes"] <= READ_WHOLE or name.endswith(GROWING):
            data = path.read_bytes()[: version["bytes"]] if path.exists() else b""
            if hashlib.sha256(data).hexdigest() != version["sha256"]:
                return before
            self._pipe(place, data)
            return [version]
        if self._version(name) != version:
            return before
        self._make_folder(place)
        self._files.put_file(str(path), place)
        after = self._version(name)
        return [version] if after in (version, None) else [version, after]

    def _identity(self) -> str | None:
        path = self.private / IDENTITY
        return path.read_text(encoding="utf-8") if path.exists() else None

    def _write(self, listing: Listing) -> None:
        identity = self._identity() or uuid4().hex
        self.private.mkdir(parents=True, exist_ok=True)
        write_whole(self.private / IDENTITY, identity)
        text = json.dumps({"format": FORMAT, "identity": identity, "files": listing}, indent=1, sort_keys=True)
        self._pipe(self._place(LISTING), text.encode())

    def _pipe(self, place: str, data: bytes) -> None:
        self._make_folder(place)
        self._files.pipe_file(place, data)

    def _make_folder(self, place: str) -> None:
        """Object stores have none; asked for one, they would make a bucket that was misspelled."""
        protocol = self._files.protocol
        if not WITH_FOLDERS.isdisjoint([protocol] if isinstance(protocol, str) else protocol):
            self._files.makedirs(place.rpartition("/")[0], exist_ok=True)

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def check_urls(**options: str | None) -> None:
    """Refuses options that are no URLs that can be written to.

    Raises:
        ConfigError: a path, or a URL that runs a program.
    """
    for name, url in options.items():
        if url is not None and not is_url(url):
            problem = f"--{name.replace('_', '-')} {url} cannot be used"
            raise ConfigError(problem, expected="a URL such as s3://", do="correct the option")
        refuse_programs(url or "")


def read_listing(files: Any, root: str, name: str) -> tuple[str | None, Listing]:
    """Whose copy is there, and the versions of its files; None and nothing where there is none.

    Raises:
        NotThereError: the server cannot be reached.
        DataError: the list is damaged.
    """
    try:
        text = files.cat_file(f"{root.rstrip('/')}/{LISTING}")
    except FileNotFoundError:
        return None, {}
    except Exception as error:  # drivers raise what they like
        raise NotThereError(
            f"cannot read {name}",
            expected="a server that answers",
            found=f"{type(error).__name__}: {without_secrets(str(error))}",
            do="check network, proxy and credentials with another tool on this machine",
        ) from None
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return str(content["identity"]), {
            str(path): [{"bytes": int(version["bytes"]), "sha256": str(version["sha256"])} for version in versions]
            for path, versions in content["files"].items()
        }
    except DAMAGES as error:
        raise DataError(
            f"{LISTING} of {name} cannot be read",
            expected="the list that --sync-to writes",
            found=f"{type(error).__name__}: {error}",
            do="choose another URL",
        ) from None


def fetch(url: str | None, folder: Path, *, private: str = PRIVATE) -> bool:
    """Makes a folder of its copy at a URL, unless it is there or there is no copy yet; gives whether it did.

    Args:
        url: None is no copy.
        private: as of `Mirror`.

    Raises:
        ConfigError, NotThereError: as `Mirror`.
        DataError: a file is missing, or is none of the versions that the list names.
    """
    if url is None:
        return False
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        console.print(f"{folder} is there already; {without_secrets(url)} is not read", soft_wrap=True)
        return False
    (files, root), name = _connected(url), without_secrets(url)
    identity, listing = read_listing(files, root, name)
    if identity is None:
        console.print(f"there is no copy at {name} yet", soft_wrap=True)
        return False
    for path in listing:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise DataError(f"{LISTING} of {name} names a file outside", found=path, do="choose another URL")
    with whole_folder(folder) as aside, ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda path: _get(files, root, path, listing[path], aside, name), listing))
        (aside / private).mkdir(parents=True, exist_ok=True)
        write_whole(aside / private / IDENTITY, identity)
    console.print(f"{folder} is made from {name}: {len(listing):,} files", soft_wrap=True)
    return True


def take_over_copies(folder: Path, aside: Path) -> None:
    """Makes the copies of a folder those of another one, which is about to replace it."""
    if (folder / PRIVATE).is_dir():
        shutil.copytree(folder / PRIVATE, aside / PRIVATE, ignore=shutil.ignore_patterns(LOCK_NAME))


def _connected(url: str) -> tuple[Any, str]:
    from musicvae.data.remote import connect  # fsspec, which a login node need not have

    return connect(url)


def _get(files: Any, root: str, path: str, versions: Sequence[File], aside: Path, name: str) -> None:
    to = aside / path
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        files.get_file(f"{root.rstrip('/')}/{path}", str(to))
        if path.endswith(GROWING):  # it may have grown since
            content = to.read_bytes()
            for version in sorted(versions, key=lambda version: -version["bytes"]):
                part = content[: version["bytes"]]
                if hashlib.sha256(part).hexdigest() == version["sha256"]:
                    to.write_bytes(part)
                    return
        elif _version_of(to) in versions:
            return
        problem = f"{to.stat().st_size:,} bytes of another content"
    except Exception as error:  # drivers raise what they like
        problem = f"{type(error).__name__}: {without_secrets(str(error))}"
    raise DataError(
        f"{path} of {name} cannot be used",
        expected="a file that its list names",
        found=problem,
        likely="a copy that is being changed, or files that somebody else has changed",
        do="run the same command again",
    )


def _version_of(path: Path) -> File:
    """The size and hash of a file; of one that grows, of its whole lines."""
    if path.name.endswith(GROWING):
        data = path.read_bytes()
        data = data[: data.rfind(b"\n") + 1]
        return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


@contextmanager
def mirrored(
    folder: Path, url: str | None, *, private: str = PRIVATE, skipped: Sequence[str] = (), seconds: float = SECONDS
) -> Iterator[None]:
    """Keeps a copy of a folder up to date while the block runs, and once more at its end.

    Of several processes that work on the folder one copies at a time. What cannot be copied is said, and tried again.

    Args:
        url: None copies nothing.
        private, skipped: as of `Mirror`.

    Raises:
        ConfigError, NotThereError: as `Mirror.check`, before the block.
        MirrorError: the block has ended well, and its last state could not be copied.
    """
    if url is None:
        yield
        return
    mirror, ended = Mirror(folder, url, private=private, skipped=skipped), threading.Event()
    mirror.check()
    thread = threading.Thread(target=_copy_now_and_then, args=(mirror, ended, seconds), name="mirror", daemon=True)
    thread.start()
    well = False
    try:
        yield
        well = True
    except SystemExit as ending:
        well = not ending.code
        raise
    finally:
        ended.set()
        thread.join()
        try:
            with _alone(mirror, wait=True):
                mirror.copy()
            console.print(f"copy: {mirror.name}", soft_wrap=True)
        except UserError as error:
            if well:
                raise
            print(f"warning: {error}", file=sys.stderr)


def _copy_now_and_then(mirror: Mirror, ended: threading.Event, seconds: float) -> None:
    said = ""
    while not ended.wait(seconds):
        try:
            with _alone(mirror, wait=False):
                mirror.copy()
            said = ""
        except FolderInUseError:
            continue
        except (UserError, OSError) as error:
            if str(error) != said:
                said = str(error)
                print(f"warning: {error}", file=sys.stderr)


@contextmanager
def _alone(mirror: Mirror, *, wait: bool) -> Iterator[None]:
    """Holds the right to copy, where the folder is there.

    Raises:
        FolderInUseError: another process has it, and is not waited for.
    """
    with ExitStack() as held:
        while mirror.folder.is_dir():
            mirror.private.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(hold_folder(mirror.folder, at=mirror.private))
                break
            except FolderInUseError:
                if not wait:
                    raise
                time.sleep(LOOK_SECONDS)
        yield
