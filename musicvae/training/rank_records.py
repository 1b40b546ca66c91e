"""What each rank of a launch says about itself, in files that outlive it: RUN/ranks.

rank-00003.json        where rank 3 is and when it last said so
rank-00003.error.json  why it failed
rank-00003.stack       where its threads stood when it was found stuck

One file a rank and kind, written over by the next attempt: the folder never grows beyond the largest world.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from musicvae.errors import Category


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Which rank it is, where it runs, and how far it has come."""

    rank: int
    world_size: int
    host: str
    pid: int
    step: int
    phase: str

    def place(self) -> dict[str, Any]:
        """These fields alone, as arguments of another subclass."""
        return {field.name: getattr(self, field.name) for field in fields(RankPlace)}


@dataclass(frozen=True, slots=True)
class RankWord(RankPlace):
    """What a rank says of itself.

    Attributes:
        launch: the launch that the process belongs to.
        attempt: how often torchrun has started the ranks of this launch again.
        when: seconds since the epoch by the clock of the rank's machine.
    """

    launch: str
    attempt: int
    when: float


@dataclass(frozen=True, slots=True)
class RankRecord(RankWord):
    """A rank's heartbeat.

    Attributes:
        beats: how often the main thread has reported progress.
        waiting: whether the main thread is waiting for other ranks.
        ended: whether the process left by itself, which a killed one cannot say.
        cut_off: whether it waited in vain and did not reach the machine of rank 0.
    """

    beats: int
    waiting: bool
    ended: bool
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class RankError(RankWord):
    """Why a rank failed.

    Attributes:
        message: what a user reads first.
        traceback: the last lines of it, empty where the message says it all.
        secondary: whether the rank failed only because another one did.
        culprit: the rank that it waited for in vain, as far as it could tell.
    """

    category: Category
    message: str
    traceback: str
    secondary: bool
    culprit: int | None


@dataclass(frozen=True, slots=True)
class RankRecords:
    """The folder of these files."""

    folder: Path

    def write(self, record: RankRecord) -> None:
        """Replaces the rank's heartbeat."""
        self._write(self.folder / _name(record.rank), asdict(record))

    def write_error(self, error: RankError) -> None:
        """Replaces the rank's error."""
        self._write(self.folder / f"rank-{error.rank:05d}.error.json", asdict(error))

    def stack(self, rank: int) -> Path:
        """Where a stuck rank dumps its stacks."""
        return self.folder / f"rank-{rank:05d}.stack"

    def of(self, launch_id: str, ranks: Iterable[int] | None = None) -> list[RankRecord]:
        """The heartbeats of one launch, by rank.

        Args:
            ranks: those that are looked at, which spares a shared file system the others; None for all.
        """
        paths = self.folder.glob("rank-?????.json") if ranks is None else (self.folder / _name(rank) for rank in ranks)
        return self._read(RankRecord, sorted(paths), launch_id)

    def errors_of(self, launch_id: str) -> list[RankError]:
        """The errors of one launch, by rank."""
        return self._read(RankError, sorted(self.folder.glob("rank-?????.error.json")), launch_id)

    def forget_all_but(self, alive: Collection[tuple[str, int]]) -> None:
        """Removes what other processes than these (host, pid) left behind."""
        for path in self.folder.glob("rank-*.json"):
            values = _json(path)
            if values and (values.get("host"), values.get("pid")) not in alive:
                path.unlink(missing_ok=True)

    def _write(self, path: Path, values: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # A fixed name, not a fresh one: a rank that is killed between these lines leaves one file, however often.
        aside = path.with_suffix(".aside")
        aside.write_text(json.dumps(values) + "\n", encoding="utf-8")
        aside.replace(path)

    def _read(self, kind: type, paths: Sequence[Path], launch_id: str) -> list[Any]:
        records = []
        for path in paths:
            values = _json(path)
            if values.get("launch") == launch_id:
                with suppress(TypeError):  # another version of this file's fields
                    records.append(kind(**values))
        return records


def _name(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a peer's machine may show a file half-way to its next version
        return {}
