"""From `jobs.submit KIND ... -- ARGUMENTS` to jobs: which command a kind is, and what of its resources it is told."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from cluster.job import PROGRESS_NAME, Array, Job, Resources, Word, Words
from musicvae.errors import ConfigError

TARGETS = ("local", "slurm", "ray")
RAY_VARIABLE = "RAY_API_SERVER_ADDRESS"
"""Where Ray's own command line finds the cluster, too."""
KINDS = ("build_shards", "train", "evaluate", "sample", "sweep", "report", "pipeline")
PIPELINE_USAGE = "--source SOURCE --out DIR [--preset NAME] [--count N] [--seed S] [--quick] [key.sub=value ...]"
ON_RAY: Words = ("--ray-address", Word.RAY_ADDRESS)
LAUNCH_OPTIONS = ("--ranks", "--nodes", "--rendezvous", "--rendezvous-id", "--stop-before")


@dataclass(frozen=True, slots=True)
class Wishes:
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


def jobs_of(kind: str, arguments: Sequence[str], wishes: Wishes) -> tuple[Job, ...]:
    """The jobs of a kind, in an order in which each comes after those that it needs.

    Raises:
        ConfigError: no such kind, or arguments and resources that do not fit together.
    """
    match kind:
        case "pipeline":
            return _pipeline(arguments, wishes)
        case "train":
            return (_training(arguments, wishes),)
        case "sample":
            return (_sampling(arguments, wishes),)
        case "build_shards":
            return (_build(arguments, wishes),)
        case "sweep":
            return (_sweep(arguments, wishes),)
        case "evaluate" | "report":
            return (_alone(kind, (*arguments,), wishes, gpus=int(kind == "evaluate")),)
        case _:
            raise ConfigError(f"there is no kind of job {kind!r}", expected=", ".join(KINDS), do="name one of them")


def _job(name: str, arguments: Words, wishes: Wishes, resources: Resources, *, module: str | None = None) -> Job:
    return Job(
        name=name,
        command=(Word.PYTHON, "-m", f"jobs.{module or name}", *arguments),
        resources=resources,
        environment=wishes.environment,
        retries=wishes.retries,
    )


def _refuse_array(kind: str, wishes: Wishes) -> None:
    if wishes.array:
        expected = "--array with sample, sweep or pipeline"
        raise ConfigError(f"{kind} cannot be an array", expected=expected, do="leave it out")


def _alone(kind: str, arguments: Words, wishes: Wishes, *, gpus: int) -> Job:
    _refuse_array(kind, wishes)
    if wishes.resources.nodes > 1:
        raise ConfigError(f"{kind} works on one node", found=f"--nodes {wishes.resources.nodes}", do="leave it out")
    return _job(kind, arguments, wishes, wishes.one_node(gpus=gpus))


def _spread(kind: str, arguments: Words, wishes: Wishes, *, gpus: int) -> Job:
    """A job that Ray spreads, over all nodes of its own allocation or over a cluster that is there already."""
    if wishes.array:
        raise ConfigError(f"Ray spreads {kind} by itself", found="--array", do="leave --array out")
    if not wishes.own_ray:
        return _alone(kind, (*arguments, *ON_RAY), wishes, gpus=gpus)
    job = _job(kind, (*arguments, *ON_RAY), wishes, wishes.resources)
    return replace(job, own_ray=True)


def _build(arguments: Sequence[str], wishes: Wishes) -> Job:
    if wishes.on_ray:
        return _spread("build_shards", (*arguments,), wishes, gpus=0)
    cpus = wishes.resources.cpus_per_node
    # Its Ray would take all CPUs of a machine, of which the job may have been given only some.
    workers = () if cpus is None or _value(arguments, "--workers") else ("--workers", str(cpus))
    return _alone("build_shards", (*arguments, *workers), wishes, gpus=0)


def _training(arguments: Sequence[str], wishes: Wishes) -> Job:
    if given := [option for option in LAUNCH_OPTIONS if _value(arguments, option)]:
        raise ConfigError(
            f"{given[0]} is no argument of a submitted training",
            expected="--nodes, --gpus-per-node or --ranks-per-node of jobs.submit, from which it follows",
            do="move it ahead of `--`",
        )
    run = _value(arguments, "--run")
    if run is None:
        raise ConfigError("a training needs --run", expected="-- --shards SHARDS --run RUN ...", do="add --run RUN")
    _refuse_array("train", wishes)
    resources = wishes.resources
    ranks = wishes.ranks_per_node or max(1, resources.gpus_per_node)
    status = str(wishes.working_folder / run / "status.json")
    if wishes.on_ray:
        cpus = ("--cpus-per-worker", str(max(1, resources.cpus_per_node // ranks))) if resources.cpus_per_node else ()
        command: Words = ("--workers", str(resources.nodes * ranks), *cpus, *ON_RAY, *arguments)
        job = _job("train", command, wishes, resources, module="train_on_ray")
        return replace(job, stop_signal="USR2", status=status, own_ray=wishes.own_ray)
    launch: Words = ("--ranks", str(ranks))
    if resources.nodes > 1:
        launch += ("--nodes", str(resources.nodes), "--rendezvous", Word.MEETING_POINT, "--rendezvous-id", Word.START)
    if wishes.notice_seconds and not any(word.startswith("resources.shutdown_seconds=") for word in arguments):
        # Ranks are killed within the notice, so that there is time left to write down how it ended.
        arguments = [*arguments, f"resources.shutdown_seconds={wishes.notice_seconds * 5 // 6}"]
    return replace(
        _job("train", (*launch, *arguments), wishes, resources),
        stop_signal="USR2",
        on_every_node=resources.nodes > 1,
        status=status,
    )


def _sampling(arguments: Sequence[str], wishes: Wishes) -> Job:
    if _value(arguments, "--shard"):
        raise ConfigError(
            "--shard is no argument of a submitted sampling",
            expected="--array M of jobs.submit, from which it follows",
            do="move the number ahead of `--`: --array M",
        )
    if wishes.on_ray:
        return _spread("sample", (*arguments,), wishes, gpus=1)
    if wishes.resources.nodes > 1:
        raise ConfigError("each share of a sampling works on one node", do="leave --nodes out, and give --array")
    share: Words = ("--shard", Word.SHARE) if wishes.array else ()
    return replace(_job("sample", (*arguments, *share), wishes, wishes.one_node(gpus=1)), array=wishes.array)


def _sweep(arguments: Sequence[str], wishes: Wishes) -> Job:
    gpus = wishes.resources.gpus_per_node
    if wishes.on_ray:
        job = _spread("sweep", ("run", *arguments), wishes, gpus=gpus)
    else:
        share: Words = ("--share", Word.SHARE) if wishes.array else ()
        job = _alone("sweep", ("run", *arguments, *share), replace(wishes, array=None), gpus=gpus)
    out = _value(arguments, "--out")
    status = str(wishes.working_folder / out / PROGRESS_NAME) if out else None
    return replace(job, array=None if wishes.on_ray else wishes.array, status=status)


class _PipelineArguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"the arguments of a pipeline: {message}", expected=self.format_usage().strip())


def _pipeline(arguments: Sequence[str], wishes: Wishes) -> tuple[Job, ...]:
    parser = _PipelineArguments(prog="pipeline", usage=PIPELINE_USAGE, add_help=False, allow_abbrev=False)
    for option, default in (("source", None), ("out", None), ("preset", "demo"), ("count", "64"), ("seed", "0")):
        parser.add_argument(f"--{option}", default=default, required=default is None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("settings", nargs="*")
    given = parser.parse_intermixed_args(list(arguments))
    out = Path(given.out)
    shards, run = str(out / "shards"), str(out / "run")
    one = replace(wishes, array=None, resources=wishes.one_node(gpus=wishes.resources.gpus_per_node))
    quick = ("--quick",) if given.quick else ()
    spread = replace(wishes, array=None) if wishes.own_ray else one
    build = _build(["--source", given.source, "--out", shards], spread)
    train = _training(["--preset", given.preset, "--shards", shards, "--run", run, *given.settings],
                      replace(wishes, array=None))  # fmt: skip
    figures = str(out / "evaluation.json")
    evaluate = _alone("evaluate", ("--run", run, "--shards", shards, "--json", figures, *quick), one, gpus=1)
    sample = _sampling(
        ["--run", run, "--count", given.count, "--seed", given.seed, "--out", str(out / "grooves")],
        replace(spread, array=wishes.array),
    )
    report = _alone("report", (run,), one, gpus=0)
    chain = (build, train, evaluate, sample, report)
    return (build, *(replace(job, after=(before.name,)) for before, job in pairwise(chain)))


def _value(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option among arguments, as --option VALUE or --option=VALUE."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
