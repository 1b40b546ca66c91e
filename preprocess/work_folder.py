"""Where a build works until its shards are whole: a folder beside the output that outlives every kill."""

import secrets
import shutil
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.tasks import TargetError
from musicvae.data.manifest import MANIFEST_NAME
from musicvae.durable import publish_folder
from musicvae.errors import ConfigError, UserError
from musicvae.folder_lock import hold_folder
from preprocess.report import PAGE_NAME, REPORT_NAME
from preprocess.sources.open import DEMO_FOLDER

SUFFIX = ".building"


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The folders of an unfinished build.

    Attributes:
        path: all of it; `OUT.building` for the output OUT.
    """

    path: Path

    @property
    def parts(self) -> Path:
        """What batches of files became."""
        return self.path / "parts"

    @property
    def scratch(self) -> Path:
        """What the source has to write."""
        return self.path / "source"

    @property
    def result(self) -> Path:
        """What will become the output."""
        return self.path / "shards"

    @property
    def replaced(self) -> Path:
        """Where an output that gives way lies for a moment."""
        return self.path / "replaced"

    def publish(self, out: Path, shards: Collection[str], *, replace: bool) -> None:
        """Gives the result its final name and removes all else.

        Args:
            shards: names of its shards; what else lies there is of a build with other settings, or torn by a kill.
            replace: whether an existing `out` gives way.

        Raises:
            OSError: `out` exists, or cannot be made.
        """
        kept_names = {*shards, MANIFEST_NAME, REPORT_NAME, PAGE_NAME}
        for path in self.result.iterdir():
            if path.is_file() and path.name not in kept_names:
                path.unlink()
        if (self.scratch / DEMO_FOLDER).exists():
            shutil.rmtree(self.result / DEMO_FOLDER, ignore_errors=True)
            (self.scratch / DEMO_FOLDER).replace(self.result / DEMO_FOLDER)
        shutil.rmtree(self.replaced, ignore_errors=True)
        publish_folder(self.result, out, before=self.replaced if replace else None)
        shutil.rmtree(self.path, ignore_errors=True)


def work_folder_of(out: Path) -> Path:
    """Where a build of `out` works."""
    return out.with_name(out.name + SUFFIX)


@contextmanager
def open_work_folder(out: Path) -> Iterator[WorkFolder]:
    """The work folder of an output, new or as a build left it, held for this process alone.

    It stays there whatever ends the block, unless that is a mistake of the user's before any part was made.

    Raises:
        ConfigError: another build works there.
        OSError: it cannot be made.
    """
    work = WorkFolder(work_folder_of(out))
    new_parents = [parent for parent in work.path.parents if not parent.exists()]
    work.path.mkdir(parents=True, exist_ok=True)
    with hold_folder(work.path):
        for folder in (work.parts, work.scratch, work.result):
            folder.mkdir(exist_ok=True)
        try:
            yield work
        except (UserError, TargetError):
            if not any(work.parts.iterdir()):
                _remove(work.path, new_parents)
            raise


def remove_leftovers(out: Path) -> None:
    """Removes the work folder that a build killed after its end has left; one that a build works in stays."""
    path = work_folder_of(out)
    if path.exists():
        with suppress(ConfigError), hold_folder(path):
            shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path, new_parents: Sequence[Path]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    for parent in new_parents:
        with suppress(OSError):
            parent.rmdir()


@contextmanager
def looking_for(folder: Path, sources: Sequence[str]) -> Iterator[Callable[[], str]]:
    """Has a file in a folder of this process's own, for as long as the block lasts.

    Gives a function that crosses to other processes: what their node cannot see or write under the same paths, the
    source included; empty if it sees all.

    Args:
        sources: paths that the files are read from; the first few are looked for.
    """
    token = secrets.token_hex(8)
    probe = folder / f"seen-by-{socket.gethostname()}"
    probe.write_text(token, encoding="utf-8")
    try:
        yield partial(_blind_spot, probe, token, tuple(sources))
    finally:
        probe.unlink(missing_ok=True)


def _blind_spot(probe: Path, token: str, sources: Sequence[str]) -> str:
    try:
        if probe.read_text(encoding="utf-8") != token:
            return f"it sees another folder as {probe.parent}"
    except OSError as error:
        return f"it does not see {probe.parent}: {error.strerror}"
    trial_file = probe.with_name(f"{probe.name}-{secrets.token_hex(4)}")
    try:
        trial_file.touch()
        trial_file.unlink()
    except OSError as error:
        return f"it cannot write to {probe.parent}: {error.strerror}"
    missing = next((path for path in sources if not Path(path).exists()), "")
    return f"it does not see {missing}" if missing else ""
