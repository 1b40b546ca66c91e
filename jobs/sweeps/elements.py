"""Several drivers of one sweep at the same time, as the elements of a SLURM array are: they decide together.

SWEEP/elements/7/ holds what element 7 alone writes to: ledger.jsonl, live.json and the lock. All ledgers together are
one sweep. Each element reads them all and starts what they make due. Before it writes that down, it claims the start:
it links a file to a name that no other file can have.

claims/ID-2.0        attempt 2 of a trial, counted from 0
claims/number-17.0   the configuration of number 17

A claim is never removed. That of a process which died before it wrote its line passes on as ID-2.1. A process is known
by the key of its folder's lock. It is first looked who lives, and the ledgers are read after that: so all is read that
the dead have written.

`SWEEP/shares` is what an earlier version divided a sweep into.
"""

import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from cluster.job import MOST_ELEMENTS
from jobs.sweeps.folder import SweepFolder
from jobs.sweeps.ledger import (
    SHARES,
    Begun,
    Drawn,
    Imported,
    Ledger,
    Record,
    Start,
    SweepState,
    TrialHistory,
    in_turn,
    ledgers_of_all,
    ledgers_of_elements,
    lines_of,
    record_of,
    turn,
)
from musicvae.durable import aside_of, cut_torn_line, write_whole
from musicvae.errors import ConfigError, FolderInUseError, SupersededError
from musicvae.folder_lock import hold_folder, holders

HELD_SECONDS = 120.0
"""Others hold the sweep folder for a moment only; an array has many of them."""
LOOK_SECONDS, LOOK_SECONDS_EACH = 0.5, 0.05
"""Between two looks of one that waits, and for each element: a file system serves all of them."""


def element_of(text: str) -> str:
    """The name of the element of `--share K/M`.

    Raises:
        ConfigError: no such element.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, total = map(int, match.groups()) if match else (0, 0)
    if not number < total <= MOST_ELEMENTS:
        expected = f"K/M with M up to {MOST_ELEMENTS:,} and K from 0 to M - 1"
        raise ConfigError(f"--share {text} cannot be used", expected=expected, do="--share 0/6")
    return str(number)


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody means to write into its ledger.

    Attributes:
        owner: the key of the process.
        number: of a configuration that is drawn.
        drawn: the configuration, where it is new.
        start: None where the configuration is not known yet.
    """

    owner: str
    number: int | None = None
    drawn: Drawn | None = None
    start: Start | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> "Claim":
        """That of a file."""
        values = json.loads(path.read_text(encoding="utf-8"))
        drawn, start = values["drawn"], values["start"]
        return cls(values["owner"], values["number"], drawn and Drawn(**drawn), start and Start(**start))


def with_claims(written: SweepState, claims: Iterable[Claim]) -> SweepState:
    """What ledgers add up to, which stays as it is, with what is claimed and not written yet; of a number whose
    configuration is not known the trial is empty."""
    state = copy(written)
    state.numbers, state.trials, state.unfinished = {**state.numbers}, {**state.trials}, {**state.unfinished}
    for claim in claims:
        if claim.drawn and (claim.drawn.repeat_of is None or claim.drawn.repeat_of in state.trials):
            state.add(claim.drawn)
        if claim.start and claim.start.trial in state.trials:
            state.trials[claim.start.trial] = copy(state.trials[claim.start.trial])
            state.add(claim.start)
        if claim.number is not None:
            state.numbers.setdefault(claim.number, "")
    return state


@dataclass(slots=True)
class _Reading:
    """How far a ledger was read."""

    offset: int = 0
    lines: int = 0

    def go_on(self, path: Path) -> Iterator[Record]:
        """The whole lines that are new."""
        if path.stat().st_size <= self.offset:
            return
        with path.open("rb") as file:
            file.seek(self.offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self.offset += len(whole) + len(newline)
        for line in whole.split(b"\n") if newline else ():
            self.lines += 1
            yield record_of(line, path, self.lines)


@dataclass(slots=True)
class _Sums:
    """What ledgers add up to, as `SweepState.of(merged(...))`; only trials with new lines are added up anew."""

    others: list[Record] = field(default_factory=list)
    lines: dict[str, list[Record]] = field(default_factory=dict)
    trials: dict[str, tuple[TrialHistory, dict[int, str], bool]] = field(default_factory=dict)
    """Each with its numbers, and whether it is unfinished."""
    changed: set[str] = field(default_factory=set)
    is_new: bool = False
    """Whether anything was added since the last sum."""

    def add(self, record: Record) -> None:
        self.is_new = True
        if isinstance(record, Begun | Imported):
            self.others.append(record)
        else:
            self.lines.setdefault(record.trial, []).append(record)
            self.changed.add(record.trial)

    def state(self) -> SweepState:
        for trial in self.changed:
            lines = in_turn(self.lines[trial])
            if isinstance(lines[0], Drawn):
                alone = SweepState.of(lines)
                self.trials[trial] = alone.trials[trial], alone.numbers, bool(alone.unfinished)
        self.changed.clear()
        self.is_new = False
        state = SweepState.of(self.others)
        for history, numbers, is_unfinished in sorted(self.trials.values(), key=lambda trial: turn(trial[0].drawn)):
            if history.drawn.repeat_of is None or history.drawn.repeat_of in self.trials:
                state.trials[history.id] = history
                state.numbers |= numbers
                if is_unfinished:
                    state.unfinished[history.id] = history
        return state


class ElementLedger(Ledger):
    """The ledger of an element. Its `state` is what all ledgers add up to, with what others have claimed.

    Args:
        folder: that of the element.
        key: of the process that holds it.
    """

    def __init__(self, folder: SweepFolder, key: str) -> None:
        cut_torn_line(folder.ledger)
        super().__init__(folder.ledger, SweepState())
        self._folder, self._key = folder, key
        self._readings: dict[Path, _Reading] = {}
        self._sums = _Sums()
        self._claims: dict[str, Claim] = {}
        """Of living others, by name of the file: those that no ledger has yet."""
        self._unknown: set[str] = set()
        """Owners of claims that were not among the living when it was last looked."""
        self._living: set[str] = set()
        self._dead: set[str] = set()
        self._read: dict[str, Any] = {}
        self._written = SweepState()
        self.look()

    def look(self) -> Sequence[str]:
        self._living = {*holders(self._folder.elements()).values()}
        self._dead = (self._dead | self._unknown | {claim.owner for claim in self._claims.values()}) - self._living
        self._unknown = set()
        ledgers = [*ledgers_of_all(self._folder.path), *ledgers_of_elements(self._folder.path)]
        for path in ledgers:
            for record in self._readings.setdefault(path, _Reading()).go_on(path):
                self._sums.add(record)
        if self._sums.is_new:
            self._written = self._sums.state()
        self._claims = {
            name: claim
            for name, claim in sorted(self._claims.items())
            if claim.owner in self._living and not _is_written(claim, self._written)
        }
        self.state = with_claims(self._written, self._claims.values()) if self._claims else self._written
        trials = self.state.unfinished.values()
        running = [t.id for t in trials if t.is_open and t.last_start and t.last_start.owner in self._living]
        read = {path.parent.name: self._readings[path].lines for path in ledgers[1:]}
        read[""] = self._readings[ledgers[0]].lines
        self._read = {"lines": read, "running": running, "claims": list(self._claims)}
        self.others = len(self._living - {self._key})
        self.undecided = any(claim.start is None for claim in self._claims.values())
        self.look_seconds = max(LOOK_SECONDS, LOOK_SECONDS_EACH * len(self._living))
        return running

    def claim_number(self, number: int) -> bool:
        return self._claim(f"number-{number}", Claim(self._key, number))

    def claimed(self, start: Start, drawn: Drawn | None) -> Start | None:
        start = replace(start, owner=self._key, read=self._read)
        number = drawn.number if drawn and drawn.number >= 0 else None
        is_ours = self._claim(f"{start.trial}-{start.attempt}", Claim(self._key, number, drawn, start))
        return start if is_ours else None

    def append(self, *records: Record) -> None:
        """As of every ledger.

        Raises:
            SupersededError: another process writes it by now.
        """
        if holders([self._folder.own]).get(self._folder.own) != self._key:
            raise SupersededError(
                f"{self._folder.own} belongs to another process",
                expected="the lock of this process",
                found="that of another one",
                likely="this process was stopped for long, and the element was started again",
                do="nothing; the other process continues",
            )
        super().append(*records)

    def _claim(self, name: str, claim: Claim) -> bool:
        """Whether a claim is ours from here on."""
        for suffix in count():
            path = self._folder.claims / f"{name}.{suffix}"
            if link(path, claim.to_json()):
                return True
            other = Claim.read(path)
            if other.owner in self._living:
                self._claims[path.name] = other
                return False
            if other.owner not in self._dead:
                self._unknown.add(other.owner)  # not there yet when it was looked
                return False
        raise AssertionError("there is always a next suffix")


def _is_written(claim: Claim, state: SweepState) -> bool:
    """Whether a ledger has what was claimed."""
    if claim.start is None:
        return claim.number in state.numbers
    trial = state.trials.get(claim.start.trial)
    return trial is not None and trial.starts > claim.start.attempt


def link(path: Path, values: Mapping[str, Any]) -> bool:
    """Makes a whole file under a name that must not be taken."""
    aside = aside_of(path)
    write_whole(aside, json.dumps(values))
    try:
        os.link(aside, path)
    except FileExistsError:
        return aside.stat().st_nlink > 1  # a link over the network may be made and its answer be lost
    finally:
        aside.unlink()
    return True


@contextmanager
def holding_element(folder: SweepFolder) -> Iterator[str]:
    """Holds the folder of an element, which is made; gives the key of this process.

    Raises:
        FolderInUseError: another process is this element.
    """
    folder.own.mkdir(parents=True, exist_ok=True)
    folder.claims.mkdir(exist_ok=True)
    with hold_folder(folder.own) as key:
        yield key


def others_of(folder: SweepFolder) -> list[str]:
    """The other elements that are at work."""
    return sorted(path.name for path in holders(folder.elements()) if path != folder.own)


def check_no_elements(folder: SweepFolder) -> None:
    """Makes sure that no element is at work; the caller holds the sweep folder, so that none begins.

    Raises:
        FolderInUseError: one is.
    """
    if others := others_of(folder):
        raise FolderInUseError(
            f"{folder.path} is in use",
            expected="one driver, or the elements of an array",
            found=f"at work: element {', '.join(others)}",
            likely="an array that has not ended",
            do="wait for it, or cancel it and run this command again to resume",
        )


def gather(folder: SweepFolder) -> None:
    """Moves what shares of an earlier version have written into the sweep's ledger; the caller holds the sweep folder.

    Raises:
        FolderInUseError: a share is at work.
    """
    shares = folder.shares()
    for share in shares:
        with hold_folder(share):
            pass
    if shares:
        lines = b"".join(line + b"\n" for _, _, line in lines_of(*ledgers_of_all(folder.path)))
        # Before they go: a kill in between leaves lines twice, of which the second are passed over.
        write_whole(folder.ledger_of_all, lines)
        shutil.rmtree(folder.path / SHARES)


@contextmanager
def hold_soon(path: Path) -> Iterator[None]:
    """Holds a folder as soon as whoever holds it for a moment lets go.

    Raises:
        FolderInUseError: it stays held.
    """
    give_up_at = time.monotonic() + HELD_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(hold_folder(path))
                break
            except FolderInUseError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(random.uniform(0.2, 2.0))
        yield
