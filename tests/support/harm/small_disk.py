"""A disk that is soon full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def fill(path: Path) -> None:
    """Leaves no room on a `small_disk`."""
    with suppress(OSError), (path / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def enlarge(path: Path, size: str) -> None:
    """Makes room on a `small_disk`."""
    subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)
