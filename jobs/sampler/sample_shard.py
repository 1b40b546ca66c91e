"""The share of a sampling that one of several writers makes: `--shard 2/10`, or `slurm/10` in a SLURM array.

A site's MaxArraySize may be below the number of shares: `slurm+1000/4000` adds 1,000 to the task's number.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jobs.sampler.parts import Span
from jobs.sampler.sample_options import SampleOptions
from musicvae.errors import ConfigError

ARRAY_TASK = "SLURM_ARRAY_TASK_ID"


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
