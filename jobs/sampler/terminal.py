"""What jobs.sample says on a terminal: what the output will take, what came out, how fast."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from jobs.command.command_line import console
from jobs.sampler.gallery import MOST_SHOWN
from jobs.sampler.job import FILES_PER_FOLDER, SampleJob, loaded
from jobs.sampler.report import comparison, distributions
from jobs.sampler.run import GALLERY, PAGE, SAMPLES_PER_TAR, SHEET, Merged
from jobs.sampler.settings import Audio, OutputFormat
from jobs.sampler.work import MANIFEST
from musicvae.groove.picture import drum_grid
from musicvae.groove.sound import SAMPLE_RATE
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord
from musicvae.terminal import shown

GRIDS_SHOWN = 2
MANY_STEERED = 0.05
"""Share of grooves with hits that a constraint decided, above which it is said."""
MIDI_BYTES, HIT_BYTES = 130, 8
"""Of a MIDI file without hits, and of each hit: an event that begins it and one that ends it."""
LINE_BYTES, TOKEN_BYTES = 350, 4
"""Of a line of manifest.jsonl without tokens, and of each token in it."""
ROW_BYTES, TOKEN_ROW_BYTES = 20, 1
"""Of a row of manifest.parquet, compressed."""
PLAYED_BYTES = 3
"""Of a hit that the performance model played, in a part."""
TAR_BLOCK = 512
ZIP_BYTES, DEFLATED = 140, 0.5
"""Of a member's two headers, and what is left of a MIDI file."""
CHANNELS, FLAC = 2, 0.33
"""Of a loop, and what is left of it."""
PAGE_BYTES, CARD_BYTES, CARD_HIT_BYTES, CARD_TOKEN_BYTES = 76_000, 100, 4, 2.7
"""Of gallery.html without grooves, of each groove on it with its figures, of each of its hits and tokens."""
OTHER_FILES = 13
"""Reports, settings, locks."""


def show_size(job: SampleJob, count: int, chunk: int, *, all_formats: bool) -> None:
    """What so many grooves take, in every format they could have or in theirs, and whether the disk has it."""
    folder = next(parent for parent in (job.out, *job.out.parents) if parent.exists())
    of_format = sizes(job, loaded(job.model), count, chunk, block=os.statvfs(folder).f_frsize)
    console.print(size_table(job, of_format, count) if all_formats else size_line(of_format[job.options.pack], count))
    if lack := shortage(of_format[job.options.pack], job.out):
        console.print(f"warning: {lack} in {folder}", soft_wrap=True)


def show_notice(job: SampleJob) -> None:
    """Says what is special about how a sampling is played, if anything is."""
    if job.notice:
        console.print(job.notice, soft_wrap=True)


def show_output(job: SampleJob, merged: Merged, training: TrainingRecord | None) -> None:
    """The first grooves, the figures of all of them, and where everything is."""
    trained, selected = loaded(job.model), merged.selected
    for groove in merged.first[:GRIDS_SHOWN]:
        print(shown(f"{groove.source}, {groove.tempo:.0f} bpm\n{drum_grid(groove, trained.drum_map.classes)}\n"))
    console.print(comparison(merged.tally, trained))
    if training is not None:
        console.print(distributions(merged.tally, training))
    steered = merged.tally.steered or 0
    if steered > MANY_STEERED * len(selected.items):
        console.print(
            f"{steered:,} of {len(selected.items):,} grooves have hits that --must-have or --density decided, and not "
            "the model; `steered` in the manifest counts them, and --by -steered keeps those with the fewest",
            soft_wrap=True,
        )
    for reason, number in selected.dropped.items():
        console.print(f"left out of {selected.looked_at:,}: {number:,} {reason}")
    chosen = job.made.recipe.best_of
    best = "" if chosen is None else f", each the best of {chosen.candidates} (--all makes one of each)"
    console.print(f"{len(selected.items):,} grooves{best}, weights of step {trained.step}")
    places = {"grooves": "", "gallery": GALLERY, "report": PAGE, "picture": SHEET, "manifest": MANIFEST}
    for name, file in places.items():
        if job.options.gallery or file != GALLERY:
            console.print(f"{name + ':':<9} {job.out / file}", soft_wrap=True)


def pace(made: int, started: float) -> str:
    """Time since a moment of the monotonic clock, and what was made in it."""
    seconds = time.monotonic() - started
    return f"{seconds:.1f} s ({made / max(seconds, 1e-9):,.0f} a second)"


@dataclass(frozen=True, slots=True)
class Size:
    """What an output takes.

    Attributes:
        inodes: files and folders.
        content: bytes that the files hold.
        on_disk: bytes that the file system sets aside for them.
    """

    inodes: int
    content: int
    on_disk: int


def sizes(job: SampleJob, trained: TrainedModel, count: int, chunk: int, *, block: int) -> dict[OutputFormat, Size]:
    """An estimate for each format, with manifests and work area, from the hits of the training data.

    Args:
        block: bytes that the file system sets aside at once.
    """
    statistics, steps = trained.feel.statistics, trained.grid.num_steps
    hits = statistics.hits_per_bar * trained.grid.bars
    midi, line = MIDI_BYTES + HIT_BYTES * hits, LINE_BYTES + TOKEN_BYTES * steps
    table, code = ROW_BYTES + TOKEN_ROW_BYTES * steps, 4 * trained.latent
    # Tokens, code, likelihood, distance and what was played, kept in parts.
    work = 2 * steps + code + 16 + (0 if job.made.performer is None else PLAYED_BYTES * hits)
    card = CARD_BYTES + CARD_HIT_BYTES * hits + CARD_TOKEN_BYTES * steps
    page = PAGE_BYTES + min(count, MOST_SHOWN) * card if job.options.gallery else 0
    others = OTHER_FILES + job.options.gallery + -(-count // chunk)
    always = page + count * (line + table + code + work)
    sound = _sound_bytes(job, trained)
    tar = sum(TAR_BLOCK + _rounded(size, TAR_BLOCK) for size in (midi, line, sound) if size)
    tars = -(-count // SAMPLES_PER_TAR)
    zipped = ZIP_BYTES + DEFLATED * midi + (ZIP_BYTES + sound if sound else 0)
    a_groove: dict[OutputFormat, float] = {
        OutputFormat.FILES: midi + sound,
        OutputFormat.TAR: tar,
        OutputFormat.ZIP: zipped,
        OutputFormat.NONE: 0,
    }
    files = {
        OutputFormat.FILES: count * (2 if sound else 1) + -(-count // FILES_PER_FOLDER),
        OutputFormat.TAR: tars,
        OutputFormat.ZIP: 1,
    }
    on_disk: dict[OutputFormat, float] = {OutputFormat.FILES: _rounded(midi, block) + _rounded(sound, block)}
    return {
        output_format: Size(
            inodes=files.get(output_format, 0) + others,
            content=round(always + count * a_groove[output_format]),
            on_disk=round(always + count * on_disk.get(output_format, a_groove[output_format]) + others * block / 2),
        )
        for output_format in OutputFormat
    }


def size_table(job: SampleJob, of_format: dict[OutputFormat, Size], count: int) -> Table:
    """The estimates of all formats, the chosen one marked."""
    table = Table(title=f"{count:,} grooves will need about", title_justify="left")
    table.add_column("")
    for name in ("files and folders", "bytes", "on disk"):
        table.add_column(name, justify="right")
    names = {
        OutputFormat.FILES: "MIDI files",
        OutputFormat.TAR: "--pack tar",
        OutputFormat.ZIP: "--pack zip",
        OutputFormat.NONE: "--no-files",
    }
    for output_format, size in of_format.items():
        chosen = " (chosen)" if output_format is job.options.pack else ""
        table.add_row(
            names[output_format] + chosen, f"{size.inodes:,}", _readable(size.content), _readable(size.on_disk)
        )
    return table


def size_line(size: Size, count: int) -> str:
    """The estimate of the chosen format in a line."""
    return f"{count:,} grooves: about {size.inodes:,} files and folders, {_readable(size.on_disk)} on disk"


def shortage(size: Size, folder: Path) -> str:
    """What the file system of a folder, which need not be there yet, lacks for it; empty if there is enough."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free, inodes = shutil.disk_usage(there).free, os.statvfs(there)
    if size.on_disk > free:
        return f"{_readable(free)} are free"
    if inodes.f_files and size.inodes > inodes.f_favail:
        return f"{inodes.f_favail:,} more files fit"
    return ""


def _sound_bytes(job: SampleJob, trained: TrainedModel) -> float:
    if job.options.audio is Audio.NONE:
        return 0
    seconds = trained.grid.bars * trained.grid.beats_per_bar * 60 / job.made.tempo_of(trained, 0)
    return CHANNELS * 2 * SAMPLE_RATE * seconds * (FLAC if job.options.audio is Audio.FLAC else 1)


def _rounded(size: float, block: int) -> int:
    return -(-round(size) // block) * block


def _readable(size: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
