"""What a submission is about to use, shown before it does; a large one is confirmed by hand."""

import math
import sys
from collections.abc import Mapping, Sequence

import typer
from rich.table import Table

from cluster.submission import Submission
from musicvae.errors import ConfigError


def plan_table(submission: Submission, missing: Mapping[str, Sequence[int]]) -> Table:
    """One row a job, for what of it is missing."""
    table = Table("job", "elements", "after", "nodes", "GPUs", "CPUs", "memory", "time", title=submission.name)
    for job in submission.jobs:
        own, resources = len(missing[job.name]), job.resources
        table.add_row(
            job.name,
            f"{own} of {len(job.elements)}" if job.array else "done" if not own else "1",
            ", ".join(job.after),
            str(resources.nodes),
            str(resources.nodes * resources.gpus_per_node),
            str(resources.cpus_per_node or "-"),
            resources.memory or "-",
            f"{resources.minutes // 60}:{resources.minutes % 60:02d}:00" if resources.minutes else "-",
        )
    table.caption = _sums(submission, missing)
    return table


def gpu_hours(submission: Submission, missing: Mapping[str, Sequence[int]]) -> float:
    """The most that what is missing may use; infinite where GPUs have no limit of time."""
    return sum(job.resources.gpu_hours * len(own) for job in submission.jobs if (own := missing[job.name]))


def confirm(submission: Submission, missing: Mapping[str, Sequence[int]], *, yes: bool) -> None:
    """Asks where a plan is larger than the site wants to let pass.

    Raises:
        ConfigError: it is refused, or there is nobody to ask.
    """
    site, elements = submission.site, sum(map(len, missing.values()))
    large = gpu_hours(submission, missing) > site.ask_above_gpu_hours or elements > site.ask_above_jobs
    if yes or not large or submission.target == "local":
        return
    sums = _sums(submission, missing)
    if not sys.stdin.isatty():
        raise ConfigError(
            "the plan is large, and there is nobody to ask",
            expected=f"up to {site.ask_above_gpu_hours:g} GPU-hours and {site.ask_above_jobs} jobs, or --yes",
            found=sums,
            do="look at the plan with --dry-run, then add --yes",
        )
    if not typer.confirm(f"{sums}: submit?", err=True):
        raise ConfigError("nothing was submitted", do="the same command asks again")


def _sums(submission: Submission, missing: Mapping[str, Sequence[int]]) -> str:
    elements, hours = sum(map(len, missing.values())), gpu_hours(submission, missing)
    told = f"up to {hours:.1f} GPU-hours" if math.isfinite(hours) else "GPU-hours without a limit: no --time"
    return f"{elements} job(s), {told}"
