"""All parts of a sampling -> its output: selection, figures across all grooves, manifests, packs, report.

manifest.jsonl, manifest.parquet   one record a groove, see `jobs.sampler.sample_records`
z.npy                              float32 (groove, latent): what each was decoded from
grooves.png                        the first grooves as drum grids
gallery.html                       up to 10,000 of them to look through, to hear and to choose from
report.json, report.html           figures of all of them, beside the training data's
settings.json                      weights and settings that made them; written last, so where it is all is whole
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from jobs.sampler.gallery_of_job import write_sample_gallery
from jobs.sampler.pack import packing
from jobs.sampler.parts import Rows, Span
from jobs.sampler.sample_files import lost_files, writing_files
from jobs.sampler.sample_job import SampleJob
from jobs.sampler.sample_options import Form, SampleOptions
from jobs.sampler.sample_records import BLOCK, CheckedBlock, checked, columns, lines
from jobs.sampler.sample_report import Tally, report, tally
from jobs.sampler.sample_report_page import sample_report_page
from jobs.sampler.sample_table import ParquetManifest
from jobs.sampler.sample_work import MANIFEST, SETTINGS, SampleWork
from jobs.sampler.selection import Selected, figure_of, select
from musicvae.durable import publish_files, write_json
from musicvae.generation.generate import BATCH
from musicvae.groove.groove import DrumGroove
from musicvae.groove.picture import drum_sheet
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord

TABLE, CODES, SHEET, REPORT = "manifest.parquet", "z.npy", "grooves.png", "report.json"
GALLERY, PAGE = "gallery.html", "report.html"
GROOVES_ON_SHEET = 16


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """An output that is whole: its figures, and its first grooves."""

    found: Tally
    selected: Selected
    first: list[DrumGroove]


def selection(
    work: SampleWork, options: SampleOptions, trained: TrainedModel, training: TrainingRecord | None, made: int
) -> Selected:
    """What to keep of items 0 to `made` - 1, or of those that are picked.

    Raises:
        DataError: a part is damaged.
    """
    by = options.by and figure_of(options.by.removeprefix("-"), trained.drum_map.num_drums, trained.grid)
    if options.pick is None:
        rows = work.parts.read(Span(0, made))
    else:
        rows = work.parts.read_chosen(np.array(options.pick, dtype=np.int64), BLOCK)
    return select(rows, options, training, by or None)


def merge(
    job: SampleJob,
    work: SampleWork,
    options: SampleOptions,
    training: TrainingRecord | None,
    selected: Selected,
    scratch: Path,
) -> Merged:
    """Puts the output together, in memory that does not grow with it but for the selection.

    Args:
        scratch: an empty folder that `SampleWork.merging` gave; all parts are there.

    Raises:
        DataError: a part is damaged.
        OSError: something cannot be written.
    """
    trained = job.trained()
    if job.form is Form.FILES:
        _mend_files(job, trained, work, selected, scratch)
    found, first = None, []
    with ExitStack() as stack:
        manifest = stack.enter_context((scratch / MANIFEST).open("w"))
        table = stack.enter_context(ParquetManifest(scratch / TABLE))
        codes = stack.enter_context((scratch / CODES).open("wb"))
        pack = stack.enter_context(packing(job.form, scratch))
        _write_header(codes, len(selected.items), trained.latent)
        for row, block in _blocks(work, trained, training, selected):
            of_block = columns(job, trained, block, row)
            written = list(lines(of_block))
            manifest.writelines(written)
            table.write(of_block)
            codes.write(block.rows.codes.tobytes())
            if job.form in (Form.TAR, Form.ZIP):
                contents = _contents(job, trained, block.rows)
                for file, of_file, line in zip(of_block["file"], contents, written, strict=True):
                    pack.add(file, of_file, line)
            found = tally(block, trained) if found is None else found + tally(block, trained)
            wanted = GROOVES_ON_SHEET - len(first)
            items = zip(block.rows.items.tolist(), block.rows.tokens, strict=True)
            first += [job.groove(trained, item, tokens) for item, tokens in islice(items, wanted)]
    assert found is not None, "what keeps nothing is refused before"
    if job.gallery:
        write_sample_gallery(scratch / GALLERY, scratch / MANIFEST, job, trained)
    (scratch / SHEET).write_bytes(drum_sheet(first, trained.drum_map.classes))
    write_json(scratch / REPORT, report(found, selected, trained, training))
    (scratch / PAGE).write_text(sample_report_page(job, found, selected, trained, training))
    _remove_packs(job.out)
    publish_files(scratch, job.out)
    # Last, and written in the scratch folder too, so that a kill leaves nothing beside the grooves.
    write_json(scratch / SETTINGS, {**job.settings, "count": options.count})
    publish_files(scratch, job.out)
    return Merged(found, selected, first)


def _blocks(
    work: SampleWork, trained: TrainedModel, training: TrainingRecord | None, selected: Selected
) -> Iterator[tuple[int, CheckedBlock]]:
    """(row of its first groove, block) of what is kept."""
    row = 0
    for rows in work.parts.read_chosen(selected.items, BLOCK):
        yield row, checked(rows, selected.duplicate_of[row : row + len(rows)], trained, training)
        row += len(rows)


def _mend_files(job: SampleJob, trained: TrainedModel, work: SampleWork, selected: Selected, scratch: Path) -> None:
    """Removes the files of what is not kept, and makes anew what is missing of the others."""
    for rows in work.parts.read_chosen(lost_files(job, selected.items), BATCH):
        with writing_files(job, trained, scratch) as files:
            files.write(rows.items.tolist(), rows.tokens)
            files.publish()


def _contents(job: SampleJob, trained: TrainedModel, rows: Rows) -> Iterator[dict[str, bytes]]:
    """What is packed of a block, not all of it at once: events take far more memory than their tokens."""
    for first in range(0, len(rows), BATCH):
        some = rows.take(slice(first, first + BATCH))
        yield from job.contents(trained, some.items.tolist(), some.tokens)


def _write_header(file: IO[bytes], count: int, latent: int) -> None:
    description = {"descr": "<f4", "fortran_order": False, "shape": (count, latent)}
    np.lib.format.write_array_header_1_0(file, description)


def _remove_packs(out: Path) -> None:
    """Packs of a smaller count or another selection."""
    for path in [*out.glob("grooves-*.tar"), *out.glob("grooves.zip")]:
        path.unlink()
