"""Runs the whole path in a few minutes: MIDI -> shards -> trained model -> evaluation -> 64 new grooves.

    python -m jobs.demo [--out demo]

It shows each command before it runs it. Each of them replaces nothing but what it made itself.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cluster.local import python_module, run
from jobs.command.command_line import console, run_command, show_next
from musicvae.errors import ConfigError

GROOVES = 64
RANKS = 2
MARK = "made-by-jobs-demo"
"""A file that tells a folder of an earlier demo from one of the user's."""


def main(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for all results.")] = Path("demo"),
    workers: Annotated[
        int, typer.Option(min=0, help="Ray processes for the shards; 0: this process, without Ray.")
    ] = 2,
) -> None:
    """Run the whole path from MIDI files to new grooves in a few minutes on two cores.

    The demo generates a corpus, builds shards, trains a small model, evaluates it and samples 64 grooves. It shows each
    command before it runs it, so that you can run it on your own files. A demo that was stopped is resumed.

        python -m jobs.demo
    """
    if out.exists() and not (out / MARK).exists():
        raise ConfigError(f"{out} exists, and jobs.demo did not create it", do="choose another folder: --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    shards, trained, grooves = out / "shards", out / "run", out / "grooves"
    started = time.monotonic()
    building = ["--source", "demo", "--out", shards, "--workers", workers, "--overwrite"]
    step(python_module("jobs.build_shards", *building))
    training = ["--preset", "demo", "--shards", shards, "--run", trained, "tracking.wandb=offline"]
    step(python_module("jobs.train", "--ranks", RANKS, *training))
    evaluation = ["--run", trained, "--shards", shards, "--split", "validation", "--json", out / "evaluation.json"]
    step(python_module("jobs.evaluate", *evaluation, "--quick"))
    step(python_module("jobs.sample", "--run", trained, "--count", GROOVES, "--out", grooves, "--overwrite"))
    minutes = (time.monotonic() - started) / 60
    console.print(f"\ndone in {minutes:.1f} minutes: {GROOVES} grooves as MIDI files in {grooves.resolve()}")
    console.print(f"page to see, hear and choose them: {(grooves / 'gallery.html').resolve()}", soft_wrap=True)
    show_next("report", trained)


def step(argv: Sequence[str]) -> None:
    """Shows a command, runs it, and ends with its exit status if it fails."""
    console.print(f"\n$ {shlex.join(['python', *argv[1:]])}", style="bold", soft_wrap=True)
    if code := run(argv):
        sys.exit(code)


if __name__ == "__main__":
    run_command(main)
