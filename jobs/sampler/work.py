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

from jobs.command.command_line import check_output
from jobs.sampler.options import SampleOptions
from jobs.sampler.parts import Parts, Span
from musicvae.durable import aside_of, remove_asides, write_json
from musicvae.errors import ConfigError, DataError
from musicvae.folder_lock import hold_folder

ARRAY_TASK = "SLURM_ARRAY_TASK_ID"
WORK, JOB = "sampling-work", "job.json"
MANIFEST, SETTINGS = "manifest.jsonl", "settings.json"
MOST_GAPS = 8
"""That a message names."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Number `number`, counted from 0, of `total` equal shares.

    Raises:
        ValueError: there is no such share.
    """

    number: int = 0
    total: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.total:
            raise ValueError(f"a shard is one of 0/{self.total} to {self.total - 1}/{self.total}, found {self}")

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"

    def span(self, count: int) -> Span:
        """Its items of `count`; the shares differ by one at most."""
        return Span(self.number * count // self.total, (self.number + 1) * count // self.total)

    def stretches(self, options: SampleOptions) -> list[Span]:
        """Its items of what options ask for, before --refill: in one piece, or those that are picked."""
        own = self.span(options.wanted)
        if options.pick is None:
            return [own]
        picked = np.array(options.pick[own.first : own.last], dtype=np.int64)
        pieces = np.split(picked, np.flatnonzero(np.diff(picked) > 1) + 1) if len(picked) else []
        return [Span(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


def shard_of(text: str | None, environment: Mapping[str, str]) -> Shard:
    """The shard that `--shard` names; all of the job where it is not given.

    The number of shares always stands on the command line: an array of which a part is submitted again has another
    number of tasks, and the same shares.

    Raises:
        ConfigError: no such shard, or `slurm` outside of an array.
    """
    if text is None:
        return Shard()
    match = re.fullmatch(r"(slurm|\d+)(\+\d+)?/(\d+)", text)
    number, offset, total = match.groups() if match else ("", None, "")
    if number == "slurm" and ARRAY_TASK not in environment:
        raise ConfigError(
            f"--shard {text} does not say which shard",
            expected=f"the variable {ARRAY_TASK}, as tasks of a SLURM array have it",
            found="no such variable",
            likely="a job that was submitted without --array",
            do=f"sbatch --array=0-{int(total) - 1} ..., or name the shard: --shard 0/{total}",
        )
    found = environment[ARRAY_TASK] if number == "slurm" else number
    try:
        return Shard(int(found) + int(offset or 0), int(total))
    except ValueError:
        raise ConfigError(
            f"--shard {text} cannot be used",
            expected="K/M with K from 0 to M - 1, or slurm/M in a SLURM array with --array=0-(M - 1)",
            found=f"{found}{offset or ''}/{total}" if match else text,
            do="correct the command line, or the array's numbers",
        ) from None


class SampleWork:
    """The work area of an output."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / WORK
        self.parts = Parts(self.path / "parts")
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

    def clear(self, settings: dict[str, Any], options: SampleOptions) -> None:
        """Makes room for a new job, as --overwrite asks; what this very job has begun stays.

        Raises:
            ConfigError: a folder of somebody else, or one that is being worked on.
            OSError: something cannot be removed.
        """
        if not self.out.exists() or not any(self.out.iterdir()):
            return
        if not (self.path.is_dir() or self._made_before()):
            self.check_out()
        if not self.is_whole and self._is_begun(settings, options):
            return
        with ExitStack() as held:
            for folder in [*self._writers.glob("*"), *self.path.glob("merge")]:
                held.enter_context(hold_folder(folder))
        # The work area goes last: what a kill leaves of the rest is known as ours by it.
        for path in sorted(self.out.iterdir(), key=lambda path: path.name == WORK):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def claim(self, settings: dict[str, Any], options: SampleOptions) -> None:
        """Makes the work area, or makes sure that it is the same job's; `count` may be a larger one.

        Raises:
            ConfigError: the folder holds grooves of other settings, or more of them.
            OSError: it cannot be made.
        """
        for folder in (self.parts.folder, self._writers, self._merge):
            folder.mkdir(parents=True, exist_ok=True)
        aside = aside_of(self.path / JOB)
        write_json(aside, {"settings": settings, "options": options.values()})
        try:
            # Unlike a rename it fails where another shard, or an earlier command, was first.
            os.link(aside, self.path / JOB)
            return
        except FileExistsError:
            recorded = self._recorded()
        finally:
            aside.unlink(missing_ok=True)
        differing = [key for key in settings if recorded["settings"].get(key) != settings[key]]
        if differing:
            raise ConfigError(
                f"{self.out} holds grooves of other settings",
                expected=", ".join(f"{key} {recorded['settings'].get(key)}" for key in differing),
                found=", ".join(f"{key} {settings[key]}" for key in differing),
                do="name another --out, give the settings that it was begun with, or replace it with --overwrite",
            )
        if options.count < recorded["options"]["count"]:
            raise ConfigError(
                f"{self.out} holds more grooves than --count {options.count}",
                expected=f"--count {recorded['options']['count']} or more",
                found=str(options.count),
                do="name another --out, or replace it with --overwrite",
            )

    def grow(self, options: SampleOptions) -> None:
        """Records a larger count; for a writer, so that one who is refused leaves no trace.

        Raises:
            OSError: it cannot be written.
        """
        recorded = self._recorded()
        if options.count > recorded["options"]["count"]:
            write_json(self.path / JOB, {**recorded, "options": options.values()})

    def options(self) -> SampleOptions:
        """What the job was begun with, and the largest count so far.

        Raises:
            ConfigError: no sampling was begun here.
        """
        if not (self.path / JOB).is_file():
            raise ConfigError(
                f"there is nothing to merge in {self.out}",
                expected=f"{WORK}/{JOB}, as python -m jobs.sample begins with",
                found="no such file",
                do="check the path",
            )
        return SampleOptions.from_values(self._recorded()["options"])

    @property
    def is_whole(self) -> bool:
        """Whether the output is put together, be it for a smaller count."""
        return (self.out / SETTINGS).is_file()

    def whole_count(self) -> int:
        """How many grooves the output was put together for; 0 if it was not."""
        return json.loads((self.out / SETTINGS).read_text())["count"] if self.is_whole else 0

    def missing_words(self, options: SampleOptions) -> str:
        """The items that lack, and the shards to run again, for messages; empty if none do."""
        gaps = self.parts.missing(Shard().stretches(options))
        items = ", ".join(f"{gap.first} to {gap.last - 1}" for gap in gaps[:MOST_GAPS])
        items += f" and {len(gaps) - MOST_GAPS} more stretches" if len(gaps) > MOST_GAPS else ""
        total = max((int(folder.name.partition("-of-")[2]) for folder in self._writers.iterdir()), default=1)
        if not gaps or total == 1:
            return items
        shards = [str(n) for n in range(total) if self.parts.missing(Shard(n, total).stretches(options))]
        return f"{items} (shards {','.join(shards)} of {total})"

    def chunks(self, wanted: Iterable[Span], size: int) -> list[Span]:
        """What is left to do of spans, cut at multiples of `size`."""
        chunks = []
        for gap in self.parts.missing(wanted):
            cuts = [gap.first, *range((gap.first // size + 1) * size, gap.last, size), gap.last]
            chunks += [Span(*bounds) for bounds in pairwise(cuts)]
        return chunks

    @contextmanager
    def writer(self, shard: Shard) -> Iterator[Path]:
        """A folder for what a shard's writer is writing, held for this process alone.

        Raises:
            ConfigError: somebody makes this shard, or another division of the job, at the moment.
            OSError: the folder cannot be written to.
        """
        folder = self._writers / f"{shard.number}-of-{shard.total}"
        folder.mkdir(exist_ok=True)
        with hold_folder(folder):
            for other in self._writers.iterdir():
                # Shares of another division overlap with this one.
                if not other.name.endswith(f"-of-{shard.total}"):
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

    def _is_begun(self, settings: dict[str, Any], options: SampleOptions) -> bool:
        """Whether this very job was begun here."""
        try:
            recorded = self._recorded()
        except (OSError, DataError):
            return False
        return (recorded["settings"], recorded["options"]["count"]) == (settings, options.count)

    def _made_before(self) -> bool:
        return (self.out / MANIFEST).is_file() and (self.out / SETTINGS).is_file()

    def _recorded(self) -> dict[str, Any]:
        path = self.path / JOB
        try:
            recorded = json.loads(path.read_text())
            SampleOptions.from_values(recorded["options"])
            return recorded
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} cannot be used",
                expected="settings and options of a sampling",
                found=f"{type(error).__name__}: {error}",
                likely="a file that was edited, or another version of this program",
                do="replace the folder with --overwrite",
            ) from None
