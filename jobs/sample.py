"""Makes grooves as MIDI files with a trained model: python -m jobs.sample --count 64 --out grooves

python -m jobs.sample --count N --out DIR ...     makes or resumes them
python -m jobs.sample merge --out DIR             merges shares, where the last one could not
"""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cluster.ray_jobs import check_ray_address
from jobs.command.command_line import (
    SETTINGS,
    WORK,
    compose_settings,
    console,
    end_of_checks,
    flags_of,
    run_command,
    settings_text,
)
from jobs.command.mirror import ResumeFrom, SyncTo, check_urls, fetch, mirrored
from jobs.sampler.settings import Execution, OutputFormat, SampleSettings
from musicvae.data.manifest import open_shards
from musicvae.errors import ConfigError, DiskFullError
from musicvae.generation.settings import PLAIN
from musicvae.pretrained.shipped import check_model_is_there, model_folder

if TYPE_CHECKING:  # torch, which takes seconds to load
    from jobs.sampler.job import SampleJob
    from jobs.sampler.work import SampleWork
    from musicvae.pretrained.training_record import TrainingRecord

OUT = typer.Option(..., metavar="FOLDER", help="The folder for the grooves: a new one, or one to resume.")


@flags_of(SampleSettings)
@flags_of(Execution)
def main(
    out: Path = OUT,
    dry: bool = typer.Option(False, "--dry", "--plain", hidden=True),
    *,
    weights: str | None = typer.Option(None, metavar="FOLDER", help="The same as --run.", rich_help_panel="Model"),
    no_files: bool = typer.Option(False, "--no-files", help="The same as --pack none.", rich_help_panel="Output"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the grooves of another sampling in --out."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show how much disk the grooves need and exit."),
    resume: bool = typer.Option(
        False, "--resume", help="Fail if there is nothing to resume in --out.", rich_help_panel=WORK
    ),
    shard: str | None = typer.Option(
        None, metavar="K/M", help="Make share K, from 0, of M; slurm/M: that of the task of a SLURM array."
    ),
    sync_to: SyncTo = None,
    resume_from: ResumeFrom = None,
    config: Path | None = typer.Option(
        None, metavar="FILE.yaml", help="Settings from a YAML file; options replace them.", rich_help_panel=SETTINGS
    ),
    print_config: bool = typer.Option(False, "--print-config", help="Show all settings with their values and exit."),
    **flags: Any,
) -> None:
    """Make drum grooves as MIDI files: new ones, or variations, continuations and interpolations of yours.

    The result depends only on the model, the settings and the seed. If the command is interrupted, run it again to
    resume. `python -m jobs.sample merge --out FOLDER` merges the shares of --shard, where the last one could not.

        python -m jobs.sample --count 64 --out grooves
        python -m jobs.sample --like loop.mid --distance 0.2 --count 16 --out variations
    """
    if weights is not None and flags["run"] is not None:
        raise ConfigError("two models are given", do="give only one of --run, --preset and --weights")
    if no_files and flags["pack"] is not None:
        raise ConfigError("--pack and --no-files exclude each other", do="give only one of them")
    if dry and flags["feel"] is not None:
        expected, do = "no --feel with it", "correct the command line"
        raise ConfigError("--dry True cannot be used", expected=expected, found="True", do=do)
    flags |= {"run": weights or flags["run"], "pack": OutputFormat.NONE if no_files else flags["pack"]}
    flags["feel"] = PLAIN if dry else flags["feel"]
    options = compose_settings(SampleSettings, config=config, flags=flags)
    execution = compose_settings(Execution, flags=flags)
    if print_config:
        print(settings_text(options), end="")
        return
    check_urls(sync_to=sync_to, resume_from=resume_from)
    if options.run or options.preset:
        check_model_is_there(Path(options.run) if options.run else model_folder(options.preset or ""))
    if options.shards:
        open_shards(options.shards).manifest()
    end_of_checks()
    check_ray_address(execution.ray_address)
    from jobs.sampler.inputs import files_of
    from jobs.sampler.job import job_of, loaded
    from jobs.sampler.run import make_share, training_record
    from jobs.sampler.terminal import pace, show_notice, show_size
    from jobs.sampler.work import COPIES, SampleWork, share_of
    from jobs.sampler.work import WORK as WORK_FOLDER

    if options.humanize is not None and options.pick is None:
        files = files_of(Path(options.humanize), options.reading)
        options = options.model_copy(update={"count": options.count * len(files)})
    share, work = share_of(shard, os.environ), SampleWork(out.resolve())
    copied = f"{WORK_FOLDER}/{COPIES}"
    if not dry_run:
        fetch(resume_from, work.out, private=copied)
    if not overwrite:
        work.check_out()
    job = job_of(options, work.out, overwrite=overwrite)
    training = training_record(job, loaded(job.model))
    show_size(job, options.wanted, execution.chunk, all_formats=dry_run)
    if dry_run:
        return
    if resume and not work.path.is_dir():
        raise ConfigError(f"there is nothing to resume in {out}", do="correct --out, or leave --resume out")
    with _writing(work.out), mirrored(work.out, sync_to, private=copied):
        if overwrite:
            work.clear(job.settings, options)
        work.claim(job.settings, options)
        show_notice(job)
        if work.whole_count() == options.count:
            console.print(f"{work.out} is complete. Nothing is left to do.", soft_wrap=True)
            return
        started = time.monotonic()
        make_share(job, work, share, execution)
        made = sum(span.last - span.first for span in share.spans(options))
        name = "" if share.total == 1 else f"share {share}: "
        console.print(f"{name}{made:,} grooves in {pace(made, started)}")
        _finish(job, work, training, execution, alone=share.total == 1)


@flags_of(Execution)
def merge(out: Path = OUT, **flags: Any) -> None:
    """Merge the shares of a sampling: manifest, packs, report and gallery.

    python -m jobs.sample merge --out grooves
    """
    execution = compose_settings(Execution, flags=flags)
    end_of_checks()
    from jobs.sampler.job import job_of, loaded
    from jobs.sampler.run import training_record
    from jobs.sampler.terminal import show_notice
    from jobs.sampler.work import SampleWork

    work = SampleWork(out.resolve())
    options = work.options()
    job = job_of(options, work.out)
    with _writing(work.out):
        work.claim(job.settings, options)
        show_notice(job)
        _finish(job, work, training_record(job, loaded(job.model)), execution, alone=True)


def _finish(
    job: "SampleJob", work: "SampleWork", training: "TrainingRecord | None", execution: Execution, *, alone: bool
) -> None:
    """Puts the output together and shows it; `alone` says that nobody else would do it later.

    Raises:
        ConfigError: items are missing that nobody else makes, as far as is known.
    """
    from jobs.sampler.run import finish
    from jobs.sampler.terminal import show_output

    started = time.monotonic()
    merged = finish(job, work, training, execution)
    if merged is not None:
        show_output(job, merged, training)
        console.print(f"merged in {time.monotonic() - started:.1f} s")
        return
    missing = work.missing_words(job.options)
    if alone:
        raise ConfigError(
            f"the shares in {job.out} cannot be merged yet",
            expected=f"all of {job.options.wanted} grooves, and no other process that merges",
            found=f"missing: {missing}" if missing else "another process merges them",
            likely="a share failed or still runs" if missing else "another share has just finished",
            do="run the missing shares again, then: python -m jobs.sample merge --out OUT",
        )
    console.print(f"still missing: {missing}; the last share merges all" if missing else "another share merges")


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
                do="free some space or raise the quota, then run the same command again; finished grooves are kept",
            ) from None
        cure = "choose --out in a writable folder"
        raise ConfigError(f"cannot write {out}", found=str(error), do=cure) from None


if __name__ == "__main__":
    if sys.argv[1:2] == ["merge"]:
        del sys.argv[1]
        run_command(merge)
    run_command(main)
