"""The files of a sweep.

ledger.jsonl      what was drawn, started and ended: the truth
runs/ID           an ordinary run folder for each trial
progress.json     grows whenever a trial has got further, for the scheduler: whether to start the job again
live.json         what the driver is doing, for `jobs.sweep status`; nothing depends on it
best.yaml         all settings of the winner, for `jobs.train --config`
trials.csv        a row for each trial; trials.parquet holds the same
report.html       the page
study.journal     the same for `optuna.load_study`, written by `jobs.sweep report`
lock              held by the driver
elements/K/        ledger, live.json and lock of each driver, where the elements of an array decide together
claims/            which of them starts what
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.job import PROGRESS_NAME
from jobs.sweeps.ledger import ELEMENTS, LEDGER_NAME, SHARES, SweepState, read_ledger
from jobs.sweeps.settings import SweepSettings
from musicvae.durable import write_whole
from musicvae.errors import ConfigError, NotThereError
from musicvae.folder_lock import LOCK_NAME
from musicvae.settings import parse_settings

DEAD_SECONDS = 30.0
"""A driver that has not been heard of for so long is gone."""


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Paths of one sweep, for its driver or for an element of an array.

    Attributes:
        element: its number.
    """

    path: Path
    element: str | None = None

    @property
    def own(self) -> Path:
        """What this driver holds and writes to."""
        return self.path / ELEMENTS / self.element if self.element else self.path

    @property
    def ledger(self) -> Path:
        """That this driver appends to."""
        return self.own / LEDGER_NAME

    @property
    def ledger_of_all(self) -> Path:
        """That of the sweep as a whole."""
        return self.path / LEDGER_NAME

    @property
    def claims(self) -> Path:
        """Where elements claim what they start."""
        return self.path / "claims"

    def elements(self) -> list[Path]:
        """The folders of elements that have ever been at work."""
        return sorted((self.path / ELEMENTS).glob("*"))

    def shares(self) -> list[Path]:
        """The folders of an earlier version's shares that are not gathered yet."""
        return sorted(path for path in (self.path / SHARES).glob("*-of-*") if path.is_dir())

    @property
    def best(self) -> Path:
        return self.path / "best.yaml"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @property
    def to_read(self) -> tuple[Path, ...]:
        """The files that its page links to."""
        return (self.table("csv"), self.table("parquet"), self.best, self.ledger_of_all)

    def run(self, trial: str) -> Path:
        """The run folder of a trial."""
        return self.path / "runs" / trial

    def table(self, kind: str) -> Path:
        """The table of trials; `kind` is csv or parquet."""
        return self.path / f"trials.{kind}"

    def write_live(self, values: Mapping[str, Any]) -> None:
        """Replaces live.json."""
        with suppress(OSError):  # a full disk is no reason to end the trials that run
            write_whole(self.own / "live.json", json.dumps({**values, "when": time.time()}) + "\n", sync=False)

    def note_progress(self) -> None:
        """A trial has got further. Elements write the same file, so that it holds the time, which grows."""
        with suppress(OSError):
            write_whole(self.path / PROGRESS_NAME, json.dumps({"step": int(time.time())}) + "\n", sync=False)

    def forget_live(self) -> None:
        """The driver leaves."""
        (self.own / "live.json").unlink(missing_ok=True)

    def read_live(self) -> dict[str, Any] | None:
        """What the drivers said last, taken together; None where none is at work."""
        said = [live for folder in (self.path, *self.elements()) if (live := _read_live(folder / "live.json"))]
        if not said:
            return None
        return {
            "running": [trial for live in said for trial in live["running"]],
            "waiting": "; ".join(filter(None, (live["waiting"] for live in said))),
        }

    def holds_something_else(self) -> bool:
        """Whether there are entries that a sweep which was killed at its very start does not leave."""
        begun_entries = (LOCK_NAME, LEDGER_NAME, SHARES, ELEMENTS, self.claims.name)
        try:
            # One look: between two, another element may make the folder.
            names = [entry.name for entry in self.path.iterdir()]
        except FileNotFoundError:
            return False
        except NotADirectoryError:
            return True
        return any(name not in begun_entries and not name.startswith(".") for name in names)

    def read(self) -> tuple[SweepSettings, SweepState]:
        """What the ledgers of a sweep in any state say.

        Raises:
            NotThereError: there is no such folder.
            ConfigError: it holds no sweep.
            DataError: a line is damaged.
        """
        begun = (state := read_ledger(self.path)).begun
        if begun is None:
            kind = ConfigError if self.path.exists() else NotThereError
            raise kind(
                f"there is no sweep in {self.path}",
                expected="a folder that jobs.sweep run wrote",
                found=f"no line in {LEDGER_NAME}" if self.path.exists() else "no such folder",
                do="correct the path, or run a sweep: python -m jobs.sweep run demo --shards SHARDS --out SWEEP",
            )
        return parse_settings(SweepSettings, begun.sweep), state


def _read_live(path: Path) -> dict[str, Any] | None:
    try:
        live = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return live if time.time() - live["when"] < DEAD_SECONDS else None
