"""A collection of MIDI files -> a folder of shards with manifest and report, whole or not at all."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from musicvae.drum_map import DrumMap
from musicvae.durable import whole_folder
from musicvae.errors import ConfigError, DataError, UserError
from musicvae.manifest import MANIFEST_NAME, SCHEMA, ShardEntry, ShardManifest, Split, SplitEntry
from preprocess.on_ray import TaskRunner
from preprocess.parts import (
    Batch,
    BatchOutcome,
    FileOutcome,
    content_key,
    convert_batch,
    read_source,
    write_planned_shard,
)
from preprocess.plan import SplitPlan, plan_splits, reject_duplicates
from preprocess.report import REPORT_NAME, BuildReport, count_reasons, sum_hits
from preprocess.settings import BuildSettings
from preprocess.sources import Source, open_source

BATCH_FILES = 64
"""Files of one task: enough to outweigh what a task costs, few enough to share among many workers."""
NOT_OURS = "something that jobs.build_shards has not made or not finished"
DEMO_FOLDER = "midi"
"""Where in the output the demo corpus lies, to be listened to."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is; `stage` is `files` while they are converted and `shards` while they are written."""

    stage: str
    done: int
    total: int
    windows: int
    rejected: int


def build(
    source_name: str,
    out: Path,
    settings: BuildSettings,
    run: TaskRunner,
    *,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> BuildReport:
    """Builds the shards; the same files and settings give the same bytes for any runner.

    Args:
        source_name: what `--source` says.
        out: the folder to make; it appears under this name only when it is whole.
        overwrite: whether an existing `out` is replaced, once the new one is whole.

    Raises:
        ConfigError: no such source, or a drum map that cannot be used.
        DataError: no MIDI files, or none of them gave a window.
        OSError: `out` exists, or cannot be made.
    """
    with whole_folder(out.absolute(), replace=overwrite) as folder:
        source = open_source(source_name, demo=settings.demo, demo_folder=folder / DEMO_FOLDER)
        drum_map = _drum_map(settings, source)
        parts = folder / "parts"
        parts.mkdir()
        batches = _convert_files(source, parts, settings, drum_map, run, on_progress)
        outcomes = [outcome for batch in batches for outcome in batch.files]
        if not source.lists_its_files:
            outcomes = reject_duplicates(outcomes)
        plans = plan_splits(
            batches, outcomes, source.splits, parts=parts, folder=folder, most_windows=settings.shard.windows
        )
        if not any(plan.shards for plan in plans.values()):
            raise _nothing_kept(outcomes)
        manifest = _write_shards(plans, settings, drum_map, run, on_progress)
        shutil.rmtree(parts)
        report = _report(source, settings, manifest, outcomes, plans)
        report.write(folder, outcomes)
        manifest.write(folder)
    return report


def find_finished_build(source_name: str, out: Path, settings: BuildSettings) -> BuildReport | None:
    """The report of `out` if it was built from the very same files and settings; none if nothing is there.

    Raises:
        ConfigError: `out` is something else.
    """
    if _is_free(out):
        return None
    report = _report_of(out)
    if report is None:
        raise _exists(out, NOT_OURS, do="name another --out")
    with tempfile.TemporaryDirectory() as folder:
        source = open_source(source_name, demo=settings.demo, demo_folder=Path(folder) / DEMO_FOLDER)
        keys = [content_key(read_source(file, settings.limits)) for file in source.files]
    if report.identity == _identity(source, settings, _drum_map(settings, source), keys):
        return report
    found = f"shards of other files or settings ({report.seen} files, fingerprint {report.fingerprint})"
    raise _exists(out, found, do="name another --out, or replace it with --overwrite")


def check_replaceable(source_name: str, out: Path) -> None:
    """Makes sure that replacing `out` deletes shards and nothing else.

    Raises:
        ConfigError: `out` holds what no build makes, or the source.
    """
    if not _is_free(out) and not _is_ours(out):
        raise _exists(out, NOT_OURS, do="name another --out, or remove it yourself")
    if Path(source_name).exists() and Path(source_name).resolve().is_relative_to(out.resolve()):
        raise _exists(out, f"the source {source_name} within it", do="name another --out")


def _is_free(out: Path) -> bool:
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def _is_ours(out: Path) -> bool:
    """Whether a folder is a build by its looks, so that a damaged one can be replaced too."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    own = {MANIFEST_NAME, REPORT_NAME}
    return bool(names & own) and all(name.endswith(".tar") for name in names - own - {DEMO_FOLDER})


def _report_of(out: Path) -> BuildReport | None:
    try:
        ShardManifest.read(out)
        return BuildReport.read(out)
    except UserError:
        return None


def _exists(out: Path, found: str, *, do: str) -> ConfigError:
    expected = "a new folder, or shards of these very files and settings"
    return ConfigError(f"{out} exists", expected=expected, found=found, do=do)


def _convert_files(
    source: Source,
    parts: Path,
    settings: BuildSettings,
    drum_map: DrumMap,
    run: TaskRunner,
    on_progress: Callable[[Progress], None],
) -> list[BatchOutcome]:
    batches = [
        Batch(source.files[start : start + BATCH_FILES], parts / f"{start:09d}.tar")
        for start in range(0, len(source.files), BATCH_FILES)
    ]
    answers: dict[int, BatchOutcome] = {}
    done = windows = rejected = 0
    for number, answer in run(partial(convert_batch, settings=settings, drum_map=drum_map), batches):
        answers[number] = answer
        done += len(answer.files)
        windows += len(answer.hashes)
        rejected += sum(outcome.rejection is not None for outcome in answer.files)
        on_progress(Progress("files", done, len(source.files), windows, rejected))
    return [answers[number] for number in range(len(batches))]


def _write_shards(
    plans: Mapping[Split, SplitPlan],
    settings: BuildSettings,
    drum_map: DrumMap,
    run: TaskRunner,
    on_progress: Callable[[Progress], None],
) -> ShardManifest:
    shards = [shard for plan in plans.values() for shard in plan.shards]
    entries: dict[int, ShardEntry] = {}
    for number, entry in run(partial(write_planned_shard, settings=settings, drum_map=drum_map), shards):
        entries[number] = entry
        written = sum(entry.windows for entry in entries.values())
        on_progress(Progress("shards", len(entries), len(shards), written, 0))
    in_order = iter(entries[number] for number in range(len(shards)))
    splits = {}
    for split, plan in plans.items():
        own = tuple(next(in_order) for _ in plan.shards)
        splits[split] = SplitEntry(sum(entry.windows for entry in own), plan.files, own)
    return ShardManifest(settings.window.grid, drum_map, splits)


def _report(
    source: Source,
    settings: BuildSettings,
    manifest: ShardManifest,
    outcomes: Sequence[FileOutcome],
    plans: Mapping[Split, SplitPlan],
) -> BuildReport:
    hits, doubled, unknown = sum_hits(outcomes)
    return BuildReport(
        identity=_identity(source, settings, manifest.drum_map, [outcome.sha256 for outcome in outcomes]),
        fingerprint=manifest.fingerprint,
        source=source.kind,
        drum_map=manifest.drum_map.name,
        seen=len(source.files),
        accepted=sum(outcome.rejection is None for outcome in outcomes),
        rejected=count_reasons(outcomes),
        files={name: split.files for name, split in manifest.splits.items()},
        windows={name: split.windows for name, split in manifest.splits.items()},
        shards={name: len(split.shards) for name, split in manifest.splits.items()},
        left_out={name: plan.left_out for name, plan in plans.items()},
        hits=hits,
        doubled_hits=doubled,
        unknown_pitches=unknown,
    )


def _drum_map(settings: BuildSettings, source: Source) -> DrumMap:
    return DrumMap.load(source.drum_map if settings.drum_map == "auto" else settings.drum_map)


def _identity(source: Source, settings: BuildSettings, drum_map: DrumMap, keys: Sequence[str]) -> str:
    """A hash of all that decides the shards; the demo's settings count through the files that they compose."""
    content = {
        "schema": SCHEMA,
        "settings": settings.model_dump(mode="json", exclude={"demo", "drum_map"}),
        "drum_map": [[drum, list(pitches)] for drum, pitches in drum_map.pitches.items()],
        "splits": source.splits,
        "files": [[file.name, file.split, file.style, key] for file, key in zip(source.files, keys, strict=True)],
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _nothing_kept(outcomes: Sequence[FileOutcome]) -> DataError:
    reasons = ", ".join(f"{reason} {count}" for reason, count in count_reasons(outcomes).items())
    first = next((outcome.rejection for outcome in outcomes if outcome.rejection), None)
    return DataError(
        "no file gave a window",
        expected="drum performances on channel 10, in 4/4, of at least one window's bars",
        found=f"{len(outcomes)} files, rejected: {reasons}"
        + (f"; the first: {first.source}: {first.detail}" if first else ""),
        likely="another kind of music, or drums on other channels",
    )
