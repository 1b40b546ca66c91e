"""What a build did with every file: the counts that must add up, and `report.json`."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from musicvae.durable import write_json
from musicvae.errors import DataError
from preprocess.parts import FileOutcome

REPORT_NAME = "report.json"


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The sums of a build. Hits are those of accepted files.

    Attributes:
        identity: hash of everything that decides the shards: file names, contents, given splits and styles, settings.
        fingerprint: the manifest's.
        source: kind of collection.
        drum_map: name of the drum map that was used.
        seen: files that were looked at.
        accepted: files that gave windows.
        rejected: files that gave none, by reason.
        files: files with windows in a split.
        windows: windows in a split.
        shards: shards of a split.
        left_out: windows left out of a split because they stand in another.
        hits: drum hits read.
        doubled_hits: of these, left out because another has their (step, drum).
        unknown_pitches: of these, left out because the drum map has no class for them, by pitch.

    Raises:
        ValueError: accepted and rejected do not add up to seen.
    """

    identity: str
    fingerprint: str
    source: str
    drum_map: str
    seen: int
    accepted: int
    rejected: Mapping[str, int]
    files: Mapping[str, int]
    windows: Mapping[str, int]
    shards: Mapping[str, int]
    left_out: Mapping[str, int]
    hits: int
    doubled_hits: int
    unknown_pitches: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.accepted + sum(self.rejected.values()) != self.seen:
            raise ValueError(f"{self.accepted} accepted and {dict(self.rejected)} rejected are not {self.seen} seen")

    def write(self, folder: Path, outcomes: Sequence[FileOutcome]) -> None:
        """Writes `report.json`: the sums, and one record a file."""
        write_json(folder / REPORT_NAME, {**asdict(self), "outcomes": [_record(outcome) for outcome in outcomes]})

    @classmethod
    def read(cls, folder: Path) -> "BuildReport":
        """The sums of a finished build.

        Raises:
            DataError: there is no report, or it is damaged.
        """
        path = folder / REPORT_NAME
        try:
            values = json.loads(path.read_text())
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} cannot be read", found=f"{type(error).__name__}: {error}") from None


def sum_hits(outcomes: Sequence[FileOutcome]) -> tuple[int, int, dict[str, int]]:
    """Hits read, doubled, and of unknown pitch by pitch, over the accepted files."""
    accepted = [outcome.hits for outcome in outcomes if outcome.rejection is None]
    unknown: Counter[int] = Counter()
    for hits in accepted:
        unknown.update(hits.unknown_pitches)
    by_pitch = {str(pitch): unknown[pitch] for pitch in sorted(unknown)}
    return sum(hits.read for hits in accepted), sum(hits.doubled for hits in accepted), by_pitch


def count_reasons(outcomes: Sequence[FileOutcome]) -> dict[str, int]:
    """Rejected files by reason, the most frequent first."""
    reasons = Counter(str(outcome.rejection.reason) for outcome in outcomes if outcome.rejection)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _record(outcome: FileOutcome) -> dict[str, Any]:
    record: dict[str, Any] = {"name": outcome.name, "hits": outcome.hits.read}
    if outcome.hits.doubled:
        record["doubled_hits"] = outcome.hits.doubled
    if outcome.hits.unknown_pitches:
        record["unknown_pitches"] = {str(pitch): count for pitch, count in outcome.hits.unknown_pitches.items()}
    if outcome.rejection:
        return {**record, "outcome": "rejected", "reason": outcome.rejection.reason, "detail": outcome.rejection.detail}
    return {**record, "outcome": "accepted", "split": outcome.split, "windows": outcome.windows}
