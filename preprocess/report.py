"""What a build did with every file: a line for each, the counts that must add up, `report.json` and `report.html`.

The lines are gathered from the parts once, added up on the way, and kept on disk. The page stands alone: no script, no
font and no picture comes from elsewhere. Names of files are hostile until they are escaped, so jinja2 escapes every
value. The same build gives the same page.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from musicvae.data.manifest import MANIFEST_NAME
from musicvae.data.statistics import WindowStatistics
from musicvae.data.store import FoundWindow
from musicvae.durable import NO_UTF8, aside_of
from musicvae.errors import DataError
from musicvae.groove.drum_map import pitch_name
from musicvae.midi.settings import Metre
from preprocess.checks import MOST_NAMES, SignSums, collection_warnings
from preprocess.pages.charts import Row, class_shares, histograms, percent, ranking, waterfall
from preprocess.pages.page import changed_settings, count, page_environment, render_report
from preprocess.parts import read_records
from preprocess.plan import FIRST, FileIndex
from preprocess.rejection import Reason
from preprocess.settings import BuildSettings
from preprocess.sources.listing import SourceFile

REPORT_NAME = "report.json"
READING: Mapping[str, str] = {
    "makeshift_hits": "hits read as another drum",
    "notes_not_read": "notes on channels that were not read",
    "late_tempo": "files with hits before their first tempo",
    "triplets": "files mostly in triplets, moved to sixteenths",
    "salvaged": "damaged files, read in part",
    "extra_bytes": "files with extra bytes after their last track",
}
"""What a build counts of the reading of all files, by the name of the figure in a file's record."""
SUMMED = ("makeshift_hits", "notes_not_read")
"""Of these, what counts hits or notes; the others count files."""
OUTCOMES = ' "outcomes": [\n'
"""The line of `report.json` between the sums and the files, one a line: sums are read without the files."""
PAGE_NAME = "report.html"
TEMPLATE = Path(__file__).with_name("report_page.html.jinja")
STYLE = Path(__file__).with_name("report_page.css")
MOST_PITCHES = 20
MOST_EQUAL_FILES = 20
HINTS: Mapping[str, str] = {
    Reason.UNREADABLE: "permissions, broken links, damaged archives",
    Reason.TOO_LARGE: "above limits.max_bytes, max_notes or max_bars",
    Reason.NOT_MIDI: "another format, or damaged",
    Reason.SMPTE: "SMPTE time code, which has no bars",
    Reason.NO_DRUMS: "no known drum pitch; see reading.channels and reading.drum_tracks",
    Reason.UNKNOWN_PITCH: "because reading.unknown_pitch is reject",
    Reason.METRE: "not a bar in 4/4",
    Reason.TOO_SHORT: "no section in 4/4 as long as a window",
    Reason.FILTERED: "the filters left out all windows",
    Reason.DUPLICATE_FILE: "the same content as a file that is used",
    Reason.TIMEOUT: "above limits.cpu_seconds or limits.wall_seconds, twice",
    Reason.MEMORY: "above limits.memory_mib, twice",
    Reason.WORKER_DIED: "crashed its process, twice",
    Reason.INTERNAL_ERROR: "a bug in this program; please report it",
}
"""What a rejection means or which setting decides it, for the reader of the page."""
AS_4_4 = {metre: f"reading.metres={metre} reads it as 4/4" for metre in get_args(Metre)}


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
        reading: what else is worth knowing of what was read, see `READING`.
        other_metres: bars in metres that are not read.
        triplets: the first few files that are mostly triplets, with the share of their hits off the beat.
        signs: what the files show that makes a warning.
    """

    seen: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    unknown_pitches: Counter[str] = field(default_factory=Counter)
    dropped_bars: Counter[str] = field(default_factory=Counter)
    reading: Counter[str] = field(default_factory=Counter)
    other_metres: Counter[str] = field(default_factory=Counter)
    triplets: dict[str, float] = field(default_factory=dict)
    signs: SignSums = field(default_factory=SignSums)

    def add(self, record: Mapping[str, Any]) -> None:
        """Counts one file; of a duplicate that it is one, and nothing in it."""
        self.seen += 1
        rejected = record["outcome"] == "rejected"
        if rejected:
            self.reasons[record["reason"]] += 1
            if record["reason"] == Reason.DUPLICATE_FILE:
                return
        for name in ("filtered", "unknown_pitches", "other_metres"):
            if counts := record.get(name):
                getattr(self, name).update(counts)
        if signs := record.get("signs"):
            self.signs.add(record["name"], signs)
        for name in READING.keys() & record.keys():
            self.reading[name] += record[name] if name in SUMMED else 1
        self.reading["hits_read"] += record.get("hits", 0)
        if "triplets" in record and len(self.triplets) < MOST_NAMES:
            self.triplets[record["name"]] = record["triplets"]
        if not rejected:
            self.dropped_bars.update(record.get("dropped_bars", {}))
            for name in ("hits", "doubled_hits", "outside_hits"):
                self.hits[name] += record.get(name, 0)
            self.hits["unknown_hits"] += sum(record.get("unknown_pitches", {}).values())

    def most_frequent_reasons(self) -> dict[str, int]:
        """Rejected files by reason, the most frequent first."""
        return dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])))

    def warnings(self, accepted: int) -> list[dict[str, Any]]:
        """The warnings of the collection as JSON values."""
        read, not_read = self.reading["hits_read"], self.reading["notes_not_read"]
        return [
            asdict(warning)
            for warning in collection_warnings(self.signs, accepted=accepted, hits=read, not_read=not_read)
        ]


def gather_records(path: Path, parts: Sequence[Path], file_index: FileIndex, files: Sequence[SourceFile]) -> RecordSums:
    """Writes the record of every file, in order, as lines to `path`; duplicates get their own.

    Args:
        parts: the parts of a build in order.
        file_index: what became of the files, duplicates dropped or not.
        files: all files in order; those that are duplicated are named.

    Raises:
        OSError: a part is gone, or the lines cannot be written.
    """
    sums, number = RecordSums(), 0
    with path.open("wb") as file:
        for part in parts:
            for line in read_records(part):
                record = json.loads(line)
                if file_index.is_dropped(number):
                    record = {
                        "name": record["name"],
                        "outcome": "rejected",
                        "reason": Reason.DUPLICATE_FILE,
                        "detail": f"same content as {files[int(file_index.duplicate_of[number])].name}",
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


def equal_files(file_index: FileIndex, files: Sequence[SourceFile]) -> tuple[tuple[str, ...], ...]:
    """The names of accepted files of equal content, where all are kept."""
    groups: dict[int, list[str]] = {}
    for number in (file_index.duplicate_of != FIRST).nonzero()[0].tolist():
        if not file_index.is_dropped(number):
            first = int(file_index.duplicate_of[number])
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
        reading: what else is worth knowing of what was read, by the names of `READING`.
        other_metres: bars in metres that were not read, in all files that were read.
        triplets: the first few files that are mostly triplets, with the share of their hits off the beat.
        warnings: what is probably wrong with the collection, see `preprocess.checks.CollectionWarning`.

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
    reading: Mapping[str, int] = field(default_factory=dict)
    other_metres: Mapping[str, int] = field(default_factory=dict)
    triplets: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if self.accepted + sum(self.rejected.values()) != self.seen:
            raise ValueError(f"{self.accepted} accepted and {dict(self.rejected)} rejected are not {self.seen} seen")
        outcomes = (self.filtered, self.left_out, self.repeated, self.windows)
        if sum(sum(outcome.values()) for outcome in outcomes) != self.windows_cut:
            raise ValueError(f"{[dict(outcome) for outcome in outcomes]} windows are not {self.windows_cut} cut")

    def write(self, path: Path, records: Iterable[bytes]) -> None:
        """Writes the sums, and the record of each file on a line of its own; never all of them in memory."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["statistics"] = {split: statistics.to_json() for split, statistics in self.statistics.items()}
        head = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False).removesuffix("\n}")
        aside = aside_of(path)
        try:
            with aside.open("wb") as file:
                file.write(f"{head},\n{OUTCOMES}".encode(errors=NO_UTF8))
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
            return cls(**{entry.name: values[entry.name] for entry in fields(cls) if entry.name in values})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} cannot be read", found=f"{type(error).__name__}: {error}") from None


def report_page(report: BuildReport, examples: Sequence[FoundWindow]) -> str:
    """The page as HTML; it can be encoded as UTF-8 whatever the names of the files are.

    Args:
        examples: windows to draw.
    """
    counted = {split: statistics for split, statistics in report.statistics.items() if report.windows[split]}
    pitches = sorted(report.unknown_pitches.items(), key=lambda item: (-item[1], int(item[0])))
    rare = [hits for _, hits in pitches[MOST_PITCHES:]]
    return render_report(
        page_environment(TEMPLATE.parent),
        TEMPLATE,
        [STYLE],
        title=f"Drum windows from {report.seen:,} files ({report.source})",
        result=_result(report),
        beside=[REPORT_NAME, MANIFEST_NAME],
        command="jobs.build_shards",
        report=report,
        grid=BuildSettings.model_validate(report.settings).window.grid,
        drums=report.drums,
        tiles=_tiles(report),
        files=_file_rows(report),
        windows=_window_rows(report),
        hits=_hit_rows(report),
        reasons=ranking(report.rejected, report.seen, HINTS),
        reading=ranking({READING[name]: count for name, count in report.reading.items()}, 0, {}),
        triplets=[(name, f"{share:.0%}") for name, share in report.triplets.items()],
        other_metres=ranking(report.other_metres, sum(report.other_metres.values()), AS_4_4),
        dropped_bars=ranking(report.dropped_bars, sum(report.dropped_bars.values()), {}),
        split_table=_split_table(report),
        counted=counted,
        drum_shares=class_shares(counted, report.drums),
        histograms=histograms(counted) if counted else [],
        examples=examples,
        pitches=ranking(
            {f"{pitch} {pitch_name(int(pitch))}".strip(): hits for pitch, hits in pitches[:MOST_PITCHES]},
            sum(report.unknown_pitches.values()),
            {},
        ),
        more_pitches=f"and {len(rare):,} more, {sum(rare):,} hits" if rare else "",
        changed=changed_settings(report.settings, BuildSettings().model_dump(mode="json")),
        equal_files=report.equal_files[:MOST_EQUAL_FILES],
        more_equal=len(report.equal_files[MOST_EQUAL_FILES:]),
    )


def _result(report: BuildReport) -> str:
    """What became of the files, in a sentence."""
    windows = sum(report.windows.values())
    return f"{report.accepted:,} of {report.seen:,} files gave {windows:,} windows in {len(report.windows)} splits."


def _tiles(report: BuildReport) -> list[tuple[str, str]]:
    hits = sum(int(statistics.grooves.hits.sum()) for statistics in report.statistics.values())
    return [
        (count(report.seen), "files seen"),
        (count(report.accepted), f"accepted, {percent(report.accepted, report.seen) or 'of none'}"),
        (count(sum(report.windows.values())), "windows"),
        (count(hits), "hits in them"),
        (percent(_lost_hits(report), report.hits) or "none", "of hits are left out"),
        (count(sum(report.shards.values())), "shards"),
    ]


def _lost_hits(report: BuildReport) -> int:
    return report.doubled_hits + report.outside_hits + (0 if _to_nearest(report) else report.unknown_hits)


def _to_nearest(report: BuildReport) -> bool:
    """Whether hits of unknown pitch are kept, in the class of the nearest pitch."""
    return report.settings["reading"]["unknown_pitch"] == "nearest"


def _file_rows(report: BuildReport) -> list[Row]:
    rejected = sum(report.rejected.values())
    return waterfall("files seen", report.seen, [("rejected", rejected, "")], "accepted", {"all": report.accepted})


def _window_rows(report: BuildReport) -> list[Row]:
    filtered = [(f"filters.{name}", windows, "") for name, windows in report.filtered.items()]
    left_out = ", ".join(f"{split} {windows:,}" for split, windows in report.left_out.items() if windows)
    repeated = ", ".join(f"{split} {windows:,}" for split, windows in report.repeated.items() if windows)
    losses = [
        *(filtered or [("left out by filters", 0, "")]),
        ("contained in another split", sum(report.left_out.values()), left_out),
        ("repeated in the same split", sum(report.repeated.values()), repeated),
    ]
    return waterfall("cut from the files", report.windows_cut, losses, "kept", report.windows)


def _hit_rows(report: BuildReport) -> list[Row]:
    losses = [
        ("same step and drum as a louder hit", report.doubled_hits, "the loudest one is kept"),
        ("outside sections in 4/4", report.outside_hits, ""),
        ("unknown pitch", 0 if _to_nearest(report) else report.unknown_hits, ""),
    ]
    return waterfall("read", report.hits, losses, "kept", {"all": report.hits - _lost_hits(report)})


def _split_table(report: BuildReport) -> list[tuple[str, list[str]]]:
    """Name and value in each split of what is told in figures."""
    columns = [_split_column(report, split) for split in report.windows]
    return [(name, [column[name] for column in columns]) for name in columns[0]]


def _split_column(report: BuildReport, split: str) -> dict[str, str]:
    statistics = report.statistics[split]
    return {
        "windows": count(report.windows[split]),
        "files": count(report.files[split]),
        "shards": count(report.shards[split]),
        "empty windows": percent(statistics.grooves.empty, statistics.grooves.windows),
        "hits per bar, mean": f"{statistics.grooves.hits_per_bar:.2f}",
        "quantization error, mean": f"{statistics.mean_offset:+.3f} steps",
        "quantization error, deviation": f"{statistics.offset_deviation:.3f} steps",
        "velocity, mean": f"{statistics.mean_velocity:.1f}",
    }
