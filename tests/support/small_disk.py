"""A disk that is soon full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.requirements import skip_or_fail


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of a few megabytes."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        skip_or_fail("a small disk needs the right to mount one")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def enlarge(path: Path, size: str) -> None:
    """Makes room on a `small_disk`."""
    subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)
