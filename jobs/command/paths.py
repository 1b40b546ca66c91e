"""Output files and folders, checked before a command begins its work; and what the system says of a path.

A command replaces an output folder only when it is told to, and only a folder that it made itself.
"""

import errno
import re
from contextlib import suppress
from pathlib import Path

from musicvae.durable import aside_of
from musicvae.errors import ConfigError, DiskFullError, NotThereError, UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS)
"""What can be wrong with a path, whatever the code does."""
URL = re.compile(r"[a-z][a-z0-9+.-]+:[/:]|pipe:", re.IGNORECASE)
"""How a URL begins, and a chain of them; a path has one slash where it has two."""
TRIAL_BYTES = 4096
"""A full disk still makes empty files."""


def wrong_with_path(error: OSError, path: Path | None = None) -> UserError | None:
    """What an error of the operating system says of a path, by default the one that it names; None if it is a bug."""
    path = path or error.filename
    reason = error.strerror or str(error)
    if error.errno in FULL:
        do = "free some space or raise the quota, then run the same command again"
        return DiskFullError(f"the disk is full{f', at {path}' if path else ''}", found=reason, do=do)
    if path is None or error.errno not in UNUSABLE:
        return None
    return ConfigError(f"cannot use {path}", found=reason, do="correct the path, or the permissions of its folder")


def url_of(path: Path) -> str:
    """The URL that was given as a path; empty if it is a path."""
    return str(path).replace(":/", "://", 1) if URL.match(str(path)) else ""


def check_output_file(path: Path | None) -> None:
    """Makes sure, before any work, that the file of an option can be written.

    Raises:
        NotThereError: its folder does not exist.
        ConfigError: it is a folder, or cannot be written.
        DiskFullError: the disk has no room for it.
    """
    if path is None:
        return
    try:
        if path.is_dir() or not path.resolve().parent.is_dir():
            kind = ConfigError if path.is_dir() else NotThereError
            raise kind(f"cannot write {path}", expected="a file in a folder that exists", do="choose another file")
        trial = aside_of(path)
        try:
            trial.write_bytes(bytes(TRIAL_BYTES))
        finally:
            with suppress(OSError):
                trial.unlink(missing_ok=True)
    except OSError as error:
        raise wrong_with_path(error, path) or error from None


def check_new_folder(path: Path, option: str) -> None:
    """Makes sure that a folder is there or could be made, as far as nothing but a folder is in its way.

    Raises:
        ConfigError: a file is.
    """
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        expected, reason = "a folder, there or to be made", f"{existing} is a file"
        raise ConfigError(
            f"{option} {path} cannot be used", expected=expected, found=reason, do="choose another folder"
        )


def check_output(out: Path, *, option: str, maker: str, ours: str, is_ours: bool, overwrite: bool) -> None:
    """Refuses to touch what is not to be replaced.

    Args:
        option: how the command line calls the folder.
        maker: the command.
        ours: what it makes, in words.
        is_ours: whether that is what stands there.

    Raises:
        ConfigError: `out` holds something, and --overwrite is not given or the command has not made it.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (is_ours and overwrite):
        raise ConfigError(
            f"{out} exists",
            expected="a new path" + (f", or {ours}" if overwrite else ""),
            found=ours if is_ours else f"files that {maker} did not write",
            do=f"choose another {option}" + (", or replace it with --overwrite" if is_ours else ""),
        )
