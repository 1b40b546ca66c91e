"""Runs a job here, on SLURM or on Ray, with only the target changed.

    python -m jobs.submit train --on local -- --preset demo --shards shards/demo --run runs/demo
    python -m jobs.submit train --on slurm --site NAME --nodes 4 --gpus-per-node 8 --time 8:00:00 -- ...
    python -m jobs.submit sweep --on slurm --ray --nodes 4 --time 1-0 -- random --shards SHARDS --out SWEEP
    python -m jobs.submit pipeline --on slurm --nodes 2 --array 8 -- --source demo --out OUT

What stands after `--` are the arguments of `python -m jobs.KIND`; those of `pipeline` are told by an empty one.
The same command again submits what is not done yet, with the code as it is then.
"""

import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.errors import ExitCode
from cluster.job import Job, Resources, parse_array, parse_minutes
from cluster.sbatch import render
from cluster.site import check_arguments, check_environment, read_site
from cluster.submission import Submission
from jobs.command.command_line import run_command
from jobs.submission.choice import SUBMISSIONS
from jobs.submission.hand_over import Outstanding, confirm, hand_over, keep_code, outstanding, plan_table, slurm_calls
from jobs.submission.kinds import KINDS, RAY_VARIABLE, TARGETS, Wishes, jobs_of
from musicvae.errors import ConfigError


def main(
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    arguments: Annotated[list[str] | None, typer.Argument(help="Of the job, after `--`.", show_default=False)] = None,
    on: Annotated[str, typer.Option(help=f"Where: {', '.join(TARGETS)}.")] = "local",
    ray_jobs: Annotated[
        str, typer.Option(metavar="URL", envvar=RAY_VARIABLE, help="A Ray cluster's dashboard: http://HEAD:8265.")
    ] = "",
    ray: Annotated[
        bool, typer.Option("--ray", help="With --on slurm: spread the work by a Ray cluster of the job's own nodes.")
    ] = False,
    site: Annotated[
        str | None, typer.Option(help="A cluster's settings: a name in cluster/sites, or a YAML file.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Machines of a training, or of --ray.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="Of a training; other jobs get one of them.")] = 0,
    cpus_per_node: Annotated[int | None, typer.Option(help="CPUs on each node. (the site's choice)")] = None,
    ranks_per_node: Annotated[int | None, typer.Option(min=1, help="Of a training. (one a GPU, or one)")] = None,
    mem: Annotated[str | None, typer.Option(help="Memory of each node, as 64G. (the site's choice)")] = None,
    time: Annotated[str | None, typer.Option(help="Limit: H:MM:SS, D-HH:MM, or minutes. (the site's choice)")] = None,
    array: Annotated[
        str | None, typer.Option(metavar="M[%K]", help="M shares of a sampling or a sweep, K at a time.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="Restarts in a row without progress.")] = 3,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A variable of the job.")] = None,
    submissions: Annotated[Path, typer.Option(help="Where submissions keep plan, code, scripts, logs.")] = SUBMISSIONS,
    hold: Annotated[bool, typer.Option("--hold", help="Submit so that it waits for `scontrol release`.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show exactly what would be submitted, and end.")] = False,
    again: Annotated[bool, typer.Option("--again", help="What is done too, as after more training.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however large the plan is.")] = False,
) -> None:
    """Submit a job, or all of them in a chain."""
    if on not in TARGETS:
        raise ConfigError(f"there is no target {on!r}", expected=", ".join(TARGETS), do="name one of them: --on slurm")
    check_arguments(arguments or [])
    settings = read_site(site)
    if on == "ray" and not ray_jobs:
        raise ConfigError(
            "which Ray cluster?", expected=f"--ray-jobs http://HEAD:8265, or {RAY_VARIABLE}", do="name its dashboard"
        )
    if ray and on != "slurm":
        raise ConfigError(
            "--ray begins a Ray cluster on nodes that SLURM gives",
            expected="--on slurm --ray",
            found=f"--on {on}",
            do="leave --ray out: --on ray uses a cluster that is there, and local jobs begin a Ray of their own",
        )
    if on == "local" and nodes > 1:
        raise ConfigError("this machine is one node", found=f"--nodes {nodes}", do="--ranks-per-node for more ranks")
    wishes = Wishes(
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
    jobs = jobs_of(kind, arguments or [], wishes)
    folder = submissions.absolute() / f"{kind}-{_identity(jobs, on, settings.model_dump_json())}"
    submission = Submission(folder, on, wishes.working_folder, settings, jobs, ray_jobs)  # type: ignore[arg-type]
    missing = outstanding(submission)
    if any(missing.on_their_way.values()):
        raise ConfigError(
            f"{submission.name} is on its way",
            expected="a submission of which nothing waits or runs",
            found=", ".join(name for name, numbers in missing.on_their_way.items() if numbers),
            do=f"wait, or end it first: python -m jobs.cancel {folder}",
        )
    if again:
        missing = Outstanding({job.name: job.elements for job in jobs}, missing.on_their_way)

    about = Console(stderr=True, highlight=False)
    about.print(plan_table(submission, missing.elements))
    if not any(missing.elements.values()):
        about.print(f"{folder}: all of it is done; --again does it once more", soft_wrap=True)
        return
    if dry_run:
        show(submission, missing, hold=hold)
        return
    confirm(submission, missing.elements, yes=yes)
    submission.write_plan()
    if again:
        submission.forget()
    keep_code(submission)
    code = hand_over(submission, missing, hold=hold, tell=lambda line: about.print(line, style="bold", soft_wrap=True))
    about.print(f"python -m jobs.status {shlex.quote(str(folder))}", soft_wrap=True)
    if code != ExitCode.SUCCESS:
        sys.exit(code)


def show(submission: Submission, missing: Outstanding, *, hold: bool) -> None:
    """Prints the commands and scripts that would be submitted, or the commands that would be run here."""
    if submission.target != "slurm":
        for job in submission.jobs:
            for _ in missing.elements[job.name]:
                print(shlex.join(str(getattr(word, "value", word)) for word in job.command))
        return
    shown: set[str] = set()
    for job, call, _ in slurm_calls(submission, missing, hold=hold, send=lambda call: f"<{call.script.stem}>"):
        print(f"# {shlex.join(call.argv)}")
        if job.name not in shown:
            print(render(job, submission.site, submission.place), end="")
            shown.add(job.name)


def _identity(jobs: tuple[Job, ...], target: str, site: str) -> str:
    """The same for the same wish: a submission that is repeated goes on in its folder."""
    content = json.dumps([[job.to_json() for job in jobs], target, site, str(Path.cwd())], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _variables(given: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(
                f"--env {text} cannot be used",
                expected="NAME=VALUE",
                do="variables that are exported here reach the job anyway, without being written down",
            )
        pairs.append((name, value))
    check_environment(dict(pairs), where="--env")
    return tuple(pairs)


if __name__ == "__main__":
    run_command(main)
