"""The ledger of a sweep: what was drawn, started and ended, one line each, and the only record of it.

Only the process that holds its folder appends to it: a configuration before its trial is started, a line before every
start, a line after every end. A decision is a function of these lines, so a killed driver loses nothing.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jobs.sweeps.settings import Kept
from musicvae.durable import append_line, cut_torn_line
from musicvae.errors import Category, DataError
from musicvae.kept_memory import without_collections

LEDGER_NAME, SHARES, ELEMENTS = "ledger.jsonl", "shares", "elements"
EndState = Literal["finished", "diverged", "failed", "stopped"]
"""How a start ended; `stopped`: by a signal to the driver or the trial's process, to be gone on with."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The sweep file as a command found it, where it is new or has changed.

    Attributes:
        numbers: how many configurations the searcher draws in all.
        fingerprint: of the shards, which never change.
    """

    name: str
    sweep: Mapping[str, Any]
    numbers: int
    fingerprint: str
    shards: str
    when: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """A configuration, before it is first started.

    Attributes:
        number: its place among all that the searcher draws; -1 of a repeat.
        trial: run id; that of an earlier number where the configuration is equal.
        repeat_of: the trial that this one repeats with another seed.
    """

    number: int
    trial: str
    values: Mapping[str, Any]
    seed: int
    repeat_of: str | None
    when: float


@dataclass(frozen=True, slots=True)
class Start:
    """Intent: from here on, the trial may be running.

    Attributes:
        attempt: how often the trial was started before.
        steps: optimizer steps that it is to come to.
        owner: of an element of an array, the key of the process that starts it.
        read: and what it had read when it decided that, see `jobs.sweeps.elements.ElementLedger`.
    """

    trial: str
    attempt: int
    steps: int
    when: float
    owner: str | None = None
    read: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class End:
    """What a start came to.

    Attributes:
        category, message: why it failed or diverged.
        step: that the trial has come to.
        value: the best of the metric over its evaluations so far; None where it was not evaluated.
        figures: of the evaluation that `value` is of.
        seconds: that this start took.
        bytes: that the run folder takes.
        steps: that the start was to come to; lines of earlier versions do not say it.
    """

    trial: str
    attempt: int
    state: EndState
    category: Category | None
    message: str
    step: int
    value: float | None
    figures: Mapping[str, float]
    seconds: float
    bytes: int
    host: str
    when: float
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What of a trial is not kept was removed.

    Attributes:
        kept: what stayed.
        bytes: that its run folder takes since.
        attempt: of its last start before; lines of earlier versions do not say it.
    """

    trial: str
    kept: Kept
    bytes: int
    when: float
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A result of another sweep, which a search learns from; no trial of this one.

    Attributes:
        source: folder of the other sweep.
        trial: run id there.
        results: the metric by steps.
    """

    source: str
    trial: str
    values: Mapping[str, Any]
    results: Mapping[str, float]
    when: float


Record: TypeAlias = Begun | Drawn | Start | End | Trimmed | Imported
KINDS: Mapping[str, type[Record]] = {
    "sweep": Begun,
    "trial": Drawn,
    "start": Start,
    "end": End,
    "trimmed": Trimmed,
    "imported": Imported,
}
NAMES = {kind: name for name, kind in KINDS.items()}
YOUNGER = ("owner", "read", "steps", "attempt")
"""Keys that the first ledgers did not have."""


@dataclass(slots=True, eq=False)
class TrialHistory:
    """All that the ledger has of a trial."""

    drawn: Drawn
    last_start: Start | None = None
    last_end: End | None = None
    starts: int = 0
    failures: int = 0
    seconds: float = 0.0
    bytes: int = 0
    kept: Kept = "all"
    reached: int = 0
    """Steps of the longest start that was finished."""
    values: dict[int, float] = field(default_factory=dict)
    """The metric by the steps of each finished start."""

    @property
    def id(self) -> str:
        return self.drawn.trial

    @property
    def is_open(self) -> bool:
        """Whether it was started and the ledger does not say what came of it."""
        return self.last_start is not None and (
            self.last_end is None or self.last_end.attempt < self.last_start.attempt
        )

    @property
    def state(self) -> EndState | None:
        """How its last start ended; None where none did."""
        return self.last_end.state if self.last_end and not self.is_open else None

    @property
    def value(self) -> float | None:
        """The metric at the most steps that it has finished."""
        return self.values[self.reached] if self.reached else None


class SweepState:
    """What the lines of a ledger add up to."""

    def __init__(self) -> None:
        self.begun: Begun | None = None
        self.numbers: dict[int, str] = {}
        self.trials: dict[str, TrialHistory] = {}
        self.unfinished: dict[str, TrialHistory] = {}
        """Trials without a start, and those whose last start has no end, or one that is to be gone on with."""
        self.imported: dict[str, Imported] = {}
        self.former_steps: set[int] = set()
        """What `budget.steps` was before it was raised."""
        self.started = 0.0

    @classmethod
    def of(cls, records: Iterable[Record]) -> "SweepState":
        """What lines add up to."""
        state = cls()
        for record in records:
            state.add(record)
        return state

    def add(self, record: Record) -> None:
        """Takes the next line in."""
        match record:
            case Begun():
                if self.begun:
                    self.former_steps.add(self.begun.sweep["budget"]["steps"])
                self.begun = record
                self.former_steps.discard(record.sweep["budget"]["steps"])
                self.started = self.started or record.when
            case Drawn():
                if record.number >= 0:
                    self.numbers[record.number] = record.trial
                if record.trial not in self.trials:
                    self.trials[record.trial] = self.unfinished[record.trial] = TrialHistory(record)
            case Start():
                trial = self.trials[record.trial]
                trial.last_start = record
                trial.starts += 1
                trial.kept = "all"
                self.unfinished[trial.id] = trial
            case End():
                self._end(self.trials[record.trial], record)
            case Trimmed():
                self.trials[record.trial].bytes = record.bytes
                self.trials[record.trial].kept = record.kept
            case Imported():
                self.imported[record.trial] = record

    def _end(self, trial: TrialHistory, end: End) -> None:
        trial.last_end = end
        trial.seconds += end.seconds
        trial.bytes = end.bytes
        if end.state != "stopped":
            self.unfinished.pop(trial.id, None)
        if end.state == "failed":
            trial.failures += 1
            if end.category == "killed":
                self.unfinished[trial.id] = trial
        if end.state == "finished" and trial.last_start and end.value is not None:
            steps = end.steps or trial.last_start.steps
            trial.reached = max(trial.reached, steps)
            trial.values[steps] = end.value

    @property
    def planned(self) -> int:
        """Configurations that the searcher draws in all."""
        return self.begun.numbers if self.begun else 0

    @property
    def hours(self) -> float:
        """Of training, summed over all starts that have an end."""
        return sum(trial.seconds for trial in self.trials.values()) / 3600

    @property
    def bytes(self) -> int:
        """That run folders take, as of their last ends."""
        return sum(trial.bytes for trial in self.trials.values())


def fields_of(record: Record) -> dict[str, Any]:
    """A line of the ledger before it is JSON; what only some lines have is left out of the others."""
    values = {"kind": NAMES[type(record)], **asdict(record)}
    return {name: value for name, value in values.items() if value is not None or name not in YOUNGER}


class Ledger:
    """The file and what it adds up to. Only the holder of its folder may make one.

    Attributes:
        others: how many other drivers are at work.
        undecided: whether one of them is about to draw a configuration.
        look_seconds: between two looks of a driver that waits.
    """

    def __init__(self, path: Path, state: SweepState) -> None:
        self.path, self.state = path, state
        self.others, self.undecided, self.look_seconds = 0, False, 0.5

    @classmethod
    def open(cls, folder: Path) -> "Ledger":
        """That of a sweep, to go on with; a line that a kill has torn is removed.

        Raises:
            DataError: a line is damaged.
        """
        cut_torn_line(folder / LEDGER_NAME)
        return cls(folder / LEDGER_NAME, read_ledger(folder))

    def look(self) -> Sequence[str]:
        """Takes in what other drivers have written; gives the trials that they and this one train."""
        return ()

    def claim_number(self, number: int) -> bool:
        """Whether this driver may draw the configuration of a number."""
        return True

    def claimed(self, start: Start, drawn: Drawn | None) -> Start | None:
        """A start as it is written down, by this driver alone; None where another one was faster.

        Args:
            drawn: its configuration, where that is new.
        """
        return start

    def append(self, *records: Record) -> None:
        """Writes lines, waits for the disk, and takes them in.

        Raises:
            OSError: the disk is full.
        """
        for record in records:
            append_line(self.path, fields_of(record), sync=record is records[-1])
        for record in records:
            self.state.add(record)


@without_collections()
def read_ledger(folder: Path) -> SweepState:
    """What the ledgers of a sweep folder add up to, empty where there are none; safe while drivers append to them.

    Raises:
        DataError: a line is damaged.
    """
    alone, elements = records_of(*ledgers_of_all(folder)), ledgers_of_elements(folder)
    return SweepState.of(merged([alone, *map(records_of, elements)]) if elements else alone)


def merged(ledgers: Iterable[Iterable[Record]]) -> Iterator[Record]:
    """The records of ledgers whose writers worked at the same time, in an order that depends on the records alone.

    Each trial comes whole, by the number that it was drawn as; repeats come last. One that was not drawn yet as far as
    the records go, or whose original was not, is left out.
    """
    trials: dict[str, list[Record]] = {}
    for record in chain.from_iterable(ledgers):
        if isinstance(record, Begun | Imported):
            yield record
        else:
            trials.setdefault(record.trial, []).append(record)
    whole = {trial: in_turn(lines) for trial, lines in trials.items()}
    drawn = {trial: lines[0] for trial, lines in whole.items() if isinstance(lines[0], Drawn)}
    for first in sorted(drawn.values(), key=turn):
        if first.repeat_of is None or first.repeat_of in drawn:
            yield from whole[first.trial]


def in_turn(lines: Sequence[Record]) -> list[Record]:
    """The lines of a trial: how it was drawn, the lowest number first, and then each attempt."""
    places, last = [], 0
    for line in lines:
        attempt = getattr(line, "attempt", None)  # of what was trimmed, earlier versions do not say it
        last = last if attempt is None else attempt
        places.append((-1, *turn(line)) if isinstance(line, Drawn) else (last, (Start, End, Trimmed).index(type(line))))
    return [lines[place] for place in sorted(range(len(lines)), key=places.__getitem__)]


def turn(drawn: Drawn) -> tuple[int, str]:
    """A sort key of trials."""
    return drawn.number if drawn.number >= 0 else sys.maxsize, drawn.trial


def ledgers_of_all(folder: Path) -> list[Path]:
    """That of the sweep, and those of shares of an earlier version that are not gathered yet."""
    return [folder / LEDGER_NAME, *sorted(folder.glob(f"{SHARES}/*/{LEDGER_NAME}"))]


def ledgers_of_elements(folder: Path) -> list[Path]:
    """Those of the elements of arrays."""
    return sorted(folder.glob(f"{ELEMENTS}/*/{LEDGER_NAME}"))


def lines_of(*ledgers: Path) -> Iterator[tuple[Path, int, bytes]]:
    """The whole lines of ledgers with their numbers; a line that an earlier one of them has too is passed over."""
    known: set[bytes] = set()
    for path in ledgers:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        yield from ((path, number, line) for number, line in enumerate(lines, start=1) if line not in known)
        if len(ledgers) > 1:
            known.update(lines)


def records_of(*ledgers: Path) -> Iterator[Record]:
    """What the lines of ledgers say, each once; a damaged one raises a `DataError`."""
    return (record_of(line, path, number) for path, number, line in lines_of(*ledgers))


def record_of(line: bytes, path: Path, number: int) -> Record:
    """What a line of a ledger says.

    Raises:
        DataError: it is damaged.
    """
    try:
        values = json.loads(line)
        return KINDS[values.pop("kind")](**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged",
            expected="a record of this version in each line",
            found=f"line {number}: {type(error).__name__}: {error}",
            likely="an edited file, or a sweep of another version",
            do="repair that line; this does not affect the run folders of the trials",
        ) from None
