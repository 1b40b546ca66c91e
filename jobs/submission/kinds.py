"""From `jobs.submit KIND ... -- ARGUMENTS` to jobs: which command a kind is, and what of its resources it is told.

What is wrong with the arguments is found before anything is submitted, by the commands that the jobs run.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from cluster.job import PROGRESS_NAME, Array, Job, Resources, Word, Words
from cluster.local import text_of
from jobs.command.command_line import check_command
from musicvae.errors import ConfigError, NotThereError

TARGETS = ("local", "slurm", "ray")
RAY_VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Where Ray's own command line finds the cluster, too."""
KINDS = ("build_shards", "train", "evaluate", "sample", "sweep", "report", "pipeline")
PIPELINE_USAGE = "--source SOURCE --out DIR [--preset NAME] [--count N] [--seed S] [--quick] [key.sub=value ...]"
ON_RAY: Words = ("--ray-address", Word.RAY_ADDRESS)
LAUNCH_OPTIONS = ("--ranks", "--nodes", "--rendezvous", "--rendezvous-id", "--stop-before")
SUBCOMMANDS = {("sweep", "run"), ("sample", "merge")}


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """What was asked of the target.

    Attributes:
        ranks_per_node: of a training; one for each GPU, or one, if not given.
        notice_seconds: between a stop signal and the end, where the target gives notice.
        working_folder: where relative paths of arguments begin.
        on_ray: whether a Ray cluster spreads the work by itself.
        own_ray: whether that cluster is one of the job's own nodes, which begins and ends with it.
    """

    resources: Resources
    ranks_per_node: int | None
    array: Array | None
    retries: int
    environment: tuple[tuple[str, str], ...]
    notice_seconds: int | None
    working_folder: Path
    on_ray: bool = False
    own_ray: bool = False

    def one_node(self, *, gpus: int) -> Resources:
        """What a job takes that works on one node, with as many GPUs as it can use."""
        return replace(self.resources, nodes=1, gpus_per_node=min(gpus, self.resources.gpus_per_node))


def jobs_of(kind: str, arguments: Sequence[str], request: SubmitRequest) -> tuple[Job, ...]:
    """The jobs of a kind, in an order in which each comes after those that it needs.

    Raises:
        ConfigError: no such kind, or arguments and resources that do not fit together.
    """
    match kind:
        case "pipeline":
            return _pipeline(arguments, request)
        case "train":
            return (_training(arguments, request),)
        case "sample":
            return (_sampling(arguments, request),)
        case "build_shards":
            return (_build(arguments, request),)
        case "sweep":
            return (_sweep(arguments, request),)
        case "evaluate" | "report":
            return (_alone(kind, (*arguments,), request, gpus=int(kind == "evaluate")),)
        case _:
            raise ConfigError(f"there is no kind of job {kind!r}", expected=", ".join(KINDS), do="choose one of them")


def _job(
    name: str, arguments: Words, request: SubmitRequest, resources: Resources, *, module: str | None = None
) -> Job:
    return Job(
        name=name,
        command=(Word.PYTHON, "-m", f"jobs.{module or name}", *arguments),
        resources=resources,
        environment=request.environment,
        retries=request.retries,
    )


def _refuse_array(kind: str, request: SubmitRequest) -> None:
    if request.array:
        expected = "--array with sample, sweep or pipeline"
        raise ConfigError(f"{kind} cannot be an array", expected=expected, do="leave --array out")


def _alone(kind: str, arguments: Words, request: SubmitRequest, *, gpus: int) -> Job:
    _refuse_array(kind, request)
    if request.resources.nodes > 1:
        raise ConfigError(
            f"{kind} runs on one node", found=f"--nodes {request.resources.nodes}", do="leave --nodes out"
        )
    return _job(kind, arguments, request, request.one_node(gpus=gpus))


def _spread(kind: str, arguments: Words, request: SubmitRequest, *, gpus: int) -> Job:
    """A job that Ray spreads, over all nodes of its own allocation or over a cluster that is there already."""
    if request.array:
        raise ConfigError(
            f"{kind} on Ray cannot be an array", found="--array", do="leave --array out; Ray spreads the work"
        )
    if not request.own_ray:
        return _alone(kind, (*arguments, *ON_RAY), request, gpus=gpus)
    job = _job(kind, (*arguments, *ON_RAY), request, request.resources)
    return replace(job, own_ray=True)


def _build(arguments: Sequence[str], request: SubmitRequest) -> Job:
    if request.on_ray:
        return _spread("build_shards", (*arguments,), request, gpus=0)
    cpus = request.resources.cpus_per_node
    # Its Ray would take all CPUs of a machine, of which the job may have been given only some.
    workers = () if cpus is None or _value(arguments, "--workers") else ("--workers", str(cpus))
    return _alone("build_shards", (*arguments, *workers), request, gpus=0)


def _training(arguments: Sequence[str], request: SubmitRequest) -> Job:
    if given := [option for option in LAUNCH_OPTIONS if _value(arguments, option)]:
        raise ConfigError(
            f"{given[0]} cannot be an argument of a submitted training",
            expected="--nodes, --gpus-per-node or --ranks-per-node of jobs.submit, which set it",
            do="give it before `--`",
        )
    run = _value(arguments, "--run")
    if run is None:
        raise ConfigError("a training needs --run", expected="-- --shards SHARDS --run RUN ...", do="add --run RUN")
    _refuse_array("train", request)
    resources = request.resources
    ranks = request.ranks_per_node or max(1, resources.gpus_per_node)
    status = str(request.working_folder / run / "status.json")
    if request.on_ray:
        cpus = ("--cpus-per-worker", str(max(1, resources.cpus_per_node // ranks))) if resources.cpus_per_node else ()
        command: Words = ("--workers", str(resources.nodes * ranks), *cpus, *ON_RAY, *arguments)
        job = _job("train", command, request, resources, module="train_on_ray")
        return replace(job, stop_signal="USR2", status=status, own_ray=request.own_ray)
    launch: Words = ("--ranks", str(ranks))
    if resources.nodes > 1:
        launch += ("--nodes", str(resources.nodes), "--rendezvous", Word.MEETING_POINT, "--rendezvous-id", Word.START)
    if request.notice_seconds and not any(word.startswith("resources.shutdown_seconds=") for word in arguments):
        # Ranks are killed within the notice, so that there is time left to write down how it ended.
        arguments = [*arguments, f"resources.shutdown_seconds={request.notice_seconds * 5 // 6}"]
    return replace(
        _job("train", (*launch, *arguments), request, resources),
        stop_signal="USR2",
        on_every_node=resources.nodes > 1,
        status=status,
    )


def _sampling(arguments: Sequence[str], request: SubmitRequest) -> Job:
    if _value(arguments, "--shard"):
        raise ConfigError(
            "--shard cannot be an argument of a submitted sampling",
            expected="--array M of jobs.submit, which sets it",
            do="give the number before `--`: --array M",
        )
    if request.on_ray:
        return _spread("sample", (*arguments,), request, gpus=1)
    if request.resources.nodes > 1:
        raise ConfigError("each share of a sampling runs on one node", do="leave --nodes out, and use --array")
    share: Words = ("--shard", Word.SHARE) if request.array else ()
    return replace(_job("sample", (*arguments, *share), request, request.one_node(gpus=1)), array=request.array)


def _sweep(arguments: Sequence[str], request: SubmitRequest) -> Job:
    gpus = request.resources.gpus_per_node
    if request.on_ray:
        job = _spread("sweep", ("run", *arguments), request, gpus=gpus)
    else:
        share: Words = ("--share", Word.SHARE) if request.array else ()
        job = _alone("sweep", ("run", *arguments, *share), replace(request, array=None), gpus=gpus)
    out = _value(arguments, "--out")
    status = str(request.working_folder / out / PROGRESS_NAME) if out else None
    return replace(job, array=None if request.on_ray else request.array, status=status)


class _PipelineArguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(
            f"the arguments of a pipeline cannot be used: {message}", expected=self.format_usage().strip()
        )


def _pipeline(arguments: Sequence[str], request: SubmitRequest) -> tuple[Job, ...]:
    parser = _PipelineArguments(prog="pipeline", usage=PIPELINE_USAGE, add_help=False, allow_abbrev=False)
    for option, default in (("source", None), ("out", None), ("preset", "demo"), ("count", "64"), ("seed", "0")):
        parser.add_argument(f"--{option}", default=default, required=default is None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_intermixed_args(list(arguments))
    out = Path(given.out)
    shards, run = str(out / "shards"), str(out / "run")
    single_node = replace(request, array=None, resources=request.one_node(gpus=request.resources.gpus_per_node))
    quick = ("--quick",) if given.quick else ()
    spread = replace(request, array=None) if request.own_ray else single_node
    build = _build(["--source", given.source, "--out", shards], spread)
    train = _training(["--preset", given.preset, "--shards", shards, "--run", run, *given.settings],
                      replace(request, array=None))  # fmt: skip
    figures = str(out / "evaluation.json")
    evaluate = _alone("evaluate", ("--run", run, "--shards", shards, "--json", figures, *quick), single_node, gpus=1)
    sample = _sampling(
        ["--run", run, "--count", given.count, "--seed", given.seed, "--out", str(out / "grooves")],
        replace(spread, array=request.array),
    )
    report = _alone("report", (run,), single_node, gpus=0)
    chain = (build, train, evaluate, sample, report)
    return (build, *(replace(job, after=(before.name,)) for before, job in pairwise(chain)))


def _value(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option among arguments, as --option VALUE or --option=VALUE."""
    for word, following in zip(arguments, [*arguments, None][1:], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def check_jobs(jobs: Iterable[Job], *, elsewhere: bool, warn: Callable[[str], None]) -> None:
    """Checks the arguments of each job as far as that goes without torch. Inputs of a job that runs after another are
    allowed to be absent: the job before makes them.

    Args:
        elsewhere: whether the jobs run on machines that may see other paths than this one.
        warn: shows what may be wrong.

    Raises:
        UserError: as the job itself.
        SystemExit: an option is wrong, which is shown.
    """
    for job in jobs:
        _, _, module, *words = job.command
        name = str(module).removeprefix("jobs.")
        arguments = [text_of(word, job, 0, "start", python="python") for word in words]
        function = arguments.pop(0) if (name, *arguments[:1]) in SUBCOMMANDS else "main"
        try:
            check_command(name, arguments, function=function)
        except NotThereError as absent:
            if job.after:
                continue
            if not elsewhere:
                raise
            warn(f"this machine does not see a path of {job.name}. The job fails if its nodes do not see it: {absent}")
        except ImportError as missing:
            warn(f"{missing.name} is not installed here, so {job.name} checks some arguments only when it starts")
