"""What one file came to, as the report tells it, and the step from a source file to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from musicvae.data.manifest import Split
from musicvae.data.windows import WindowBlock
from musicvae.groove.drum_map import DrumMap
from preprocess.convert import Conversion, FileCounts, convert
from preprocess.rejection import PASSING, Reason, Rejection
from preprocess.settings import BuildSettings
from preprocess.sources.listing import ABSENT, SourceFile, content_digest, read_source, split_of, stamp


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        digest: 8 bytes of a hash of its content; of the reason if it was not read.
        split: where its windows go; none if it is rejected.
        windows: number of windows it gave.
        counts: what the report of a build adds up or names, by name; counts that are zero are left out.
        settled: whether trying it again, as it lies there, would give the same whatever the day and the machine.
    """

    name: str
    digest: int
    split: Split | None
    windows: int
    counts: Mapping[str, Any] = field(default_factory=dict)
    rejection: Rejection | None = None
    settled: bool = True

    def record(self) -> dict[str, Any]:
        """The file's line of the report."""
        if self.rejection:
            outcome = {"outcome": "rejected", "reason": self.rejection.reason, "detail": self.rejection.detail}
        else:
            outcome = {"outcome": "accepted", "split": self.split, "windows": self.windows}
        return {"name": self.name, **outcome, **self.counts}

    def record_line(self) -> bytes:
        """`record` as a line of JSON."""
        return json.dumps(self.record(), ensure_ascii=False).encode() + b"\n"


def _counted(counts: FileCounts, *, accepted: bool) -> dict[str, Any]:
    """What the report of a build adds up or names, in plain values: a file that waits for its chunk keeps no song."""
    values: dict[str, Any] = {}
    if report := counts.reading:
        values = {
            "hits": report.hits,
            "doubled_hits": report.merged,
            "outside_hits": report.outside,
            "unknown_pitches": {str(pitch): count for pitch, count in sorted(report.unknown.items())},
            "makeshift_hits": int(report.pitches @ report.drum_map.makeshift),
            "notes_not_read": sum(channel.notes for channel in report.findings.not_read),
            "other_metres": dict(report.other_metres),
            "late_tempo": report.late_tempo is not None,
            "triplets": round(report.triplets / report.off_beat, 3) if accepted and report.mostly_triplets else 0,
            "salvaged": report.findings.salvaged,
            "extra_bytes": report.findings.extra_bytes,
        }
    values |= {"dropped_bars": counts.dropped_bars, "filtered": counts.filtered, "signs": counts.signs}
    return {name: value for name, value in values.items() if value}


def convert_file(
    file: SourceFile, settings: BuildSettings, drum_map: DrumMap
) -> tuple[FileOutcome, WindowBlock | None]:
    """Reads and converts one file; a bug on the way is a rejection too, so that it costs one file and not a million."""
    data = read_source(file, settings.limits)
    digest = content_digest(data)
    if isinstance(data, Rejection):
        return rejected(file, data, digest=digest), None
    try:
        conversion = convert(data, settings, drum_map, source=file.name, style=file.style, tempo=file.tempo)
    except MemoryError:
        raise
    except Exception as error:
        bug = Rejection(file.name, Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        conversion = Conversion(bug, FileCounts())
    if isinstance(conversion.result, Rejection):
        return rejected(file, conversion.result, digest=digest, counts=conversion.counts), None
    split = split_of(file, digest, settings.split)
    windows = conversion.result
    return FileOutcome(file.name, digest, split, len(windows), _counted(conversion.counts, accepted=True)), windows


def rejected(file: SourceFile, rejection: Rejection, *, digest: int, counts: FileCounts = FileCounts()) -> FileOutcome:
    """The outcome of a file that is not used. One that is not there is settled: its stamp tells when it comes."""
    settled = rejection.reason not in PASSING or stamp(file) == ABSENT
    return FileOutcome(file.name, digest, None, 0, _counted(counts, accepted=False), rejection, settled)
