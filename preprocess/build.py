"""A collection of MIDI files -> a folder of shards with manifest and reports: whole, or to be continued."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from cluster.tasks import TaskRunner
from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.statistics import WindowStatistics
from musicvae.data.store import FoundWindow
from musicvae.durable import write_whole
from musicvae.errors import DataError
from musicvae.groove.drum_map import DrumMap
from preprocess.existing import build_identity, drum_map_of, output_folder
from preprocess.parts import NO_SPLIT, PartSummary, read_windows
from preprocess.plan import Ledger, SplitPlan
from preprocess.rejection import Reason
from preprocess.report import REPORT_NAME, BuildReport, RecordSums, equal_files, gather_records, record_lines
from preprocess.report_page import PAGE_NAME, report_page
from preprocess.settings import BuildSettings
from preprocess.sources.listing import Source, SourceFile, ZipPlace
from preprocess.sources.open import open_source
from preprocess.tasks import Batch, ShardPlan, WrittenShard, convert_batch, write_planned_shard
from preprocess.work_folder import check_shared, open_work_folder

BATCH_FILES = 64
"""Files of one task: enough to outweigh what a task costs, few enough to lose with a killed driver."""
LANDMARKS = 3
"""Paths of the source that are looked for, to tell a lost source from missing files."""
EXAMPLES = 6
"""Windows that the report draws."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is; `stage` is `files` while they are converted and `shards` while they are written."""

    stage: str
    done: int
    total: int
    windows: int
    rejected: int


OnProgress = Callable[[Progress], None]


class Batches(Sequence[Batch]):
    """All files in batches, each made when it is asked for."""

    def __init__(self, files: Sequence[SourceFile], parts: Path) -> None:
        self._files = files
        self.parts = [parts / f"{number:08d}.zip" for number in range(-(-len(files) // BATCH_FILES))]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Batch:  # type: ignore[override]
        part = self.parts[number]
        return Batch(tuple(self._files[number * BATCH_FILES : (number + 1) * BATCH_FILES]), part)


def build(
    source_name: str,
    out: Path,
    settings: BuildSettings,
    run: TaskRunner,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> BuildReport:
    """Builds the shards; the same files and settings give the same bytes for any runner, after any number of kills.

    Until they are whole all work lies in `OUT.building`; the same call goes on there after an interruption or an error.

    Args:
        source_name: what `--source` says.
        out: the folder to make; it appears under this name only when it is whole.
        overwrite: whether an existing `out` is replaced, once the new one is whole.

    Raises:
        ConfigError: no such source, a drum map that cannot be used, another build at work, or a node that does not
            see the files.
        DataError: no MIDI files, none of them gave a window, or more were rejected than the settings allow.
        OSError: something cannot be written, or the source is gone.
    """
    out = output_folder(out)
    with open_work_folder(out) as work:
        source = open_source(source_name, settings, scratch=work.scratch, avoid=[out, work.path])
        drum_map = drum_map_of(settings, source)
        landmarks = _landmarks(source)
        check_shared(run, work.path, landmarks)

        batches = Batches(source.files, work.parts)
        convert = partial(convert_batch, settings=settings, drum_map=drum_map, landmarks=landmarks)
        ledger = Ledger(_convert_files(run(convert, batches), len(batches), len(source.files), on_progress))
        if not source.keeps_duplicates:
            ledger.drop_duplicates()
        records = work.path / "records"
        sums = gather_records(records, batches.parts, ledger, source.files)
        kept = ledger.keep(source.splits, drop_repeated=settings.filters.drop_repeated)
        plans = [
            SplitPlan(split, ledger, kept, batches.parts, work.result, settings.shard.windows)
            for split in source.splits
        ]
        report = partial(_report, source, settings, drum_map, ledger, sums, plans)
        early = work.path / REPORT_NAME
        report(fingerprint="", shards=[[] for _ in plans]).write(early, record_lines(records))
        _check_something_kept(sums, plans, early)
        check_rejected_share(sums.most_frequent_reasons(), sums.seen, settings, early)

        shards = _write_shards(plans, run, settings, on_progress)
        manifest = ShardManifest(settings.window.grid, drum_map, dict(map(_split_entry, plans, shards)))
        whole = report(fingerprint=manifest.fingerprint, shards=shards)
        whole.write(work.result / REPORT_NAME, record_lines(records))
        write_whole(work.result / PAGE_NAME, report_page(whole, _examples(plans, manifest)))
        manifest.write(work.result)
        work.publish(out, [shard.entry.name for shard in chain(*shards)], replace=overwrite)
    return whole


def _landmarks(source: Source) -> tuple[str, ...]:
    places = [file.place for file in islice(iter(source.files), LANDMARKS)]
    paths = {place.archive if isinstance(place, ZipPlace) else place.path for place in places}
    return tuple(sorted(path for path in paths if Path(path).exists()))


def _convert_files(
    answers: Iterable[tuple[int, PartSummary]], batches: int, files: int, on_progress: OnProgress
) -> list[PartSummary]:
    summaries: dict[int, PartSummary] = {}
    done = windows = rejected = 0
    for number, summary in answers:
        summaries[number] = summary.copied()
        done += len(summary.windows)
        windows += len(summary.hashes)
        rejected += int((summary.split == NO_SPLIT).sum())
        on_progress(Progress("files", done, files, windows, rejected))
    return [summaries[number] for number in range(batches)]


def _write_shards(
    plans: Sequence[SplitPlan], run: TaskRunner, settings: BuildSettings, on_progress: OnProgress
) -> list[list[WrittenShard]]:
    """The shards of each plan, in order."""
    tasks = _Joined(plans)
    written: dict[int, WrittenShard] = {}
    windows = 0
    for number, shard in run(partial(write_planned_shard, grid=settings.window.grid), tasks):
        written[number] = shard
        windows += shard.entry.windows
        on_progress(Progress("shards", len(written), len(tasks), windows, 0))
    in_order = (written[number] for number in range(len(tasks)))
    return [list(islice(in_order, len(plan))) for plan in plans]


class _Joined(Sequence[ShardPlan]):
    """The plans of all splits one after the other, none of them made before it is asked for."""

    def __init__(self, plans: Sequence[SplitPlan]) -> None:
        self._place = [(plan, number) for plan in plans for number in range(len(plan))]

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, index: int) -> ShardPlan:  # type: ignore[override]
        plan, number = self._place[index]
        return plan[number]


def _split_entry(plan: SplitPlan, shards: Sequence[WrittenShard]) -> tuple[str, SplitEntry]:
    return plan.split, SplitEntry(plan.windows, plan.files, tuple(shard.entry for shard in shards))


def _report(
    source: Source,
    settings: BuildSettings,
    drum_map: DrumMap,
    ledger: Ledger,
    sums: RecordSums,
    plans: Sequence[SplitPlan],
    *,
    fingerprint: str,
    shards: Sequence[Sequence[WrittenShard]],
) -> BuildReport:
    zero = WindowStatistics.zero(drum_map.num_drums)
    return BuildReport(
        identity=build_identity(source, settings, drum_map, ledger.digest),
        fingerprint=fingerprint,
        source=source.kind,
        drum_map=drum_map.name,
        drums=drum_map.classes,
        settings=settings.model_dump(mode="json"),
        seen=ledger.seen,
        accepted=ledger.accepted,
        rejected=sums.most_frequent_reasons(),
        windows_cut=ledger.accepted_windows + sums.filtered.total(),
        filtered=dict(sorted(sums.filtered.items())),
        left_out={plan.split: plan.left_out for plan in plans},
        repeated={plan.split: plan.repeated for plan in plans},
        windows={plan.split: plan.windows for plan in plans},
        files={plan.split: plan.files for plan in plans},
        shards={plan.split: len(own) for plan, own in zip(plans, shards, strict=True)},
        hits=sums.hits["hits"],
        doubled_hits=sums.hits["doubled_hits"],
        unknown_hits=sums.hits["unknown_hits"],
        outside_hits=sums.hits["outside_hits"],
        unknown_pitches={pitch: sums.unknown_pitches[pitch] for pitch in sorted(sums.unknown_pitches, key=int)},
        dropped_bars=dict(sorted(sums.dropped_bars.items())),
        equal_files=equal_files(ledger, source.files),
        statistics={
            plan.split: sum((shard.statistics for shard in own), zero) for plan, own in zip(plans, shards, strict=True)
        },
        unopened_archives=source.unopened_archives,
    )


def _check_something_kept(sums: RecordSums, plans: Sequence[SplitPlan], report: Path) -> None:
    if any(plan.windows for plan in plans):
        return
    reasons = sums.most_frequent_reasons()
    likely = {
        Reason.INTERNAL_ERROR: "a bug of this program: please report it",
        Reason.MEMORY: "limits.memory_mib is too small for these settings",
        Reason.TIMEOUT: "limits.cpu_seconds or limits.wall_seconds is too small for these settings",
        Reason.FILTERED: "filters that leave nothing",
    }
    raise DataError(
        "no file gave a window",
        expected="drum performances on channel 10, in 4/4, of at least one window's bars",
        found=f"{sums.seen} files, rejected: {_listed(reasons)}",
        likely=likely.get(Reason(next(iter(reasons))), "another kind of music, or drums on other channels"),
        do=f"look at {report}, which names every file with its reason; reading.channels and reading.drum_tracks "
        "choose other notes",
    )


def check_rejected_share(rejected: Mapping[str, int], seen: int, settings: BuildSettings, report: Path) -> None:
    """Makes sure that no more files are rejected than the settings allow.

    Args:
        rejected: files by reason.
        report: where the outcome of every file stands.

    Raises:
        DataError: more are.
    """
    most, found = settings.max_rejected_share, sum(rejected.values())
    if most is not None and found > most * seen:
        raise DataError(
            "too many files are rejected",
            expected=f"at most max_rejected_share={most:g} of {seen} files",
            found=f"{found} ({found / seen:.1%}): {_listed(rejected)}",
            do=f"look at {report}, which names every file with its reason; then mend them or raise the share: what "
            "was converted is kept",
        )


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


def _examples(plans: Sequence[SplitPlan], manifest: ShardManifest) -> list[FoundWindow]:
    """Windows drawn from all splits, the same for the same shards; from the parts, which this process reads lightly."""
    ends = np.cumsum([plan.windows for plan in plans])
    draws = np.random.default_rng(int(manifest.fingerprint, 16)).integers(ends[-1], size=EXAMPLES)
    found = []
    for draw in np.unique(draws).tolist():
        place = int(np.searchsorted(ends, draw, side="right"))
        plan, window = plans[place], draw - int(ends[place - 1] if place else 0)
        piece = plan.piece(window)
        block = read_windows(piece.part, piece.rows)
        found.append(FoundWindow(plan.split, window, block.meta[0], block.groove(0, manifest.grid)))
    return found
