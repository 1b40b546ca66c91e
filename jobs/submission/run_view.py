"""A run folder at a glance, for tables over thousands of them: a few small reads each, without torch or numpy.

A folder that is being written to, torn or half gone is shown as far as it can be read.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicvae.durable import read_beginning, write_whole
from musicvae.errors import DAMAGES
from musicvae.training.settings import main_figure

LARGEST_HEADER = 1_000_000
"""Bytes of status.json, and of a safetensors header; what is longer is damaged."""
USUAL_HEADER = 1 << 14
"""Bytes with which the header of most models comes whole."""
LARGEST_NUMBER, MOST_CHARACTERS = 1e18, 100
"""Of a figure that is shown, and of a word."""
METADATA = re.compile(rb'\s*{\s*"__metadata__"\s*:\s*')
DECODER = json.JSONDecoder()
LIVE_STATES = ("starting", "running")
LEAST_KEPT = 100
"""Runs of one folder; fewer are read as fast as what is kept of them."""
REREAD = 0.01
"""Part of the views of a folder that are read once more, rather than all be written for them."""
SETTLED_SECONDS = 2.0
"""A file that changes twice within the tick of its file system's clock may have the same times after both."""
KEPT_FORMAT = 1
"""Of a file of kept views. Raise it when `read_run_view` begins to read the same files differently."""


@dataclass(frozen=True, slots=True)
class RunView:
    """What a run says about itself.

    Attributes:
        state: of status.json; `unknown` where it cannot be read.
        rate: windows per second.
        validation: the lowest so far of the figure that the run is summed up by, in nats.
        figure: which figure that is, one of `MAIN_FIGURES`.
        heartbeat: seconds since the epoch.
        failure: the launcher's verdict on which rank failed first, and why.
        problems: what of the folder cannot be read.
    """

    path: Path
    state: str
    step: int
    total: int
    rate: float | None
    eta_seconds: float | None
    restarts: int
    heartbeat: float | None
    launch: str | None
    failure: Mapping[str, Any] | None
    validation: float | None
    figure: str | None
    problems: tuple[str, ...]


def is_run(path: Path) -> bool:
    """Whether a folder is a run, be it a damaged one."""
    return (path / "config.yaml").exists() or (path / "status.json").exists()


def read_run_view(path: Path) -> RunView:
    """The view of a run folder, whatever state it is in."""
    problems: list[str] = []
    status = _status(f"{path}/status.json", problems)
    figure, validation = _validation(f"{path}/best.safetensors", problems)
    return RunView(
        path=path,
        state=str(status.get("state", "unknown" if problems else "starting"))[:MOST_CHARACTERS],
        step=_number(status, "step", problems) or 0,
        total=_number(status, "total", problems) or 0,
        rate=_number(status, "windows_per_second", problems),
        eta_seconds=_number(status, "eta_seconds", problems),
        restarts=_number(status, "restarts", problems) or 0,
        heartbeat=_number(status, "heartbeat", problems),
        launch=launch if isinstance(launch := status.get("launch"), str) else None,
        failure=_plain(status.get("failure")),
        validation=validation,
        figure=figure,
        problems=tuple(problems),
    )


def _status(path: str, problems: list[str]) -> dict[str, Any]:
    try:
        text = read_beginning(path, LARGEST_HEADER + 1)
        values = json.loads(text) if len(text) <= LARGEST_HEADER else None
        if isinstance(values, dict):
            return values
        problems.append("status.json is damaged")
    except FileNotFoundError:
        problems.append("status.json is missing")
    except DAMAGES:
        problems.append("status.json is damaged")
    return {}


def _plain(failure: Any) -> dict[str, Any] | None:
    """A failure without what no launcher writes, such as a list a thousand deep."""
    if not isinstance(failure, dict):
        return None
    return {name: value for name, value in failure.items() if value is None or isinstance(value, str | int | float)}


def _number(status: dict[str, Any], name: str, problems: list[str]) -> Any:
    value = status.get(name)
    if value is None or (isinstance(value, int | float) and -LARGEST_NUMBER < value < LARGEST_NUMBER):
        return value
    problems.append(f"status.json has {name} = {repr(value)[:MOST_CHARACTERS]}")
    return None


def _validation(path: str, problems: list[str]) -> tuple[str | None, float | None]:
    """From the metadata in the header of the best weights alone: neither weights nor their places are read."""
    try:
        begin = read_beginning(path, USUAL_HEADER)
        length = int.from_bytes(begin[:8], "little")
        if length > LARGEST_HEADER:
            raise ValueError
        header = (begin if 8 + length <= USUAL_HEADER else read_beginning(path, 8 + length))[8 : 8 + length]
        best = json.loads(_metadata(header, length)["best"])
        figure = main_figure(best["figures"])
        return figure, None if figure is None else float(best["figures"][figure])
    except FileNotFoundError:
        return None, None
    except DAMAGES:
        problems.append("best.safetensors is damaged")
        return None, None


def _metadata(header: bytes, length: int) -> dict[str, Any]:
    begin = METADATA.match(header)
    if begin is None or len(header) < length or not header.rstrip().endswith(b"}"):
        return json.loads(header)["__metadata__"]
    return DECODER.raw_decode(header[begin.end() :].decode())[0]


class RunViews:
    """Views of run folders for one look after another, by this process or a later one.

    A run that has ended is read once. Its view is kept, in memory and in a file of the user's cache folder for each
    folder of many runs, and counts as long as the run's files have the inodes, sizes and times that they had when it
    was read. The files are a cache: one that is missing, damaged or of another version is written anew, and nothing is
    said where that cannot be done.
    """

    def __init__(self) -> None:
        self._folders: dict[str, _KeptViews] = {}

    def kept(self, path: Path) -> RunView | None:
        """The kept view of a run; None where there is none, or the run has changed since."""
        folder, name = self._place_of(path)
        folder.looks += 1
        if folder.looks == LEAST_KEPT:
            folder.load()
        stamp, values = folder.views.get(name, ("", ()))
        if not stamp or stamp != _stamp(_looks_at(path)):
            return None
        return RunView(path, *values, problems=())

    def read(self, path: Path) -> RunView | None:
        """The view of a folder as it is now; None if it is no run."""
        settled = time.time() - SETTLED_SECONDS
        looks = _looks_at(path)
        if not looks and not is_run(path):
            return None
        view = read_run_view(path)
        changed = max((max(look.st_mtime, look.st_ctime) for look in looks), default=settled)
        if changed < settled and view.state not in LIVE_STATES and not view.problems:
            folder, name = self._place_of(path)
            folder.views[name] = _stamp(looks), [getattr(view, field) for field in KEPT_FIELDS]
            folder.new += 1
        return view

    def keep(self) -> None:
        """Writes the views that were read since the last time to the cache folder, where they are more than a few."""
        for folder in self._folders.values():
            if folder.new > REREAD * len(folder.views) and len(folder.views) >= LEAST_KEPT:
                folder.write()

    def _place_of(self, path: Path) -> tuple["_KeptViews", str]:
        parent, name = os.path.split(path)
        folder = self._folders.get(parent) or self._folders.setdefault(parent, _KeptViews(parent or "."))
        return folder, name


KEPT_FIELDS = tuple(name for name in RunView.__slots__ if name not in ("path", "problems"))


@dataclass(slots=True)
class _KeptViews:
    """What is kept of a folder of runs.

    Attributes:
        looks: at runs of the folder so far.
        views: by the name of a run, its stamp, and `KEPT_FIELDS` of its view.
        new: how many of them the file lacks.
    """

    folder: str
    looks: int = 0
    views: dict[str, tuple[str, list[Any]]] = field(default_factory=dict)
    new: int = 0

    def load(self) -> None:
        """Adds what an earlier command has kept."""
        with suppress(*DAMAGES, RuntimeError):
            digest, _, content = self._file().read_bytes().partition(b"\n")
            if hashlib.sha256(content).hexdigest().encode() == digest:
                identity, views = json.loads(content)
                if identity == self._identity():
                    self.views = {**views, **self.views}

    def write(self) -> None:
        """Keeps the views of runs that are still there."""
        self.new = 0
        with suppress(*DAMAGES, RuntimeError):
            names, file = {path.name for path in Path(self.folder).iterdir()}, self._file()
            views = {name: view for name, view in self.views.items() if name in names}
            content = json.dumps([self._identity(), views]).encode()
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content, sync=False)

    def _identity(self) -> list[Any]:
        return [KEPT_FORMAT, list(KEPT_FIELDS), os.path.realpath(self.folder)]

    def _file(self) -> Path:
        """In the user's cache folder, where `pooch` keeps the downloads of this project, too."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
        cache = cache if cache.is_absolute() else Path.home() / ".cache"
        name = hashlib.sha256(os.fsencode(os.path.realpath(self.folder))).hexdigest()[:32]
        return cache / "musicvae" / "status" / f"{name}.json"


def _looks_at(path: Path) -> list[os.stat_result]:
    """At the files of a run's view and at their folder; empty where its status cannot be opened."""
    try:
        handle = os.open(f"{path}/status.json", os.O_RDONLY | os.O_NONBLOCK)  # NFS asks its server as a file is opened
        try:
            looks = [os.fstat(handle), path.stat()]
        finally:
            os.close(handle)
        with suppress(FileNotFoundError):
            looks.append(os.stat(f"{path}/best.safetensors"))  # noqa: PTH116 - making a path takes longer than the look
    except OSError:
        return []
    return looks


def _stamp(looks: Sequence[os.stat_result]) -> str:
    """What differs where a view may differ."""
    return ",".join([f"{look.st_ino} {look.st_size} {look.st_mtime_ns} {look.st_ctime_ns}" for look in looks])
