"""The course of a sampling: what is missing is made, and once nothing is missing, all parts become the output.

manifest.jsonl, manifest.parquet   one record a groove, see `jobs.sampler.manifest`
z.npy                              float32 (groove, latent): what each was decoded from
grooves.png                        the first grooves as drum grids
gallery.html                       up to 10,000 of them to look through, to hear and to choose from
report.json, report.html           figures of all of them, beside the training data's
settings.json                      weights and settings that made them; written last: where it is, all is complete
grooves-00000.tar                  --pack tar: 10,000 samples each, groove-00000.mid and .json, its line of the manifest
grooves.zip                        --pack zip: 000/groove-00000.mid ..., as the files would lie in a folder

Packs have the same bytes for the same grooves; with --audio each groove has its loop, .wav or .flac, beside its .mid.
"""

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from rich.progress import track

from cluster.code import Look
from cluster.tasks import TaskRunner, task_runner
from jobs.command.command_line import console
from jobs.command.provenance import code_for_ray
from jobs.sampler.chunk import ChunkMaker, lost_files, writing_files
from jobs.sampler.job import MIDI_SUFFIX, SampleJob
from jobs.sampler.manifest import (
    BLOCK,
    CheckedBlock,
    ParquetManifest,
    checked,
    columns,
    lines,
    write_sample_gallery,
)
from jobs.sampler.parts import Rows, Span
from jobs.sampler.report import Tally, report, sample_report_page, tally
from jobs.sampler.selection import Selected, figure_of, select
from jobs.sampler.settings import REFILL_LIMIT, Execution, OutputFormat, SampleSettings
from jobs.sampler.work import MANIFEST, SETTINGS, SampleShare, SampleWork
from musicvae.data.manifest import is_url
from musicvae.durable import NO_UTF8, publish_files, write_json
from musicvae.errors import ConfigError, DataError, FolderInUseError
from musicvae.generation.settings import BATCH
from musicvae.groove.groove import DrumGroove
from musicvae.groove.picture import drum_sheet
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.performer import SHIPPED_NAME
from musicvae.pretrained.shipped import shipped_models
from musicvae.pretrained.training_record import TrainingRecord, record_of
from musicvae.pretrained.training_windows import training_windows
from preprocess.work_folder import looking_for

TABLE, CODES, SHEET, REPORT = "manifest.parquet", "z.npy", "grooves.png", "report.json"
GALLERY, PAGE = "gallery.html", "report.html"
GROOVES_ON_SHEET = 16
MOST_TAKES = 16
"""Of --humanize, in a chunk."""
SAMPLES_PER_TAR, ZIP = 10_000, "grooves.zip"


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """An output that is whole: its figures, and its first grooves."""

    tally: Tally
    selected: Selected
    first: list[DrumGroove]


def selection(
    work: SampleWork, options: SampleSettings, trained: TrainedModel, training: TrainingRecord | None, made: int
) -> Selected:
    """What to keep of items 0 to `made` - 1, or of those that are picked.

    Raises:
        DataError: a part is damaged.
    """
    by = options.by and figure_of(options.by.removeprefix("-"), trained.drum_map, trained.grid)
    if options.pick is None:
        rows = work.finished.read(Span(0, made))
    else:
        rows = work.finished.read_chosen(np.array(options.pick, dtype=np.int64), BLOCK)
    return select(rows, options, training, by or None)


def merge(
    job: SampleJob, work: SampleWork, training: TrainingRecord | None, selected: Selected, scratch: Path
) -> Merged:
    """Puts the output together, in memory that does not grow with it but for the selection.

    Args:
        scratch: an empty folder that `SampleWork.merging` gave; all parts are there.

    Raises:
        DataError: a part is damaged.
        OSError: something cannot be written.
    """
    trained = job.trained()
    if job.options.pack is OutputFormat.FILES:
        _mend_files(job, trained, work, selected, scratch)
    total, first = None, []
    with ExitStack() as stack:
        manifest = stack.enter_context((scratch / MANIFEST).open("w", encoding="utf-8", errors=NO_UTF8))
        table = stack.enter_context(ParquetManifest(scratch / TABLE))
        codes = stack.enter_context((scratch / CODES).open("wb"))
        pack = stack.enter_context(packing(job.options.pack, scratch))
        _write_header(codes, len(selected.items), 0 if job.made.humanizing else trained.latent)
        for row, block in _blocks(work, trained, training, selected):
            of_block = columns(job, trained, block, row)
            written = list(lines(of_block))
            manifest.writelines(written)
            table.write(of_block, written)
            codes.write(block.rows.codes.tobytes())
            if job.options.pack in (OutputFormat.TAR, OutputFormat.ZIP):
                contents = _contents(job, trained, block.rows)
                for file, of_file, line in zip(of_block["file"], contents, written, strict=True):
                    pack.add(file, of_file, line)
            heard = None if job.made.performer is None else job.heard(trained, block.rows)
            of_heard = tally(block, trained, heard)
            total = of_heard if total is None else total + of_heard
            wanted = GROOVES_ON_SHEET - len(first)
            first += job.grooves(trained, block.rows.take(slice(0, wanted)))
    assert total is not None, "what keeps nothing is refused before"
    if job.options.gallery:
        rows = work.finished.read_chosen(selected.items, BATCH)
        write_sample_gallery(scratch / GALLERY, scratch / MANIFEST, job, trained, rows)
    (scratch / SHEET).write_bytes(drum_sheet(first, trained.drum_map.classes))
    write_json(scratch / REPORT, report(total, selected, trained, training))
    page = sample_report_page(job, total, selected, trained, training, _to_read(job))
    (scratch / PAGE).write_text(page, encoding="utf-8", errors=NO_UTF8)
    _remove_packs(job.out)
    publish_files(scratch, job.out)
    # Last, and written in the scratch folder too, so that a kill leaves nothing beside the grooves.
    write_json(scratch / SETTINGS, {**job.settings, "count": job.options.count})
    publish_files(scratch, job.out)
    return Merged(total, selected, first)


def _to_read(job: SampleJob) -> list[str]:
    """The files of the output that its report links to."""
    return [*([GALLERY] if job.options.gallery else []), SHEET, MANIFEST, TABLE, REPORT, SETTINGS]


def _blocks(
    work: SampleWork, trained: TrainedModel, training: TrainingRecord | None, selected: Selected
) -> Iterator[tuple[int, CheckedBlock]]:
    """(row of its first groove, block) of what is kept."""
    row = 0
    for rows in work.finished.read_chosen(selected.items, BLOCK):
        yield row, checked(rows, selected.duplicate_of[row : row + len(rows)], trained, training)
        row += len(rows)


def _mend_files(job: SampleJob, trained: TrainedModel, work: SampleWork, selected: Selected, scratch: Path) -> None:
    """Removes the files of what is not kept, and makes anew what is missing of the others."""
    for rows in work.finished.read_chosen(lost_files(job, selected.items), BATCH):
        with writing_files(job, trained, scratch) as files:
            files.write(rows)
            files.publish()


def _contents(job: SampleJob, trained: TrainedModel, rows: Rows) -> Iterator[dict[str, bytes]]:
    """What is packed of a block, not all of it at once: events take far more memory than their tokens."""
    for first in range(0, len(rows), BATCH):
        some = rows.take(slice(first, first + BATCH))
        yield from job.contents(trained, some)


def _write_header(file: IO[bytes], count: int, latent: int) -> None:
    description = {"descr": "<f4", "fortran_order": False, "shape": (count, latent)}
    np.lib.format.write_array_header_1_0(file, description)


def _remove_packs(out: Path) -> None:
    """Packs of a smaller count or another selection."""
    for path in [*out.glob("grooves-[0-9][0-9][0-9][0-9][0-9].tar"), *out.glob("grooves.zip")]:
        path.unlink()


def make_share(job: SampleJob, work: SampleWork, share: SampleShare, execution: Execution) -> None:
    """Makes what is missing of a share.

    Raises:
        ConfigError: somebody else makes it, a worker was killed, or no cluster answers.
        OSError: something cannot be written.
    """
    with work.writer(share) as scratch:
        work.grow(job.options)
        # A take of a long file can need seconds, and a chunk is what a kill costs.
        size = min(execution.chunk, MOST_TAKES) if job.made.humanizing else execution.chunk
        chunks = work.chunks(share.spans(job.options), size)
        _make(ChunkMaker(job, work.finished.folder, scratch), chunks, execution)


def finish(job: SampleJob, work: SampleWork, training: TrainingRecord | None, execution: Execution) -> Merged | None:
    """Puts the output together if nothing is missing; None if something is, or somebody else is at it.

    Raises:
        ConfigError: a worker was killed.
        DataError: nothing is kept, --refill finds too little, or a part is damaged.
        OSError: something cannot be written.
    """
    if work.finished.missing(SampleShare().spans(job.options)):
        return None
    try:
        with work.merging() as scratch:
            selected = _selected(job, work, training, execution)
            return merge(job, work, training, selected, scratch)
    except FolderInUseError:
        return None


def training_record(job: SampleJob, trained: TrainedModel) -> TrainingRecord | None:
    """What is known of the training windows: from the shards, or carried by the model.

    Raises:
        ConfigError: other shards, or nothing is known where the options need it.
    """
    if job.options.shards is not None:
        return record_of(training_windows(trained, job.options.shards), trained.grid, trained.drum_map)
    by_distance = (job.options.by or "").endswith("nearest_training")
    if by_distance or (job.options.drop_memorised and trained.training is None):
        raise ConfigError(
            "--by nearest_training needs the training windows"
            if by_distance
            else "--drop-memorised needs the training windows",
            expected="--shards, the shards that the model was trained on",
            found="no --shards" + ("" if by_distance else ", and a model without hashes of its training windows"),
            likely="" if by_distance else "a run folder, or an export without --shards",
            do="add --shards" + ("" if by_distance else ", or sample from an export made with --shards"),
        )
    return trained.training


def _selected(job: SampleJob, work: SampleWork, training: TrainingRecord | None, execution: Execution) -> Selected:
    """What to keep; with --refill more is made until there is enough."""
    options, trained, made = job.options, job.trained(), job.options.count
    while (selected := selection(work, options, trained, training, made)).lacking:
        if made >= REFILL_LIMIT * options.count:
            raise DataError(
                f"--refill found fewer than {options.count} grooves",
                expected=f"{options.count} kept grooves",
                found=f"{options.count - selected.lacking} of {made}",
                likely="the model repeats the same few grooves at this temperature",
                do="raise --temperature, or leave --refill out",
            )
        # As many as would do at the share kept so far, in whole inner batches.
        kept = max(1, options.count - selected.lacking)
        more = -(-selected.lacking * made // (kept * BATCH)) * BATCH
        until = min(made + more, REFILL_LIMIT * options.count)
        with work.writer(SampleShare()) as scratch:
            chunks = work.chunks([Span(made, until)], execution.chunk)
            _make(ChunkMaker(job, work.finished.folder, scratch), chunks, execution)
        made = until
    if not len(selected.items):
        raise DataError(
            "no groove is kept",
            expected="at least one",
            found=", ".join(f"{reason}: {count}" for reason, count in selected.dropped.items()),
            do="leave --drop-memorised out to see what the model makes",
        )
    return selected


def _make(maker: ChunkMaker, chunks: list[Span], execution: Execution) -> None:
    if not chunks:
        return
    where = "ray" if execution.ray_address else "here" if execution.workers in (None, 1) else "processes"
    model, address, shards = maker.job.model, execution.ray_address, maker.job.options.shards
    # A cluster gets only the shipped models that it needs; all else it reads where this process does.
    shipped = [model.name] if model.run is None and model.name in shipped_models() else []
    files = [*([] if shipped else [model.run or model.name]), *([shards] if shards and not is_url(shards) else [])]
    players = [] if maker.job.made.performer is None else [SHIPPED_NAME]
    code = code_for_ray(models=[*shipped, *players])
    with (
        task_runner(where, execution.workers, ray_address=address, code=code, packages=["torch"]) as run,
        looking_for(maker.scratch, files) as look,
    ):
        sizes = _sizes(run, maker, chunks, look)
        for _ in _with_progress(sizes, sum(c.last - c.first for c in chunks)):
            pass


def _sizes(run: TaskRunner, maker: ChunkMaker, chunks: list[Span], look: Look) -> Iterator[int]:
    for _, made in run(maker, chunks, look=look):
        yield from range(made)


def _with_progress(made: Iterator[int], total: int) -> Iterator[int]:
    """A moving line on a terminal, nothing elsewhere."""
    quiet = not console.is_terminal
    yield from track(made, "decoding", total=total, console=console, transient=True, disable=quiet)


class Pack(Protocol):
    """Takes grooves in the order of the manifest."""

    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        """A groove: the path of its MIDI file, what its files hold by suffix, and its manifest line.

        Raises:
            OSError: it cannot be written.
        """
        ...


@contextmanager
def packing(output_format: OutputFormat, folder: Path) -> Iterator[Pack]:
    """What packs grooves into a folder, or lets them be."""
    match output_format:
        case OutputFormat.TAR:
            tars = _Tars(folder)
            try:
                yield tars
            finally:
                tars.close()
        case OutputFormat.ZIP:
            with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
                yield _Zip(archive)
        case _:
            yield _Nothing()


def tar_name(number: int) -> str:
    """The name of a tar, counted from 0."""
    return f"grooves-{number:05d}.tar"


class _Tars:
    def __init__(self, folder: Path) -> None:
        self._folder, self._samples = folder, 0
        self._tar: tarfile.TarFile | None = None

    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        if self._tar is None or self._samples % SAMPLES_PER_TAR == 0:
            self.close()
            path = self._folder / tar_name(self._samples // SAMPLES_PER_TAR)
            self._tar = tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT)
        name = Path(file).stem
        for suffix, data in {**contents, ".json": line.rstrip("\n").encode()}.items():
            member = tarfile.TarInfo(name + suffix)
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self._samples += 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        for suffix, data in contents.items():
            # Without a date of its own a member has the first one that zip knows. Sound hardly gets any smaller: by a
            # sixth for WAV, which takes five times as long as making it.
            method = zipfile.ZIP_DEFLATED if suffix == MIDI_SUFFIX else zipfile.ZIP_STORED
            self._archive.writestr(zipfile.ZipInfo(str(Path(file).with_suffix(suffix))), data, method)


class _Nothing:
    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        pass
