"""What a build did with every file: a line for each, the counts that must add up, and `report.json`.

The lines are gathered from the parts once, added up on the way, and kept on disk.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from musicvae.data.statistics import WindowStatistics
from musicvae.durable import aside_of
from musicvae.errors import DataError
from preprocess.parts import read_records
from preprocess.plan import FIRST, Ledger
from preprocess.rejection import Reason
from preprocess.sources.listing import SourceFile

REPORT_NAME = "report.json"
OUTCOMES = ' "outcomes": [\n'
"""The line of `report.json` between the sums and the files, one a line: sums are read without the files."""


@dataclass(slots=True)
class RecordSums:
    """Adds up the records of files as they go by.

    Attributes:
        seen: files.
        reasons: rejected files by reason.
        filtered: windows that a filter left out, by filter.
        hits: hits of accepted files: `hits` read, and of these `doubled_hits`, `outside_hits`, `unknown_hits`.
        unknown_pitches: hits of unknown pitch in all files that were read, rejected ones too, by pitch.
        dropped_bars: bars of accepted files that can stand in no window, by reason.
    """

    seen: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    unknown_pitches: Counter[str] = field(default_factory=Counter)
    dropped_bars: Counter[str] = field(default_factory=Counter)

    def add(self, record: Mapping[str, Any]) -> None:
        """Counts one file; of a duplicate that it is one, and nothing in it."""
        self.seen += 1
        rejected = record["outcome"] == "rejected"
        if rejected:
            self.reasons[record["reason"]] += 1
            if record["reason"] == Reason.DUPLICATE_FILE:
                return
        self.filtered.update(record.get("filtered", {}))
        unknown = record.get("unknown_pitches", {})
        self.unknown_pitches.update(unknown)
        if not rejected:
            self.dropped_bars.update(record.get("dropped_bars", {}))
            self.hits.update({name: record.get(name, 0) for name in ("hits", "doubled_hits", "outside_hits")})
            self.hits["unknown_hits"] += sum(unknown.values())

    def most_frequent_reasons(self) -> dict[str, int]:
        """Rejected files by reason, the most frequent first."""
        return dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])))


def gather_records(path: Path, parts: Sequence[Path], ledger: Ledger, files: Sequence[SourceFile]) -> RecordSums:
    """Writes the record of every file, in order, as lines to `path`; duplicates get their own.

    Args:
        parts: the parts of a build in order.
        ledger: what became of the files, duplicates dropped or not.
        files: all files in order; those that are duplicated are named.

    Raises:
        OSError: a part is gone, or the lines cannot be written.
    """
    sums, number = RecordSums(), 0
    with path.open("wb") as file:
        for part in parts:
            for line in read_records(part):
                record = json.loads(line)
                if ledger.is_dropped(number):
                    record = {
                        "name": record["name"],
                        "outcome": "rejected",
                        "reason": Reason.DUPLICATE_FILE,
                        "detail": f"same content as {files[int(ledger.duplicate_of[number])].name}",
                    }
                    line = json.dumps(record, ensure_ascii=False).encode()
                sums.add(record)
                file.write(line + b"\n")
                number += 1
    return sums


def record_lines(path: Path) -> Iterator[bytes]:
    """The lines that `gather_records` wrote."""
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def equal_files(ledger: Ledger, files: Sequence[SourceFile]) -> tuple[tuple[str, ...], ...]:
    """The names of accepted files of equal content, where all are kept."""
    groups: dict[int, list[str]] = {}
    for number in (ledger.duplicate_of != FIRST).nonzero()[0].tolist():
        if not ledger.is_dropped(number):
            first = int(ledger.duplicate_of[number])
            groups.setdefault(first, [files[first].name]).append(files[number].name)
    return tuple(tuple(names) for names in groups.values())


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The sums of a build.

    Attributes:
        identity: hash of everything that decides the shards: file names, contents, given splits and styles, settings.
        fingerprint: the manifest's; empty if no shards were made.
        source: kind of collection.
        drum_map: name of the drum map that was used.
        drums: its classes.
        settings: the settings as they were resolved.
        seen: files that were looked at.
        accepted: files that gave windows.
        rejected: files that gave none, by reason, the most frequent first.
        windows_cut: windows cut from all files but duplicates, before any was left out.
        filtered: windows that a filter left out, by filter.
        left_out: windows left out of a split because they stand in another.
        repeated: windows left out of a split because an earlier one has their tokens.
        windows: windows in a split.
        files: files with windows in a split.
        shards: shards of a split.
        hits: drum hits read in accepted files.
        doubled_hits: of these, left out because another has their (step, drum).
        unknown_hits: of these, of a pitch that the drum map does not know.
        outside_hits: of these, in bars that were dropped.
        unknown_pitches: hits of unknown pitch in all files that were read, rejected ones too, by pitch.
        dropped_bars: bars of accepted files that can stand in no window, by reason.
        equal_files: names of files of equal content that were all kept, because a table lists them.
        statistics: what the windows of a split look like.
        unopened_archives: archives that lie in the folder and were not looked into.

    Raises:
        ValueError: files or windows that do not add up.
    """

    identity: str
    fingerprint: str
    source: str
    drum_map: str
    drums: tuple[str, ...]
    settings: Mapping[str, Any]
    seen: int
    accepted: int
    rejected: Mapping[str, int]
    windows_cut: int
    filtered: Mapping[str, int]
    left_out: Mapping[str, int]
    repeated: Mapping[str, int]
    windows: Mapping[str, int]
    files: Mapping[str, int]
    shards: Mapping[str, int]
    hits: int
    doubled_hits: int
    unknown_hits: int
    outside_hits: int
    unknown_pitches: Mapping[str, int]
    dropped_bars: Mapping[str, int]
    equal_files: tuple[tuple[str, ...], ...]
    statistics: Mapping[str, WindowStatistics]
    unopened_archives: int = 0

    def __post_init__(self) -> None:
        if self.accepted + sum(self.rejected.values()) != self.seen:
            raise ValueError(f"{self.accepted} accepted and {dict(self.rejected)} rejected are not {self.seen} seen")
        ways = (self.filtered, self.left_out, self.repeated, self.windows)
        if sum(sum(way.values()) for way in ways) != self.windows_cut:
            raise ValueError(f"{[dict(way) for way in ways]} windows are not {self.windows_cut} cut")

    def write(self, path: Path, records: Iterable[bytes]) -> None:
        """Writes the sums, and the record of each file on a line of its own; never all of them in memory."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["statistics"] = {split: own.to_json() for split, own in self.statistics.items()}
        head = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False).removesuffix("\n}")
        aside = aside_of(path)
        try:
            with aside.open("wb") as file:
                file.write(f"{head},\n{OUTCOMES}".encode())
                for number, record in enumerate(records):
                    file.write(b"  " if number == 0 else b",\n  ")
                    file.write(record)
                file.write(b"\n ]\n}\n")
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> "BuildReport":
        """The sums of a finished build.

        Raises:
            DataError: there is no report, or it is damaged.
        """
        path = folder / REPORT_NAME
        try:
            with path.open(encoding="utf-8") as file:
                head = "".join(itertools.takewhile(lambda line: line != OUTCOMES, file))
            values = json.loads(head.rstrip().removesuffix(",") + "\n}")
            values["drums"] = tuple(values["drums"])
            values["equal_files"] = tuple(map(tuple, values["equal_files"]))
            values["statistics"] = {k: WindowStatistics.from_json(v) for k, v in values["statistics"].items()}
            return cls(**{entry.name: values[entry.name] for entry in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} cannot be read", found=f"{type(error).__name__}: {error}") from None
