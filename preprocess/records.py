"""The report's line for every file: gathered from the parts once, added up on the way, and kept on disk."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocess.ledger import FIRST, Ledger
from preprocess.parts import read_records
from preprocess.rejection import Reason
from preprocess.sources.listing import SourceFile


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
