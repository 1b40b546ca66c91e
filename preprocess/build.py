"""A collection of MIDI files -> a folder of shards with manifest and reports: whole, or to be continued."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, get_args

import numpy as np

from cluster.tasks import TaskRunner
from musicvae.data.manifest import ShardManifest, SplitEntry
from musicvae.data.statistics import WindowStatistics
from musicvae.data.store import FoundWindow
from musicvae.durable import output_folder, write_whole
from musicvae.errors import DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.midi.settings import Metre
from preprocess import existing, report, work_folder
from preprocess.parts import NO_SPLIT, PartSummary, read_windows
from preprocess.plan import FileIndex, SplitAssignment
from preprocess.rejection import Reason
from preprocess.settings import BuildSettings
from preprocess.sources.listing import Source, SourceFile, ZipPlace, is_there
from preprocess.sources.open import open_source
from preprocess.tasks import Batch, ShardAssignment, WrittenShard, convert_batch, write_planned_shard

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
) -> report.BuildReport:
    """Builds the shards; the same files and settings give the same bytes for any runner, after any number of kills.

    Until they are whole all work lies in `OUT.building`; the same call goes on there after an interruption or an error.

    Args:
        source_name: what `--source` says.
        out: the folder to make; it appears under this name only when it is whole.
        overwrite: whether an existing `out` is replaced, once the new one is whole.

    Raises:
        ConfigError: no such source, a drum map that cannot be used, another build at work.
        DataError: no MIDI files, none of them gave a window, or more were rejected than the settings allow.
        OSError: something cannot be written, or the source is gone.
    """
    out = output_folder(out)
    with work_folder.open_work_folder(out) as work, ExitStack() as held:
        source = open_source(source_name, settings, scratch=work.scratch, avoid=[out, work.path])
        drum_map = existing.drum_map_of(settings, source)
        landmarks = _landmarks(source)
        look = held.enter_context(work_folder.looking_for(work.path, landmarks))

        batches = Batches(source.files, work.parts)
        convert = partial(convert_batch, settings=settings, drum_map=drum_map, landmarks=landmarks)
        answers = run(convert, batches, look=look)
        file_index = FileIndex(_convert_files(answers, len(batches), len(source.files), on_progress))
        if not source.keeps_duplicates:
            file_index.drop_duplicates()
        records = work.path / "records"
        sums = report.gather_records(records, batches.parts, file_index, source.files)
        kept = file_index.keep(source.splits, drop_repeated=settings.filters.drop_repeated)
        plans = [
            SplitAssignment(split, file_index, kept, batches.parts, work.result, settings.shard.windows)
            for split in source.splits
        ]
        report_of = partial(_report, source, settings, drum_map, file_index, sums, plans)
        early = work.path / report.REPORT_NAME
        report_of(fingerprint="", shards=[[] for _ in plans]).write(early, report.record_lines(records))
        _check_something_kept(sums, plans, early)
        check_rejected_share(sums.most_frequent_reasons(), sums.seen, settings, early)
        check_warnings(sums.warnings(file_index.accepted), settings, early)

        shards = _write_shards(plans, run, look, settings, on_progress)
        manifest = ShardManifest(settings.window.grid, drum_map, dict(map(_split_entry, plans, shards)))
        whole = report_of(fingerprint=manifest.fingerprint, shards=shards)
        whole.write(work.result / report.REPORT_NAME, report.record_lines(records))
        write_whole(work.result / report.PAGE_NAME, report.report_page(whole, _examples(plans, manifest)))
        manifest.write(work.result)
        work.publish(out, [shard.entry.name for shard in chain(*shards)], replace=overwrite)
    return whole


def _landmarks(source: Source) -> tuple[str, ...]:
    places = [file.place for file in islice(iter(source.files), LANDMARKS)]
    paths = {place.archive if isinstance(place, ZipPlace) else place.path for place in places}
    return tuple(sorted(path for path in paths if is_there(path)))


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
    plans: Sequence[SplitAssignment],
    run: TaskRunner,
    look: Callable[[], str],
    settings: BuildSettings,
    on_progress: OnProgress,
) -> list[list[WrittenShard]]:
    """The shards of each plan, in order."""
    tasks = _Joined(plans)
    written: dict[int, WrittenShard] = {}
    windows = 0
    for number, shard in run(partial(write_planned_shard, grid=settings.window.grid), tasks, look=look):
        written[number] = shard
        windows += shard.entry.windows
        on_progress(Progress("shards", len(written), len(tasks), windows, 0))
    in_order = (written[number] for number in range(len(tasks)))
    return [list(islice(in_order, len(plan))) for plan in plans]


class _Joined(Sequence[ShardAssignment]):
    """The plans of all splits one after the other, none of them made before it is asked for."""

    def __init__(self, plans: Sequence[SplitAssignment]) -> None:
        self._place = [(plan, number) for plan in plans for number in range(len(plan))]

    def __len__(self) -> int:
        return len(self._place)

    def __getitem__(self, index: int) -> ShardAssignment:  # type: ignore[override]
        plan, number = self._place[index]
        return plan[number]


def _split_entry(plan: SplitAssignment, shards: Sequence[WrittenShard]) -> tuple[str, SplitEntry]:
    return plan.split, SplitEntry(plan.windows, plan.files, tuple(shard.entry for shard in shards))


def _report(
    source: Source,
    settings: BuildSettings,
    drum_map: DrumMap,
    file_index: FileIndex,
    sums: report.RecordSums,
    plans: Sequence[SplitAssignment],
    *,
    fingerprint: str,
    shards: Sequence[Sequence[WrittenShard]],
) -> report.BuildReport:
    zero = WindowStatistics.zero(drum_map.num_drums)
    return report.BuildReport(
        identity=existing.build_identity(source, settings, drum_map, file_index.digest),
        fingerprint=fingerprint,
        source=source.kind,
        drum_map=drum_map.name,
        drums=drum_map.classes,
        settings=settings.model_dump(mode="json"),
        seen=file_index.seen,
        accepted=file_index.accepted,
        rejected=sums.most_frequent_reasons(),
        windows_cut=file_index.accepted_windows + sums.filtered.total(),
        filtered=dict(sorted(sums.filtered.items())),
        left_out={plan.split: plan.left_out for plan in plans},
        repeated={plan.split: plan.repeated for plan in plans},
        windows={plan.split: plan.windows for plan in plans},
        files={plan.split: plan.files for plan in plans},
        shards={plan.split: len(split_shards) for plan, split_shards in zip(plans, shards, strict=True)},
        hits=sums.hits["hits"],
        doubled_hits=sums.hits["doubled_hits"],
        unknown_hits=sums.hits["unknown_hits"],
        outside_hits=sums.hits["outside_hits"],
        unknown_pitches={pitch: sums.unknown_pitches[pitch] for pitch in sorted(sums.unknown_pitches, key=int)},
        dropped_bars=dict(sorted(sums.dropped_bars.items())),
        equal_files=report.equal_files(file_index, source.files),
        statistics={
            plan.split: sum((shard.statistics for shard in split_shards), zero)
            for plan, split_shards in zip(plans, shards, strict=True)
        },
        unopened_archives=source.unopened_archives,
        reading={name: sums.reading[name] for name in report.READING if sums.reading[name]},
        other_metres=dict(sorted(sums.other_metres.items(), key=lambda item: (-item[1], item[0]))),
        triplets=sums.triplets,
        warnings=sums.warnings(file_index.accepted),
    )


def _check_something_kept(sums: report.RecordSums, plans: Sequence[SplitAssignment], page: Path) -> None:
    if any(plan.windows for plan in plans):
        return
    reasons = sums.most_frequent_reasons()
    likely = {
        Reason.INTERNAL_ERROR: "a bug in this program; please report it",
        Reason.MEMORY: "limits.memory_mib is too small for these settings",
        Reason.TIMEOUT: "limits.cpu_seconds or limits.wall_seconds is too small for these settings",
        Reason.FILTERED: "the filters leave out all windows",
    }
    do = "choose other notes with reading.channels and reading.drum_tracks"
    cause = likely.get(Reason(next(iter(reasons))), "music without drums, or drums on other channels")
    if warnings := sums.warnings(0):
        cause, do = warnings[0]["text"], warnings[0]["remedy"]
    elif as_4_4 := [metre for metre in sums.other_metres if metre in get_args(Metre)]:
        cause = f"bars in {' and '.join(as_4_4)}, which can be read as 4/4"
        do = f"add reading.metres=[{','.join(as_4_4)}]"
    raise DataError(
        "no file has a window that can be used",
        expected="drum performances on channel 10, in 4/4, as long as a window",
        found=f"{sums.seen} files, rejected: {_listed(reasons)}",
        likely=cause,
        do=f"{do}; {page} lists every file with its reason",
    )


def check_rejected_share(rejected: Mapping[str, int], seen: int, settings: BuildSettings, page: Path) -> None:
    """Makes sure that no more files are rejected than the settings allow.

    Args:
        rejected: files by reason.
        page: where the outcome of every file stands.

    Raises:
        DataError: more are.
    """
    most, num_rejected = settings.max_rejected_share, sum(rejected.values())
    if most is not None and num_rejected > most * seen:
        raise DataError(
            "too many files are rejected",
            expected=f"at most max_rejected_share={most:g} of {seen} files",
            found=f"{num_rejected} ({num_rejected / seen:.1%}): {_listed(rejected)}",
            do=f"look at {page}, which lists every file with its reason; then repair them or raise the "
            "share; converted files are kept",
        )


def check_warnings(warnings: Sequence[Mapping[str, Any]], settings: BuildSettings, report: Path) -> None:
    """Makes sure that there is no warning, where the settings make warnings errors.

    Raises:
        DataError: there is one; the first of them.
    """
    if settings.warnings.as_errors and warnings:
        more = f", and {len(warnings) - 1} more warnings" if len(warnings) > 1 else ""
        raise DataError(
            "the collection has warnings",
            expected="none, because warnings.as_errors is set",
            found=f"{warnings[0]['text']}{more}",
            do=f"{warnings[0]['remedy']}; {report} has all warnings; without warnings.as_errors the shards are written",
        )


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


def _examples(plans: Sequence[SplitAssignment], manifest: ShardManifest) -> list[FoundWindow]:
    """Windows drawn from all splits, the same for the same shards; from the parts, which this process reads lightly."""
    ends = np.cumsum([plan.windows for plan in plans])
    draws = np.random.default_rng(int(manifest.fingerprint, 16)).integers(ends[-1], size=EXAMPLES)
    examples = []
    for draw in np.unique(draws).tolist():
        place = int(np.searchsorted(ends, draw, side="right"))
        plan, window = plans[place], draw - int(ends[place - 1] if place else 0)
        piece = plan.piece(window)
        block = read_windows(piece.part, piece.rows)
        examples.append(FoundWindow(plan.split, window, block.meta[0], block.groove(0, manifest.grid)))
    return examples
