"""A trained model -> grooves as MIDI files: python -m jobs.sample --count 64 --out grooves

python -m jobs.sample --count N --out DIR ...     makes them, or goes on where it was interrupted
python -m jobs.sample merge --out DIR             puts together what shards have made, where the last one could not
"""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jobs.command.command_line import check_options, console, run_command
from jobs.sampler.options import DEFAULT_BARS, DEFAULT_STEPS, RANKED, Audio, Form, Modes, SampleOptions, read_pick
from musicvae.errors import ConfigError, DiskFullError
from musicvae.generation.settings import BATCH, DEFAULT_DISTANCE
from musicvae.midi.settings import TICKS_PER_QUARTER

if TYPE_CHECKING:  # torch, which takes seconds to load
    from jobs.sampler.job import SampleJob
    from jobs.sampler.run import Means
    from jobs.sampler.work import SampleWork, Shard
    from musicvae.pretrained.training_record import TrainingRecord

CHUNK = 4 * BATCH
OUT = typer.Option(..., help="The folder to make, or to go on with.")
WORKERS = typer.Option(None, help="Processes (1), or chunks at a time with --ray-address (all CPUs of the cluster).")
RAY = typer.Option(None, metavar="HOST:PORT", help="A Ray cluster whose nodes see OUT under the same path.")


def main(
    run: Path | None = typer.Option(None, help="The run folder of a trained model, or an export of one."),
    preset: str | None = typer.Option(
        None, metavar="NAME|FOLDER", help="A shipped model (generation; with --like reconstruction)."
    ),
    weights: Path | None = typer.Option(None, metavar="FOLDER", help="What jobs.export wrote."),
    count: int | None = typer.Option(
        None, help="How many grooves (those of --interpolate); may grow later, and what is there is kept."
    ),
    out: Path = OUT,
    seed: int = typer.Option(0, help="Groove i of a seed is the same for every --count, --shard and --workers."),
    temperature: float | None = typer.Option(
        None, help="Below 1: likelier grooves, above: wilder ones (1; with --like the likeliest token of every step)."
    ),
    tempo: float | None = typer.Option(
        None, metavar="BPM", help="(that of --like, or the median of the training data or of --feel)"
    ),
    feel: str | None = typer.Option(
        None, metavar="STYLE", help="Velocity and timing of a style of the training data (the mean of all)."
    ),
    dry: bool = typer.Option(False, "--dry", help="One velocity for every hit, and every hit on the grid."),
    like: Path | None = typer.Option(
        None, metavar="FILE|FOLDER", help="Vary the 4-bar windows of a MIDI file, or of a folder of them, in turn."
    ),
    distance: float | None = typer.Option(
        None,
        help="From --like, --continue or --from: 0 is its reconstruction, 1 a groove that knows nothing of it "
        f"({DEFAULT_DISTANCE}).",
    ),
    interpolate: tuple[Path, Path] | None = typer.Option(
        None, metavar="FILE FILE", help="The way from one groove to another, both included."
    ),
    steps: int | None = typer.Option(None, help=f"Grooves of --interpolate ({DEFAULT_STEPS}); --count goes round."),
    move: list[str] = typer.Option([], metavar="NAME=AMOUNT", help="More or less of an attribute; may come again."),
    continue_: Path | None = typer.Option(
        None, "--continue", metavar="FILE", help="Keep its first bars, and go on from there."
    ),
    bars: int | None = typer.Option(None, help=f"Of --continue ({DEFAULT_BARS})."),
    from_: Path | None = typer.Option(
        None, "--from", metavar="FILE", help="What --keep and --keep-bars are of; z is that of a variation of it."
    ),
    keep: str | None = typer.Option(None, metavar="DRUM,...", help="Drums that stay as --from has them."),
    keep_bars: str | None = typer.Option(None, metavar="N,...", help="Bars, from 1, that stay as --from has them."),
    must_have: str | None = typer.Option(None, metavar="DRUM,...", help="Drums that every groove has at least once."),
    forbid: str | None = typer.Option(None, metavar="DRUM,...", help="Drums that no groove has."),
    density: str | None = typer.Option(None, metavar="LEAST:MOST", help="Hits a bar, all drums together."),
    bar_temperature: str | None = typer.Option(
        None, metavar="T,T,T,T", help="A temperature for each bar, in place of --temperature."
    ),
    top_p: float | None = typer.Option(None, help="Draw among the likeliest tokens of this probability (1: all)."),
    tempo_range: str | None = typer.Option(
        None, metavar="LEAST:MOST|style", help="A tempo for each groove, in BPM, or of those of the style of --feel."
    ),
    precision: str | None = typer.Option(
        None, metavar="float32|bfloat16", help="Of decoding (bfloat16 where the CPU has it: faster)."
    ),
    pack: Form | None = typer.Option(None, metavar="tar|zip", help="WebDataset tars or one zip in place of files."),
    no_files: bool = typer.Option(False, "--no-files", help="Manifest, tokens and codes only."),
    pitches: str | None = typer.Option(None, metavar="roland|general_midi|FILE", help="(those of the model)"),
    midi_format: int = typer.Option(1, help="0: one track; 1: one track of tempo and one of drums."),
    ticks: int = typer.Option(TICKS_PER_QUARTER, help="Of a quarter note."),
    audio: Audio = typer.Option(Audio.NONE, help="A loop of sound beside each MIDI file, of a synthesised kit."),
    no_gallery: bool = typer.Option(False, "--no-gallery", help="No page to look through them and to hear them."),
    shards: str | None = typer.Option(
        None, metavar="FOLDER|URL", help="What the model was trained on: tells how far each groove is from it."
    ),
    drop_duplicates: bool = typer.Option(False, "--drop-duplicates", help="Leave out what equals an earlier groove."),
    drop_memorised: bool = typer.Option(False, "--drop-memorised", help="Leave out what is a training window."),
    best: int | None = typer.Option(None, metavar="K", help="Keep K of them, by the figure that --by names."),
    by: str | None = typer.Option(None, metavar="FIGURE", help=f"{', '.join(RANKED)}; -FIGURE keeps the least."),
    pick: Path | None = typer.Option(
        None, metavar="LIST", help="Make those alone that a list of a gallery names, as COUNT of them would have them."
    ),
    refill: bool = typer.Option(False, "--refill", help="Make more, until COUNT are left after what is dropped."),
    chunk: int = typer.Option(CHUNK, help="Grooves that are done, and lost by a kill, at once."),
    shard: str | None = typer.Option(
        None, metavar="K/M", help="Make one of M shares, K from 0; slurm/M in a SLURM array."
    ),
    workers: int | None = WORKERS,
    ray_address: str | None = RAY,
    resume: bool = typer.Option(False, "--resume", help="Go on in OUT, which has to be there already."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what another sampling has made in OUT."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what it would take of the disk, and stop."),
) -> None:
    """Generate drum grooves in bulk: new ones, or variations of a given one."""
    if run is not None and weights is not None:
        raise ConfigError("two models are named", do="give one of --run, --preset and --weights")
    if no_files and pack is not None:
        raise ConfigError("--pack and --no-files exclude each other", do="give one of them")
    modes = Modes(
        start=_absolute(interpolate and interpolate[0]),
        end=_absolute(interpolate and interpolate[1]),
        steps=steps,
        move=tuple(move),
        continued=_absolute(continue_),
        bars=bars,
        source=_absolute(from_),
        keep=keep,
        keep_bars=keep_bars,
        must_have=must_have,
        forbid=forbid,
        density=density,
        bar_temperature=bar_temperature,
        top_p=top_p,
        tempo_range=tempo_range,
        precision=precision,
    )
    picked = None if pick is None else tuple(sorted(read_pick(pick)))
    if count is None:
        count = picked[-1] + 1 if picked else modes.least_count
    options = SampleOptions(
        count=count,
        seed=seed,
        run=_absolute(run or weights),
        preset=preset,
        temperature=temperature,
        tempo=tempo,
        dry=dry,
        feel=feel,
        like=_absolute(like),
        distance=distance,
        form=Form.NONE if no_files else pack or Form.FILES,
        pitches=pitches,
        midi_format=midi_format,
        ticks=ticks,
        audio=audio,
        gallery=not no_gallery,
        shards=shards,
        drop_duplicates=drop_duplicates,
        drop_memorised=drop_memorised,
        best=best,
        by=by,
        refill=refill,
        pick=picked,
        modes=modes,
    )
    from jobs.sampler.job import job_of, loaded
    from jobs.sampler.run import make_shard, training_record
    from jobs.sampler.terminal import pace, show_size
    from jobs.sampler.work import SampleWork, shard_of

    share, means = shard_of(shard, os.environ), _means(chunk, workers, ray_address)
    work = SampleWork(out.resolve())
    if not overwrite:
        work.check_out()
    job = job_of(options, work.out)
    training = training_record(job, options, loaded(job.model))
    show_size(job, options.wanted, means.chunk, all_forms=dry_run)
    if dry_run:
        return
    if resume and not work.path.is_dir():
        raise ConfigError(f"there is nothing to resume in {out}", do="check --out, or leave --resume out")
    with _writing(work.out):
        if overwrite:
            work.clear(job.settings, options)
        work.claim(job.settings, options)
        if work.whole_count() == options.count:
            console.print(f"{work.out} is whole: nothing is left to do", soft_wrap=True)
            return
        started = time.monotonic()
        make_shard(job, work, options, share, means)
        made = sum(stretch.last - stretch.first for stretch in share.stretches(options))
        console.print(f"{_shard_words(share)}{made:,} grooves in {pace(made, started)}")
        _finish(job, work, options, training, means, alone=share.total == 1)


def merge(
    out: Path = OUT,
    chunk: int = typer.Option(CHUNK, help="Grooves of a task, where --refill has to make some."),
    workers: int | None = WORKERS,
    ray_address: str | None = RAY,
) -> None:
    """Put together what the shards of a sampling have made."""
    from jobs.sampler.job import job_of, loaded
    from jobs.sampler.run import training_record
    from jobs.sampler.work import SampleWork

    work, means = SampleWork(out.resolve()), _means(chunk, workers, ray_address)
    options = work.options()
    job = job_of(options, work.out)
    with _writing(work.out):
        work.claim(job.settings, options)
        _finish(job, work, options, training_record(job, options, loaded(job.model)), means, alone=True)


def _finish(
    job: "SampleJob",
    work: "SampleWork",
    options: SampleOptions,
    training: "TrainingRecord | None",
    means: "Means",
    *,
    alone: bool,
) -> None:
    """Puts the output together and shows it; `alone` says that nobody else would do it later.

    Raises:
        ConfigError: items are missing that nobody else makes, as far as is known.
    """
    from jobs.sampler.run import finish
    from jobs.sampler.terminal import show_output

    started = time.monotonic()
    merged = finish(job, work, options, training, means)
    if merged is not None:
        show_output(job, merged, training)
        console.print(f"put together in {time.monotonic() - started:.1f} s")
        return
    missing = work.missing_words(options)
    if alone:
        raise ConfigError(
            f"{job.out} cannot be put together yet",
            expected=f"all of {options.wanted} grooves, and nobody else at it",
            found=f"missing: {missing}" if missing else "somebody else puts it together",
            likely="a shard that failed or still runs" if missing else "another shard was the last to end",
            do="run the missing shards again, then: python -m jobs.sample merge --out OUT",
        )
    console.print(f"still missing: {missing}; the last shard puts all together" if missing else "another shard merges")


def _means(chunk: int, workers: int | None, ray_address: str | None) -> "Means":
    from jobs.sampler.run import Means

    check_options(
        ("--chunk", chunk, chunk >= 1, "1 or more"),
        ("--workers", workers, workers is None or workers >= 1, "1 or more"),
    )
    return Means(chunk, workers, ray_address)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Says what to do where the disk does not take any more.

    Raises:
        DiskFullError: it is full.
        ConfigError: it cannot be written to for another reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"the disk of {out} is full",
                found=str(error),
                do="make room, or raise the quota, and run the same command again: what was done is kept",
            ) from None
        cure = "name an --out in a folder that can be written"
        raise ConfigError(f"cannot write {out}", found=str(error), do=cure) from None


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


def _shard_words(shard: "Shard") -> str:
    return "" if shard.total == 1 else f"shard {shard}: "


if __name__ == "__main__":
    if sys.argv[1:2] == ["merge"]:
        del sys.argv[1]
        run_command(merge)
    run_command(main)
