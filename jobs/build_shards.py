"""MIDI files -> shards of 4-bar windows: python -m jobs.build_shards --source groove --out shards/groove"""

import errno
import sys
import time
from pathlib import Path

import typer

from jobs.build_output import progress_line, table_of
from jobs.command.command_line import compose_settings, console, run_command, settings_text
from musicvae.errors import ConfigError, UserError
from preprocess.build import build, check_rejected_share
from preprocess.existing import check_replaceable, find_finished_build, output_folder
from preprocess.on_ray import task_runner
from preprocess.report import REPORT_NAME
from preprocess.report_page import PAGE_NAME
from preprocess.settings import BuildSettings
from preprocess.sources.open import DEMO_FOLDER
from preprocess.work_folder import remove_leftovers, work_folder_of

LIKELY_CAUSES = {
    errno.ENOSPC: "the disk is full: the work needs the room of the shards and about a fifth more",
    errno.EDQUOT: "your quota is full: the work needs the room of the shards and about a fifth more",
    errno.EFBIG: "a limit on the size of files (`ulimit -f`)",
}


def main(
    source: str = typer.Option(
        ..., help="A folder, archive (.zip, .tar, .tar.gz) or list (.csv, .jsonl) of MIDI files, `groove` or `demo`."
    ),
    out: Path = typer.Option(..., help="The folder of shards to make."),
    workers: int | None = typer.Option(None, min=0, help="Ray processes (all CPUs); 0: in this process, without Ray."),
    ray_address: str = typer.Option("", metavar="HOST:PORT", help="A running Ray cluster that sees the same files."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace OUT, once its successor is whole."),
    seed: int | None = typer.Option(None, min=0, help="Which demo corpus; the same as demo.seed=S."),
    config: Path | None = typer.Option(None, help="Settings from a YAML file."),
    print_config: bool = typer.Option(False, "--print-config", help="Show what this command line resolves to."),
    overrides: list[str] = typer.Argument(None, metavar="[key.sub=value]...", help="Settings, over the file's."),
) -> None:
    """Convert a collection of MIDI files to shards, with every file accounted for."""
    seeded = [*(overrides or []), *([] if seed is None else [f"demo.seed={seed}"])]
    settings = compose_settings(BuildSettings, config=config, overrides=seeded)
    if print_config:
        print(settings_text(settings), end="")
        return

    out = output_folder(out)
    started = time.monotonic()
    try:
        if overwrite:
            check_replaceable(source, out)
        elif finished := find_finished_build(source, out, settings):
            remove_leftovers(out)
            console.print(table_of(finished))
            check_rejected_share(finished.rejected, finished.seen, settings, out / REPORT_NAME)
            console.print(
                f"{out} holds these shards already, from the same files and settings: nothing to do", soft_wrap=True
            )
            return
        with task_runner(workers, ray_address) as run, progress_line() as on_progress:
            report = build(source, out, settings, run, overwrite=overwrite, on_progress=on_progress)
    except OSError as error:
        raise _stopped(out, error) from None
    except BaseException as stop:
        if not isinstance(stop, Exception) and work_folder_of(out).exists():
            print(f"what was done is kept in {work_folder_of(out)}", file=sys.stderr)
        raise

    console.print(table_of(report))
    seconds = time.monotonic() - started
    console.print(f"{out}: {sum(report.windows.values())} windows in {seconds:.1f} s", soft_wrap=True)
    console.print(f"every file and its outcome: {out / REPORT_NAME}; to look at: {out / PAGE_NAME}", soft_wrap=True)
    if source == "demo":
        console.print(f"the performances, to be listened to: {out / DEMO_FOLDER}", soft_wrap=True)
    for split in [split for split, windows in report.windows.items() if not windows]:
        cure = "give more files, or another split.validation_share"
        console.print(f"warning: no window came to {split}; training needs train and validation: {cure}")


def _stopped(out: Path, error: OSError) -> UserError:
    if not work_folder_of(out).exists():
        return ConfigError(f"cannot write {out}", found=str(error), do="name a folder that can be made")
    return UserError(
        f"the build of {out} stopped",
        expected="a source that can be read, and an output that can be written, to the end",
        found=str(error),
        likely=LIKELY_CAUSES.get(error.errno or 0, "a file system that went away or changed its permissions"),
        do=f"mend that and run the same command again: it goes on from {work_folder_of(out)}",
    )


if __name__ == "__main__":
    run_command(main)
