"""How much a sampling will take of a disk, said before it starts."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from jobs.sampler.gallery import MOST_SHOWN
from jobs.sampler.job import FILES_PER_FOLDER, SampleJob
from jobs.sampler.options import Audio, Form
from jobs.sampler.pack import SAMPLES_PER_TAR
from musicvae.groove.sound import SAMPLE_RATE
from musicvae.pretrained.model import TrainedModel

MIDI_BYTES, HIT_BYTES = 95, 8
"""Of a MIDI file without hits, and of each hit: an event that begins it and one that ends it."""
LINE_BYTES, TOKEN_BYTES = 350, 4
"""Of a line of manifest.jsonl without tokens, and of each token in it."""
ROW_BYTES, TOKEN_ROW_BYTES = 20, 1
"""Of a row of manifest.parquet, compressed."""
TAR_BLOCK = 512
ZIP_BYTES, DEFLATED = 140, 0.5
"""Of a member's two headers, and what is left of a MIDI file."""
FLAC = 0.65
"""What is left of a loop."""
PAGE_BYTES, CARD_BYTES, CARD_HIT_BYTES, CARD_TOKEN_BYTES = 76_000, 100, 4, 2.7
"""Of gallery.html without grooves, of each groove on it with its figures, of each of its hits and tokens."""
OTHER_FILES = 13
"""Reports, settings, locks."""


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


def sizes(job: SampleJob, trained: TrainedModel, count: int, chunk: int, *, block: int) -> dict[Form, Size]:
    """An estimate for each form, with manifests and work area, from the hits of the training data.

    Args:
        block: bytes that the file system sets aside at once.
    """
    statistics, steps = trained.feel.statistics, trained.grid.num_steps
    hits = statistics.hits_per_bar * trained.grid.bars
    midi, line = MIDI_BYTES + HIT_BYTES * hits, LINE_BYTES + TOKEN_BYTES * steps
    table, code = ROW_BYTES + TOKEN_ROW_BYTES * steps, 4 * trained.latent
    # Tokens, code, likelihood and distance, kept in parts.
    work = 2 * steps + code + 16
    card = CARD_BYTES + CARD_HIT_BYTES * hits + CARD_TOKEN_BYTES * steps
    page = PAGE_BYTES + min(count, MOST_SHOWN) * card if job.gallery else 0
    others = OTHER_FILES + job.gallery + -(-count // chunk)
    always = page + count * (line + table + code + work)
    sound = _sound_bytes(job, trained)
    tar = sum(TAR_BLOCK + _rounded(size, TAR_BLOCK) for size in (midi, line, sound) if size)
    tars = -(-count // SAMPLES_PER_TAR)
    zipped = ZIP_BYTES + DEFLATED * midi + (ZIP_BYTES + sound if sound else 0)
    a_groove: dict[Form, float] = {Form.FILES: midi + sound, Form.TAR: tar, Form.ZIP: zipped, Form.NONE: 0}
    files = {Form.FILES: count * (2 if sound else 1) + -(-count // FILES_PER_FOLDER), Form.TAR: tars, Form.ZIP: 1}
    on_disk: dict[Form, float] = {Form.FILES: _rounded(midi, block) + _rounded(sound, block)}
    return {
        form: Size(
            inodes=files.get(form, 0) + others,
            content=round(always + count * a_groove[form]),
            on_disk=round(always + count * on_disk.get(form, a_groove[form]) + others * block / 2),
        )
        for form in Form
    }


def size_table(job: SampleJob, of_form: dict[Form, Size], count: int) -> Table:
    """The estimates of all forms, the chosen one marked."""
    table = Table(title=f"{count:,} grooves will take about", title_justify="left")
    table.add_column("")
    for name in ("files and folders", "bytes", "on disk"):
        table.add_column(name, justify="right")
    names = {Form.FILES: "MIDI files", Form.TAR: "--pack tar", Form.ZIP: "--pack zip", Form.NONE: "--no-files"}
    for form, size in of_form.items():
        chosen = " (chosen)" if form is job.form else ""
        table.add_row(names[form] + chosen, f"{size.inodes:,}", _readable(size.content), _readable(size.on_disk))
    return table


def size_line(size: Size, count: int) -> str:
    """The estimate of the chosen form in a line."""
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
    if job.audio is Audio.NONE:
        return 0
    seconds = trained.grid.bars * trained.grid.beats_per_bar * 60 / job.made.tempo_of(trained, 0)
    return 2 * SAMPLE_RATE * seconds * (FLAC if job.audio is Audio.FLAC else 1)


def _rounded(size: float, block: int) -> int:
    return -(-round(size) // block) * block


def _readable(size: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
