"""Hands a submission to its target: what of it is missing, in the order of its plan.

What it is about to use is shown first, and a large submission is confirmed by hand.
"""

import math
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table

from cluster import ray_jobs, slurm
from cluster.errors import ExitCode, TargetError
from cluster.job import Job
from cluster.local import new_launch, run_here
from cluster.sbatch import render
from cluster.slurm import Call
from cluster.standing import LIVE, UNFINISHED, State, standings
from cluster.submission import CODE_PACKAGES, Submission, take_snapshot
from jobs import CHECKOUT
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


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What of a submission is not done.

    Attributes:
        elements: to be submitted, of each job.
        on_their_way: numbers under which the target has others, of each job.
    """

    elements: Mapping[str, Sequence[int]]
    on_their_way: Mapping[str, Sequence[str]]


def outstanding(submission: Submission, states: Collection[State] = UNFINISHED) -> Outstanding:
    """What of a submission is in some states, and what waits or runs."""
    elements: dict[str, list[int]] = {job.name: [] for job in submission.jobs}
    numbers: dict[str, list[str]] = {job.name: [] for job in submission.jobs}
    for standing in standings(submission):
        own = numbers[standing.job.name]
        if standing.state in states:
            elements[standing.job.name].append(standing.element)
        elif standing.state in LIVE and standing.receipt and standing.receipt.number not in own:
            own.append(standing.receipt.number)
    return Outstanding(elements, numbers)


def keep_code(submission: Submission) -> None:
    """Puts the code as it stands now into the submission, in place of what an earlier one has left there."""
    shutil.rmtree(submission.code, ignore_errors=True)
    take_snapshot(CHECKOUT, CODE_PACKAGES, submission.code)


def hand_over(submission: Submission, missing: Outstanding, *, hold: bool, tell: Callable[[str], None]) -> ExitCode:
    """Submits what is missing, or runs it here; the plan is written, and the code is kept.

    Args:
        hold: submit it so that it waits until it is released.
        tell: gets a line for each job.

    Returns:
        How it ended, where it was run here.

    Raises:
        TargetError: the target is absent, or refuses.
    """
    submission.mark_cancelled(False)
    if submission.target == "local":
        launch = new_launch()
        _take_all(submission, missing, launch)
        return run_here(submission, missing.elements, launch, tell)
    if submission.target == "ray":
        number = f"{submission.name}-{secrets.token_hex(3)}"
        ray_jobs.submit(
            submission.ray_jobs, number, _entrypoint(submission, number), {"folder": str(submission.folder)}
        )
        _take_all(submission, missing, number)
        tell(f"Ray job {number} on {submission.ray_jobs}")
        return ExitCode.SUCCESS
    for job in submission.jobs:
        Path(submission.place.script(job)).write_text(render(job, submission.site, submission.place))
    for job, call, number in slurm_calls(submission, missing, hold=hold, send=slurm.submit):
        submission.take_receipt(job, number, call.elements, first=call.first)
        tell(f"{job.name}: SLURM job {number}" + (f", {len(call.elements)} element(s)" if job.array else ""))
    return ExitCode.SUCCESS


def _take_all(submission: Submission, missing: Outstanding, number: str) -> None:
    for job in submission.jobs:
        if elements := missing.elements[job.name]:
            submission.take_receipt(job, number, elements)


def _entrypoint(submission: Submission, number: str) -> str:
    python = submission.site.python or sys.executable
    code = ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={submission.code}"]
    return shlex.join(["exec", *code, python, "-m", "cluster.ray_entry", str(submission.folder), number])


def slurm_calls(
    submission: Submission, missing: Outstanding, *, hold: bool, send: Callable[[Call], str]
) -> Iterator[tuple[Job, Call, str]]:
    """Sends the calls of sbatch for what is missing, one after the other; gives each with its number.

    Args:
        send: submits a call and gives SLURM's number, on which later ones depend.
    """
    limit = max_array_size(submission)
    numbers = {name: list(own) for name, own in missing.on_their_way.items()}
    for job in submission.jobs:
        elements = missing.elements[job.name]
        if not elements:
            continue
        after = [number for name in job.after for number in numbers[name]]
        script = submission.place.script(job)
        for call in slurm.calls(job, elements, script, after, max_array_size=limit, hold=hold):
            number = send(call)
            numbers[job.name].append(number)
            yield job, call, number


def max_array_size(submission: Submission) -> int:
    """What the cluster takes; what the site's file says where no cluster answers."""
    if slurm.installed():
        with suppress(TargetError, KeyError):
            return min(int(slurm.configuration()["MaxArraySize"]), submission.site.max_array_size)
    return submission.site.max_array_size
