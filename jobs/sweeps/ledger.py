"""The ledger of a sweep: what was drawn, started and ended, one line each, and the only truth about it.

It is appended to alone, by the one process that holds its folder: the sweep's, or that of a share of it. A trial's
configuration is written before it is first started, a line before every start, a line after every end. Decisions are
functions of these lines, so that a driver that is killed anywhere goes on as if it had not been.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jobs.sweeps.settings import Kept
from musicvae.durable import append_line, cut_torn_line
from musicvae.errors import DataError
from musicvae.training.rank_records import Category

LEDGER_NAME, SHARES = "ledger.jsonl", "shares"
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
    """

    trial: str
    attempt: int
    steps: int
    when: float


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


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What of a trial is not kept was removed.

    Attributes:
        kept: what stayed.
        bytes: that its run folder takes since.
    """

    trial: str
    kept: Kept
    bytes: int
    when: float


Record: TypeAlias = Begun | Drawn | Start | End | Trimmed
KINDS: Mapping[str, type[Record]] = {
    "sweep": Begun,
    "trial": Drawn,
    "start": Start,
    "end": End,
    "trimmed": Trimmed,
}
NAMES = {kind: name for name, kind in KINDS.items()}


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
                self.begun = record
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
            trial.reached = max(trial.reached, trial.last_start.steps)
            trial.values[trial.last_start.steps] = end.value

    @property
    def hours(self) -> float:
        """Of training, summed over all starts that have an end."""
        return sum(trial.seconds for trial in self.trials.values()) / 3600

    @property
    def bytes(self) -> int:
        """That run folders take, as of their last ends."""
        return sum(trial.bytes for trial in self.trials.values())


def fields_of(record: Record) -> dict[str, Any]:
    """A line of the ledger before it is JSON."""
    return {"kind": NAMES[type(record)], **asdict(record)}


class Ledger:
    """The file and what it adds up to. Only the holder of the sweep folder may make one with `open`."""

    def __init__(self, path: Path, state: SweepState) -> None:
        self.path, self.state = path, state

    @classmethod
    def open(cls, folder: Path, state: SweepState | None = None) -> "Ledger":
        """To go on with; a line that a kill has torn is removed.

        Args:
            state: what has been before, this folder's own lines included; if not given, what they add up to.

        Raises:
            DataError: a line is damaged.
        """
        cut_torn_line(folder / LEDGER_NAME)
        return cls(folder / LEDGER_NAME, state or read_ledger(folder))

    def append(self, record: Record) -> None:
        """Writes a line, waits for the disk, and takes it in.

        Raises:
            OSError: the disk is full.
        """
        append_line(self.path, fields_of(record), sync=True)
        self.state.add(record)


def read_ledger(folder: Path) -> SweepState:
    """What the ledgers of a sweep folder add up to, empty where there are none; safe while drivers append to them.

    Raises:
        DataError: a line is damaged.
    """
    return SweepState.of(records_of(*ledgers_in(folder)))


def ledgers_in(folder: Path) -> list[Path]:
    """That of the sweep, and those of its shares that are not gathered yet."""
    return [folder / LEDGER_NAME, *sorted(folder.glob(f"{SHARES}/*/{LEDGER_NAME}"))]


def lines_of(*ledgers: Path) -> Iterator[tuple[Path, int, bytes]]:
    """The whole lines of ledgers with their numbers; a line that an earlier one of them has too is passed over."""
    known: set[bytes] = set()
    for path in ledgers:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        yield from ((path, number, line) for number, line in enumerate(lines, start=1) if line not in known)
        if len(ledgers) > 1:
            known.update(lines)


def records_of(*ledgers: Path) -> Iterator[Record]:
    """What the lines of ledgers say, each once.

    Raises:
        DataError: a line is damaged.
    """
    for path, number, line in lines_of(*ledgers):
        try:
            values = json.loads(line)
            yield KINDS[values.pop("kind")](**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} is damaged",
                expected="a record of this version in every line",
                found=f"line {number}: {type(error).__name__}: {error}",
                likely="a file that was edited, or a sweep of another version",
                do="mend that line; the run folders of the trials are not touched by it",
            ) from None
