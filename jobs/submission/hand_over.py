"""Hands a submission to its target: what of it is missing, in the order of its plan.

What it is about to use is shown first, and a large submission is confirmed by hand.
"""

import math
import secrets
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import typer
from rich.table import Table

from cluster import local, ray_jobs, sbatch, slurm
from cluster.code import CODE_PACKAGES
from cluster.errors import ExitCode, TargetError
from cluster.job import Job
from cluster.slurm import Call
from cluster.status import LIVE, UNFINISHED, State, element_statuses
from cluster.submission import Submission, keep_snapshot
from jobs import CHECKOUT
from jobs.command.streams import outlive_terminal
from musicvae.errors import ConfigError


def plan_table(submission: Submission, missing: Mapping[str, Sequence[int]]) -> Table:
    """One row a job, for what of it is missing."""
    table = Table("job", "elements", "after", "nodes", "GPUs", "CPUs", "memory", "time", title=submission.name)
    for job in submission.jobs:
        missing_count, resources = len(missing[job.name]), job.resources
        table.add_row(
            job.name,
            f"{missing_count} of {len(job.elements)}" if job.array else "done" if not missing_count else "1",
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
    return sum(
        job.resources.gpu_hours * len(missing_elements)
        for job in submission.jobs
        if (missing_elements := missing[job.name])
    )


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
            "the submission is large and needs a confirmation",
            expected=f"up to {site.ask_above_gpu_hours:g} GPU-hours and {site.ask_above_jobs} jobs, or --yes",
            found=sums,
            do="check the plan with --dry-run, then add --yes",
        )
    if not typer.confirm(f"{sums}: submit?", err=True):
        raise ConfigError("nothing was submitted", do="run the same command again to be asked again")


def _sums(submission: Submission, missing: Mapping[str, Sequence[int]]) -> str:
    elements, hours = sum(map(len, missing.values())), gpu_hours(submission, missing)
    gpu_time = f"up to {hours:.1f} GPU-hours" if math.isfinite(hours) else "GPU-hours without a limit (no --time)"
    return f"{elements} job(s), {gpu_time}"


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
    for status in element_statuses(submission):
        job_numbers = numbers[status.job.name]
        if status.state in states:
            elements[status.job.name].append(status.element)
        elif status.state in LIVE:
            job_numbers.extend(number for number in status.numbers if number not in job_numbers)
    return Outstanding(elements, numbers)


def keep_code(submission: Submission, tell: Callable[[str], None]) -> None:
    """Puts the code as it stands now into the submission, in place of what an earlier one has left there.

    Args:
        tell: gets a line if files are left out.
    """
    if left_out := keep_snapshot(CHECKOUT, CODE_PACKAGES, submission):
        tell(f"links and files that look like secrets were not copied: {', '.join(left_out)}")


def hand_over(
    submission: Submission,
    missing: Outstanding,
    *,
    hold: bool,
    tell: Callable[[str], None],
    after: Sequence[str] = (),
) -> ExitCode:
    """Submits what is missing, or runs it here; the plan is written, and the code is kept.

    Args:
        hold: submit it so that it waits until it is released.
        tell: gets a line for each job.
        after: SLURM's numbers of jobs of others that have to succeed before.

    Returns:
        How it ended, where it was run here.

    Raises:
        TargetError: the target is absent, or refuses.
    """
    submission.mark_cancelled(False)
    if submission.target == "local":
        launch = local.new_launch_id()
        outlive_terminal()  # what the jobs say is in their logs too
        _take_all(submission, missing, launch)
        return local.run_here(submission, missing.elements, launch, tell)
    if submission.target == "ray":
        number = f"{submission.name}-{secrets.token_hex(3)}"
        ray_jobs.submit(
            submission.ray_jobs, number, _entrypoint(submission, number), {"folder": str(submission.folder)}
        )
        _take_all(submission, missing, number)
        tell(f"Ray job {number} on {submission.ray_jobs}")
        return ExitCode.SUCCESS
    for job in submission.jobs:
        script = sbatch.render(job, submission.site, submission.place)
        Path(submission.place.script(job)).write_text(script, encoding="utf-8")
    send = partial(slurm.submit, patience=submission.site.notice_seconds)
    for job, call, number in slurm_calls(submission, missing, hold=hold, send=send, others=after):
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
    submission: Submission, missing: Outstanding, *, hold: bool, send: Callable[[Call], str], others: Sequence[str] = ()
) -> Iterator[tuple[Job, Call, str]]:
    """Sends the calls of sbatch for what is missing, one after the other; gives each with its number.

    Args:
        send: submits a call and gives SLURM's number, on which later ones depend.
        others: numbers of other jobs that the first ones depend on.
    """
    limit = max_array_size(submission)
    numbers = {name: list(job_numbers) for name, job_numbers in missing.on_their_way.items()}
    for job in submission.jobs:
        elements = missing.elements[job.name]
        if not elements:
            continue
        after = [number for name in job.after for number in numbers[name]] or others
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
