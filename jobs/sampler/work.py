"""The work area of a sampling's output: what it is, which parts are done, and who works on which share.

    OUT/sampling-work/
        job.json     settings and options, written once by whoever comes first
        parts/       what is done, see `jobs.sampler.parts`
        writers/     one folder for each share that somebody makes or made: its lock, and what it is writing
        merge/       the lock of whoever puts everything together

It stays when the output is complete, so that the output can grow; without it everything is made again, to the same
bytes.

One of several writers makes one share: `--shard 2/10`, or `slurm/10` in a SLURM array. A site's MaxArraySize may be
below the number of shares: `slurm+1000/4000` adds 1,000 to the task's number.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cluster.job import MOST_ELEMENTS
from jobs.command.paths import check_output
from jobs.sampler.parts import SampleChunks, Span
from jobs.sampler.settings import SampleSettings
from musicvae.durable import aside_of, refuse_strangers, remove_asides, write_json
from musicvae.errors import ConfigError, DataError
from musicvae.folder_lock import hold_folder

ARRAY_TASK = "SLURM_ARRAY_TASK_ID"
WORK, JOB, COPIES = "sampling-work", "job.json", "mirror"
"""The work area in the output; in it what the job is, and whose copies it has elsewhere."""
MANIFEST, SETTINGS = "manifest.jsonl", "settings.json"
MADE = re.compile(
    r"manifest\.(jsonl|parquet)|settings\.json|z\.npy|report\.(json|html)|gallery\.html"
    r"|grooves\.(png|zip)|grooves-\d+\.tar|\d+/groove-\d+\.(mid|wav|flac)"
)
"""Paths of what a sampling makes in OUT."""
MOST_GAPS = 8
"""That a message names."""


@dataclass(frozen=True, slots=True)
class SampleShare:
    """Number `number`, counted from 0, of `total` equal shares.

    Raises:
        ValueError: there is no such share.
    """

    number: int = 0
    total: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.total <= MOST_ELEMENTS:
            raise ValueError(f"a share is one of 0/{self.total} to {self.total - 1}/{self.total}, found {self}")

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def span(self, count: int) -> Span:
        """Its items of `count`; the shares differ by one at most."""
        return Span(self.number * count // self.total, (self.number + 1) * count // self.total)

    def spans(self, options: SampleSettings) -> list[Span]:
        """Its items of what options ask for, before --refill: in one piece, or those that are picked."""
        share_span = self.span(options.wanted)
        if options.pick is None:
            return [share_span]
        picked = np.array(options.pick[share_span.first : share_span.last], dtype=np.int64)
        pieces = np.split(picked, np.flatnonzero(np.diff(picked) > 1) + 1) if len(picked) else []
        return [Span(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


def share_of(text: str | None, environment: Mapping[str, str]) -> SampleShare:
    """The share that `--shard` names; all of the job where it is not given.

    The number of shares always stands on the command line: an array of which a part is submitted again has another
    number of tasks, and the same shares.

    Raises:
        ConfigError: no such share, or `slurm` outside of an array.
    """
    if text is None:
        return SampleShare()
    match = re.fullmatch(r"(slurm|\d+)(\+\d+)?/(\d+)", text)
    number, offset, total = match.groups() if match else ("", None, "")
    if number == "slurm" and ARRAY_TASK not in environment:
        raise ConfigError(
            f"--shard {text} needs a task of a SLURM array",
            expected=f"the environment variable {ARRAY_TASK} of a SLURM array",
            found="no such variable",
            likely="the job was submitted without --array",
            do=f"sbatch --array=0-{int(total) - 1} ..., or give the share: --shard 0/{total}",
        )
    given_number = environment[ARRAY_TASK] if number == "slurm" else number
    try:
        return SampleShare(int(given_number) + int(offset or 0), int(total))
    except ValueError:
        raise ConfigError(
            f"--shard {text} cannot be used",
            expected=f"K/M with M up to {MOST_ELEMENTS:,} and K from 0 to M - 1, or slurm/M in a SLURM array with "
            "--array=0-(M - 1)",
            found=f"{given_number}{offset or ''}/{total}" if match else text,
            do="correct the command line, or the numbers of the array",
        ) from None


class SampleWork:
    """The work area of an output."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / WORK
        self.finished = SampleChunks(self.path / "parts")
        self._writers, self._merge = self.path / "writers", self.path / "merge"

    def check_out(self) -> None:
        """Refuses a folder that jobs.sample has not made.

        Raises:
            ConfigError: `out` holds something else.
        """
        if not self.path.is_dir():
            check_output(
                self.out,
                option="--out",
                maker="jobs.sample",
                ours="grooves of an earlier sampling",
                is_ours=self._made_before(),
                overwrite=False,
            )

    def clear(self, settings: dict[str, Any], options: SampleSettings) -> None:
        """Makes room for a new job, as --overwrite asks; what this very job has begun stays.

        Raises:
            ConfigError: a folder of somebody else, or one that is being worked on.
            OSError: something cannot be removed.
        """
        if not self.out.exists() or not any(self.out.iterdir()):
            return
        if not (self.path.is_dir() or self._made_before()):
            self.check_out()
        if self.is_half_made(settings, options):
            return
        with ExitStack() as held:
            for folder in [*self._writers.glob("*"), *self.path.glob("merge")]:
                held.enter_context(hold_folder(folder))
        written = [path.stat().st_mtime for path in (*self.finished.folder.glob("*"), *self.out.glob(SETTINGS))]
        refuse_strangers(self.out, MADE, max(written, default=math.inf), "jobs.sample", work=WORK)
        kept = self.path / COPIES  # the new job's copy takes the place of the old one's
        # The work area goes last: what a kill leaves of the rest is known as ours by it.
        outputs = (path for path in self.out.iterdir() if path != self.path)
        for path in [*outputs, *(path for path in self.path.glob("*") if path != kept)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if self.path.is_dir() and not kept.exists():
            self.path.rmdir()

    def claim(self, settings: dict[str, Any], options: SampleSettings) -> None:
        """Makes the work area, or makes sure that it is the same job's; `count` may be a larger one.

        Raises:
            ConfigError: the folder holds grooves of other settings, or more of them.
            OSError: it cannot be made.
        """
        for folder in (self.finished.folder, self._writers, self._merge):
            folder.mkdir(parents=True, exist_ok=True)
        aside = aside_of(self.path / JOB)
        write_json(aside, {"settings": settings, "options": options.record()})
        try:
            # Unlike a rename it fails where another share, or an earlier command, was first.
            os.link(aside, self.path / JOB)
            return
        except FileExistsError:
            recorded = self._recorded()
        finally:
            aside.unlink(missing_ok=True)
        before = recorded["settings"]
        differing = [key for key in {**settings, **before} if before.get(key) != settings.get(key)]
        if differing:
            raise ConfigError(
                f"{self.out} contains grooves made with other settings",
                expected=", ".join(f"{key} {before.get(key)}" for key in differing),
                found=", ".join(f"{key} {settings.get(key)}" for key in differing),
                do="choose another --out, use the settings of the first command, or replace it with --overwrite",
            )
        if options.count < recorded["options"]["count"]:
            raise ConfigError(
                f"{self.out} contains more grooves than --count {options.count}",
                expected=f"--count {recorded['options']['count']} or more",
                found=str(options.count),
                do="choose another --out, or replace it with --overwrite",
            )

    def grow(self, options: SampleSettings) -> None:
        """Records a larger count; for a writer, so that one who is refused leaves no trace.

        Raises:
            OSError: it cannot be written.
        """
        recorded = self._recorded()
        if options.count > recorded["options"]["count"]:
            write_json(self.path / JOB, {**recorded, "options": options.record()})

    def options(self) -> SampleSettings:
        """What the job was begun with, and the largest count so far.

        Raises:
            ConfigError: no sampling was begun here.
        """
        if not (self.path / JOB).is_file():
            raise ConfigError(
                f"there is nothing to merge in {self.out}",
                expected=f"{WORK}/{JOB}, which python -m jobs.sample writes first",
                found="no such file",
                do="correct the path",
            )
        return SampleSettings.of_record(self._recorded()["options"])

    @property
    def is_whole(self) -> bool:
        """Whether the output is put together, be it for a smaller count."""
        return (self.out / SETTINGS).is_file()

    def is_half_made(self, settings: dict[str, Any], options: SampleSettings) -> bool:
        """Whether this very job was begun here and is not complete."""
        if self.is_whole:
            return False
        try:
            recorded = self._recorded()
        except (OSError, DataError):
            return False
        return (recorded["settings"], recorded["options"]["count"]) == (settings, options.count)

    def settings(self) -> dict[str, Any] | None:
        """What the job that was begun here has on record; None without one.

        Raises:
            DataError: its record cannot be used.
        """
        return self._recorded()["settings"] if (self.path / JOB).is_file() else None

    def whole_count(self) -> int:
        """How many grooves the output was put together for; 0 if it was not."""
        return json.loads((self.out / SETTINGS).read_text(encoding="utf-8"))["count"] if self.is_whole else 0

    def missing_words(self, options: SampleSettings) -> str:
        """The items that lack, and the shares to run again, for messages; empty if none do."""
        gaps = self.finished.missing(SampleShare().spans(options))
        items = ", ".join(f"{gap.first} to {gap.last - 1}" for gap in gaps[:MOST_GAPS])
        items += f" and {len(gaps) - MOST_GAPS} more ranges" if len(gaps) > MOST_GAPS else ""
        total = max((int(folder.name.partition("-of-")[2]) for folder in self._writers.iterdir()), default=1)
        if not gaps or total == 1:
            return items
        shares = [str(n) for n in range(total) if self.finished.missing(SampleShare(n, total).spans(options))]
        return f"{items} (shares {','.join(shares)} of {total})"

    def chunks(self, wanted: Iterable[Span], size: int) -> list[Span]:
        """What is left to do of spans, cut at multiples of `size`."""
        chunks = []
        for gap in self.finished.missing(wanted):
            cuts = [gap.first, *range((gap.first // size + 1) * size, gap.last, size), gap.last]
            chunks += [Span(*bounds) for bounds in pairwise(cuts)]
        return chunks

    @contextmanager
    def writer(self, share: SampleShare) -> Iterator[Path]:
        """A folder for what a share's writer is writing, held for this process alone.

        Raises:
            ConfigError: somebody makes this share, or another division of the job, at the moment.
            OSError: the folder cannot be written to.
        """
        folder = self._writers / f"{share.number}-of-{share.total}"
        folder.mkdir(exist_ok=True)
        with hold_folder(folder):
            for other in self._writers.iterdir():
                # Shares of another division overlap with this one.
                if not other.name.endswith(f"-of-{share.total}"):
                    with hold_folder(other):
                        pass
            remove_asides(folder)
            yield folder

    @contextmanager
    def merging(self) -> Iterator[Path]:
        """An empty folder for what is being put together, for this process alone; it is gone at the end.

        Raises:
            FolderInUseError: somebody else is at it.
            OSError: it cannot be made.
        """
        self._merge.mkdir(parents=True, exist_ok=True)
        with hold_folder(self._merge):
            remove_asides(self._merge)
            (self.out / SETTINGS).unlink(missing_ok=True)
            scratch = aside_of(self._merge / "output")
            scratch.mkdir()
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _made_before(self) -> bool:
        return (self.out / MANIFEST).is_file() and (self.out / SETTINGS).is_file()

    def _recorded(self) -> dict[str, Any]:
        path = self.path / JOB
        try:
            recorded = json.loads(path.read_text(encoding="utf-8"))
            SampleSettings.of_record(recorded["options"])
            return recorded
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} cannot be used",
                expected="settings and options of a sampling",
                found=f"{type(error).__name__}: {error}",
                likely="an edited file, or another version of this program",
                do="replace the folder with --overwrite",
            ) from None
