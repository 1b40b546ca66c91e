"""Runs a job on this machine, on SLURM or on a Ray cluster."""

import hashlib
import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from cluster import slurm
from cluster.errors import ExitCode
from cluster.job import Job, Resources, parse_array, parse_minutes
from cluster.sbatch import cpus_of_node, render, sbatch_value
from cluster.site import YOUNGER, Site, check_arguments, check_environment, read_site
from cluster.submission import Submission
from jobs.command.command_line import SETTINGS, error_console, run_command
from jobs.command.paths import check_new_folder
from jobs.submission.hand_over import Outstanding, confirm, hand_over, keep_code, outstanding, plan_table, slurm_calls
from jobs.submission.kinds import KINDS, RAY_VARIABLE, TARGETS, SubmitRequest, check_jobs, jobs_of
from jobs.submission.rows import SUBMISSIONS
from musicvae.errors import ConfigError, UserError
from musicvae.settings import load_yaml

DRIVER_GIB = 2
"""Memory of the driver of a sweep and of its Ray."""
SBATCH_OPTION, JOB_ID = re.compile(r"-[^\x00-\x1f]+"), re.compile(r"[0-9]+(_[0-9]+)?")
NAMES = re.compile(r"\w[\w.-]{0,63}", re.ASCII)
START_SECONDS = 30
"""The least that a job needs before it has anything to save."""


def main(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"The job: {', '.join(KINDS)}.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENTS", help="Arguments of python -m jobs.KIND, after `--`."),
    ] = None,
    on: Annotated[str, typer.Option(help=f"The target: {', '.join(TARGETS)}.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show exactly what would be submitted and exit.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a large submission.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Submit finished jobs too, such as after more training.")
    ] = False,
    site: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE.yaml",
            help="Settings of the cluster: a name in cluster/sites, or a YAML file.",
            rich_help_panel="SLURM",
        ),
    ] = None,
    partition: Annotated[str | None, typer.Option(metavar="NAME", help="Partition (that of the site).")] = None,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="Account that pays (that of the site).")] = None,
    qos: Annotated[str | None, typer.Option(metavar="NAME", help="Quality of service (that of the site).")] = None,
    constraint: Annotated[
        str | None, typer.Option(metavar="FEATURES", help="Features that nodes must have (those of the site).")
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(metavar="NODES", help="Nodes that are not used, such as n[1-4].")
    ] = None,
    reservation: Annotated[str | None, typer.Option(metavar="NAME", help="Reservation whose nodes are used.")] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="One more option of sbatch, such as --nice=100; repeatable."),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(metavar="JOBID", help="Start after this job of SLURM has succeeded; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the submission in place of KIND, in squeue too.")] = None,
    array: Annotated[
        str | None, typer.Option(metavar="M[%K]", help="Split a sampling or a sweep into M shares, K at a time.")
    ] = None,
    stagger_seconds: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", min=0, help="Start elements of an array so far apart (as the site says)."),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Start a Ray cluster on the nodes of the job, which spreads the work.")
    ] = False,
    hold: Annotated[bool, typer.Option("--hold", help="Submit jobs that wait for `scontrol release`.")] = False,
    retries: Annotated[int, typer.Option(min=0, help="Restarts in a row without progress.")] = 3,
    ray_jobs: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar=RAY_VARIABLE,
            help="With --on ray: the dashboard of the cluster, http://HEAD:8265.",
            rich_help_panel="Ray",
        ),
    ] = "",
    nodes: Annotated[int, typer.Option(help="Machines of a training, or of --ray.", rich_help_panel="Resources")] = 1,
    gpus_per_node: Annotated[
        int,
        typer.Option(help="GPUs on each node; a training and a sweep use all of them, other jobs one."),
    ] = 0,
    ranks_per_node: Annotated[
        int | None, typer.Option(min=1, help="Ranks on each node (one for each GPU, or 1).")
    ] = None,
    cpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="CPUs on each node (the default of the site).")
    ] = None,
    mem: Annotated[str | None, typer.Option(help="Memory of each node, such as 64G (the partition's default).")] = None,
    time: Annotated[
        str | None, typer.Option(help="Time limit: H:MM:SS, D-HH:MM or minutes (the default of the site).")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="An environment variable of the job; repeatable.", rich_help_panel=SETTINGS
        ),
    ] = None,
    submissions: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder for plans, code, scripts and logs of submissions.")
    ] = SUBMISSIONS,
) -> None:
    """Run a job on this machine, on SLURM or on a Ray cluster. `pipeline` is all jobs from MIDI files to grooves.

    The same command works on each target. If jobs fail, run it again: it submits the jobs that are not done, with the
    code of the checkout at that time. Arguments of the job follow after `--`; a pipeline without any shows its own.

        python -m jobs.submit train --on local -- --preset demo --shards shards/demo --run runs/demo
        python -m jobs.submit train --on slurm --site NAME --nodes 4 --gpus-per-node 8 --time 8:00:00 -- ...
        python -m jobs.submit sweep --on slurm --ray --nodes 4 --time 1-0 -- random --shards SHARDS --out SWEEP
        python -m jobs.submit pipeline --on slurm --nodes 2 --array 8 -- --source demo --out OUT
    """
    if on not in TARGETS:
        raise ConfigError(
            f"there is no target {on!r}", expected=", ".join(TARGETS), do="choose one of them, such as --on slurm"
        )
    check_arguments(arguments or [])
    check_new_folder(submissions, "--submissions")
    wishes = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
    numbers = {"stagger_seconds": stagger_seconds}
    options = {"exclude": exclude, "reservation": reservation}
    for wish, value in {**wishes, **options, **numbers, "sbatch": sbatch, "after": after}.items():
        if value and on != "slurm":
            option = wish.replace("_", "-")
            raise ConfigError(f"--on {on} has no {option}", found=f"--{option}", do=f"leave --{option} out")
    for option, values, form in (("sbatch", sbatch, SBATCH_OPTION), ("after", after, JOB_ID)):
        if wrong := next((value for value in values or [] if not form.fullmatch(value)), None):
            expected = (
                "an option such as --nice=100" if option == "sbatch" else "a number of SLURM, such as 4711 or 4711_3"
            )
            raise ConfigError(f"--{option} {wrong} cannot be used", expected=expected, found=repr(wrong))
    settings = _asked(read_site(site, load_yaml), {**wishes, **numbers}, [*_options(options), *(sbatch or [])])
    if on == "ray" and not ray_jobs:
        raise ConfigError(
            "--on ray needs the address of a Ray cluster",
            expected=f"--ray-jobs http://HEAD:8265, or {RAY_VARIABLE}",
            do="add --ray-jobs URL",
        )
    if ray and on != "slurm":
        raise ConfigError(
            "--ray starts a Ray cluster on nodes of SLURM",
            expected="--on slurm --ray",
            found=f"--on {on}",
            do="leave --ray out: --on ray uses a running cluster, and local jobs start their own",
        )
    if mem and mem.isdecimal() and int(mem):  # 0 is all memory of a node
        raise ConfigError(
            f"--mem {mem} has no unit",
            expected="a number with its unit, such as 64G",
            found=f"{mem}, which is {mem} megabytes in SLURM",
            do=f"--mem {mem}G for gigabytes, --mem {mem}M for megabytes",
        )
    if on == "local" and nodes > 1:
        raise ConfigError("--on local has one node", found=f"--nodes {nodes}", do="use --ranks-per-node for more ranks")
    if kind == "sweep" and on == "slurm" and mem is None:
        mem = _memory_of_sweep(arguments or [], {"CPU": cpus_per_node or 1, "GPU": gpus_per_node})
    request = SubmitRequest(
        resources=Resources(nodes, gpus_per_node, cpus_per_node, mem, parse_minutes(time) if time else None),
        ranks_per_node=ranks_per_node,
        array=parse_array(array) if array else None,
        retries=retries,
        environment=_variables(env or []),
        notice_seconds=settings.notice_seconds if on == "slurm" else None,
        working_folder=Path.cwd(),
        on_ray=ray or on == "ray",
        own_ray=ray,
    )
    if "--dry-run" in (arguments or []):
        raise ConfigError(
            "--dry-run is an option of jobs.submit", found="it is after the `--`", do="put it before the `--`"
        )
    _check_notice(request.resources.minutes, settings.notice_seconds, on)
    jobs = jobs_of(kind, arguments or [], request)
    tell = partial(error_console.print, soft_wrap=True)
    if time and time.count(":") == 1 and "-" not in time:
        tell(f"note: --time {time} is minutes and seconds, as in SLURM; {time} hours are --time {time}:00")
    check_jobs(jobs, elsewhere=on != "local", warn=lambda text: tell(f"warning: {text}"))
    if name is not None and not NAMES.fullmatch(name):
        raise ConfigError(f"--name {name} cannot be used", expected="letters, digits, _ . -", found=repr(name))
    folder = submissions.absolute() / f"{name or kind}-{_identity(jobs, on, settings)}"
    submission = Submission(folder, on, request.working_folder, settings, jobs, ray_jobs)  # type: ignore[arg-type]
    missing = outstanding(submission)
    if any(missing.on_their_way.values()):
        raise ConfigError(
            f"{submission.name} has been submitted already",
            expected="no job of it that waits or runs",
            found=", ".join(name for name, numbers in missing.on_their_way.items() if numbers),
            do=f"wait for it, or cancel it: python -m jobs.cancel {folder}",
        )
    if again:
        missing = Outstanding({job.name: job.elements for job in jobs}, missing.on_their_way)

    error_console.print(plan_table(submission, missing.elements))
    if not any(missing.elements.values()):
        tell(f"{folder}: all jobs are done; --again submits them once more")
        return
    if on == "slurm":
        for job in jobs:
            render(job, settings, submission.place)  # refuses what no script can hold, before anything is written
        cpus = cpus_of_node(jobs[0], settings) or settings.exclusive or "--cpus-per" in " ".join(settings.sbatch)
        if gpus_per_node and not cpus:
            tell(
                f"warning: {gpus_per_node} GPUs on each node, and no number of CPUs: SLURM may give one CPU for all of "
                "them; add --cpus-per-node, or set cpus_per_gpu or exclusive in the site file"
            )
    others = tuple(after or ())
    if dry_run:
        show(submission, missing, hold=hold, after=others, tell=tell)
        return
    confirm(submission, missing.elements, yes=yes)
    submission.write_plan()
    if again:
        submission.forget()
    keep_code(submission, tell)
    code = hand_over(submission, missing, hold=hold, tell=partial(tell, style="bold"), after=others)
    tell(f"python -m jobs.status {shlex.quote(str(folder))}")
    if code != ExitCode.SUCCESS:
        sys.exit(code)


def show(
    submission: Submission, missing: Outstanding, *, hold: bool, after: Sequence[str], tell: Callable[[str], None]
) -> None:
    """Prints the commands and scripts that would be submitted, or the commands that would be run here.

    Args:
        after: SLURM's numbers of jobs of others that have to succeed before.
        tell: gets when SLURM would start each job, where it answers.

    Raises:
        TargetError: SLURM would refuse a job.
    """
    if submission.target != "slurm":
        for job in submission.jobs:
            for _ in missing.elements[job.name]:
                print(shlex.join(str(getattr(word, "value", word)) for word in job.command))
        return
    shown: set[str] = set()
    for job, call, _ in slurm_calls(
        submission, missing, hold=hold, send=lambda call: f"<{call.script.stem}>", others=after
    ):
        print(f"# {shlex.join(call.argv())}")
        if job.name not in shown:
            script = render(job, submission.site, submission.place)
            print(script, end="")
            shown.add(job.name)
            if slurm.answers():
                tell(f"{job.name}: {slurm.would_start(script, call)}")


def _asked(site: Site, wishes: Mapping[str, str | int | None], options: Sequence[str]) -> Site:
    """A site with what the command line asks for in place of what its file says."""
    given = {name: value for name, value in wishes.items() if value is not None}
    return site.model_copy(update={**given, "sbatch": (*site.sbatch, *options)})


def _options(values: Mapping[str, str | None]) -> list[str]:
    return [f"--{name}={sbatch_value(value)}" for name, value in values.items() if value is not None]


def _check_notice(minutes: int | None, notice: int, target: str) -> None:
    """
    Raises:
        ConfigError: a job would be told to stop before it has begun.
    """
    least = notice + START_SECONDS
    if target == "slurm" and minutes is not None and minutes * 60 < least:
        raise ConfigError(
            f"the time limit of {minutes * 60} s ends before a job can do anything",
            expected=f"at least {START_SECONDS} s to start and {notice} s of notice (notice_seconds of the site)",
            found=f"{minutes * 60} s, of which {minutes * 60 - notice} are left",
            do=f"use --time {-(-least // 60)} or more, or a lower notice_seconds",
        )


def _identity(jobs: tuple[Job, ...], target: str, site: Site) -> str:
    """The same for the same wish: a submission that is repeated goes on in its folder."""
    younger = {name for name in YOUNGER if getattr(site, name) == Site.model_fields[name].default}
    site_text = site.model_dump_json(exclude=younger)
    content = json.dumps([[job.to_json() for job in jobs], target, site_text, str(Path.cwd())], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _memory_of_sweep(arguments: list[str], node: Mapping[str, float]) -> str | None:
    """`--mem` for the driver, and as many trials as the CPUs and GPUs of a node hold; None where the sweep does not say
    what one needs.

    Args:
        arguments: of `jobs.sweep run`.
        node: its resources, by Ray's names.
    """
    from jobs.sweeps.pools import room_on
    from jobs.sweeps.trials import read_sweep

    given = [
        word
        for before, word in pairwise(["", *arguments])
        if word[:2] != "--" and (before[:2] != "--" or "=" in before)
    ]
    with suppress(UserError, ImportError):  # which the check of the arguments shows
        resources = read_sweep(given[0] if given else "")[1].resources
        trials = max(1, room_on({**node, "memory": 2**60}, resources))
        gib = min(trials, resources.at_once or trials) * (resources.memory_gib or 0)
        return f"{math.ceil(gib) + DRIVER_GIB}G" if gib else None
    return None


def _variables(given: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(
                f"--env {text} cannot be used",
                expected="NAME=VALUE",
                do="use NAME=VALUE; variables that you export reach the job without --env",
            )
        pairs.append((name, value))
    check_environment(dict(pairs), where="--env")
    return tuple(pairs)


if __name__ == "__main__":
    run_command(main)
