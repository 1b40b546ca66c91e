"""What jobs.sample says on a terminal: what the output will take, what came out, how fast."""

import os
import time

from jobs.command.command_line import console
from jobs.sampler.job import SampleJob, loaded
from jobs.sampler.report import comparison, distributions
from jobs.sampler.run import GALLERY, PAGE, SHEET, Merged
from jobs.sampler.size import shortage, size_line, size_table, sizes
from jobs.sampler.work import MANIFEST
from musicvae.groove.picture import drum_grid
from musicvae.pretrained.training_record import TrainingRecord

GRIDS_SHOWN = 2


def show_size(job: SampleJob, count: int, chunk: int, *, all_forms: bool) -> None:
    """What so many grooves take, in every form they could have or in theirs, and whether the disk has it."""
    folder = next(parent for parent in (job.out, *job.out.parents) if parent.exists())
    of_form = sizes(job, loaded(job.model), count, chunk, block=os.statvfs(folder).f_frsize)
    console.print(size_table(job, of_form, count) if all_forms else size_line(of_form[job.form], count))
    if lack := shortage(of_form[job.form], job.out):
        console.print(f"warning: {lack} in {folder}", soft_wrap=True)


def show_output(job: SampleJob, merged: Merged, training: TrainingRecord | None) -> None:
    """The first grooves, the figures of all of them, and where everything is."""
    trained, selected = loaded(job.model), merged.selected
    for groove in merged.first[:GRIDS_SHOWN]:
        print(f"{groove.source}, {groove.tempo:.0f} bpm\n{drum_grid(groove, trained.drum_map.classes)}\n")
    console.print(comparison(merged.found, trained))
    if training is not None:
        console.print(distributions(merged.found, training))
    for reason, number in selected.dropped.items():
        console.print(f"dropped of {selected.looked_at:,}: {number:,} {reason}")
    console.print(f"{len(selected.items):,} grooves, weights of step {trained.step}")
    places = {"grooves": "", "gallery": GALLERY, "report": PAGE, "picture": SHEET, "manifest": MANIFEST}
    for name, file in places.items():
        if job.gallery or file != GALLERY:
            console.print(f"{name + ':':<9} {job.out / file}", soft_wrap=True)


def pace(made: int, started: float) -> str:
    """Time since a moment of the monotonic clock, and what was made in it."""
    seconds = time.monotonic() - started
    return f"{seconds:.1f} s ({made / max(seconds, 1e-9):,.0f} a second)"
