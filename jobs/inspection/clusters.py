"""What `jobs.doctor` checks of a cluster: with `--on slurm` the controller, the site's file and two nodes.

With `--on ray` it checks the cluster that jobs would be submitted to.
"""

import importlib.metadata
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from cluster import ray_jobs, slurm
from cluster.errors import TargetError
from cluster.site import Site
from jobs.inspection.machine import CLOCK_SECONDS, Check

TRIAL_SECONDS = 60
"""How long to wait for nodes: a full cluster is no fault."""
TRIAL_NODES, TRIAL_CPUS = 2, 2
LOOK = (
    'seen=$(test -e "$1" && echo yes); usable=$("$2" -c "import sys; print(sys.version_info >= (3, 11))" 2>/dev/null);'
    # Variables of OpenMP would limit what nproc counts.
    "cpus=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc);"
    'echo "${SLURMD_NODENAME:-$(hostname)}|$seen|$usable|$cpus|$(date +%s)"'
)


def ray_checks(url: str) -> Iterator[Check]:
    """Whether the cluster answers, lets us in, and runs the Ray that is installed here.

    Args:
        url: of its dashboard.
    """
    try:
        version = ray_jobs.version(url)
        jobs = ray_jobs.list_jobs(url)
    except TargetError as error:
        yield Check("Ray", "error", error.problem, error.details["do"])
        return
    yield Check("Ray", "ok", f"{version} at {url}, {len(jobs)} job(s)")
    try:
        installed = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return  # `ray` has said so
    if installed != version:
        cure = f"the same on both: pip install 'ray[default,train]=={version}'"
        yield Check("Ray version", "warning", f"{installed} here, {version} there", cure)


def slurm_checks(site: Site, python: str, shared: Path) -> Iterator[Check]:
    """The controller's settings beside the site's, and a trial on the nodes.

    Args:
        python: that jobs would run with.
        shared: the folder that runs and shards lie in.
    """
    if not slurm.installed():
        yield Check("SLURM", "error", "sbatch was not found", "log in to a login node of the cluster")
        return
    try:
        settings, partitions = slurm.configuration(), slurm.partitions()
    except TargetError as error:
        yield Check(
            "SLURM", "error", error.problem, "ask the administrators of the cluster; the controller does not answer"
        )
        return
    yield Check("SLURM", "ok", f"{settings.get('SLURM_VERSION', '?')}, cluster {settings.get('ClusterName', '?')}")
    name = site.partition or next((name for name, fields in partitions.items() if fields.get("Default") == "YES"), None)
    yield partition(name, partitions)
    yield array_size(site, settings)
    yield requeue(settings)
    if name in partitions:
        partition_fields = partitions[name]
        yield notice(site, partition_fields, settings)
        nodes, all_cpus = (int(partition_fields.get(key, "1")) for key in ("TotalNodes", "TotalCPUs"))
        cpus = max(1, min(TRIAL_CPUS, all_cpus // max(1, nodes)))
        yield from on_the_nodes(site, min(TRIAL_NODES, nodes), python, shared, cpus=cpus)


def partition(name: str | None, partitions: Mapping[str, Mapping[str, str]]) -> Check:
    """The site's partition is there and up."""
    if name is None or name not in partitions:
        summary = f"no partition {name}" if name else "no partition is the default"
        return Check(
            "partition", "error", summary, f"in the site file, set partition: to one of {', '.join(partitions)}"
        )
    state, nodes, limit = (partitions[name].get(key, "?") for key in ("State", "TotalNodes", "MaxTime"))
    summary = f"{name}: {state}, {nodes} nodes, time limit {limit}"
    if state != "UP":
        return Check("partition", "warning", summary, "wait until the partition is up, or use another one")
    return Check("partition", "ok", summary)


def notice(site: Site, partition_fields: Mapping[str, str], settings: Mapping[str, str]) -> Check:
    """A preemption gives as much notice as jobs count on."""
    if "OFF" in (settings.get("PreemptMode", "OFF"), partition_fields.get("PreemptMode", "OFF")):
        return Check("notice", "ok", "no preemption")
    grace = int(partition_fields.get("GraceTime", "0"))
    if grace < site.notice_seconds:
        cure = f"notice_seconds: {max(10, grace)} in the site file, or work that is not saved in time is lost"
        return Check("notice", "warning", f"preempted jobs get {grace} s, {site.notice_seconds} are expected", cure)
    return Check("notice", "ok", f"preempted jobs get {grace} s")


def array_size(site: Site, settings: Mapping[str, str]) -> Check:
    """Where arrays are split."""
    most = int(settings.get("MaxArraySize", "0"))
    if most < site.max_array_size:
        cure = f"max_array_size: {most} in the site file, so that dry runs show the same arrays"
        return Check("arrays", "warning", f"up to {most}, the site file has {site.max_array_size}", cure)
    return Check("arrays", "ok", f"up to {most}, split at {site.max_array_size}")


def requeue(settings: Mapping[str, str]) -> Check:
    """Jobs ask for it themselves, and sites can forbid it."""
    if settings.get("JobRequeue") == "0":
        return Check("requeue", "ok", "off by default; the scripts request it with --requeue")
    return Check("requeue", "ok", "preempted jobs and jobs of lost nodes are requeued")


def on_the_nodes(site: Site, count: int, python: str, shared: Path, *, cpus: int) -> Iterator[Check]:
    """A step on some nodes: the interpreter, the folder, its CPUs and the clock as they see them.

    Args:
        cpus: to request on each node.
    """
    with _marker(shared) as marker:
        if marker is None:
            return  # `folder` has said so
        look = ["sh", "-c", LOOK, "sh", str(marker), python]
        try:
            said = slurm.try_on_nodes(look, site, nodes=count, cpus=cpus, seconds=TRIAL_SECONDS)
        except TargetError as error:
            yield Check("nodes", "warning", error.problem, "try again when nodes are free; squeue shows who uses them")
            return
    nodes = sorted(line.split("|") for line in said if line.count("|") == 4)  # they answer in any order
    yield Check("nodes", "ok", ", ".join(name for name, *_ in nodes))
    if blind := [name for name, seen, *_ in nodes if not seen]:
        cure = "choose a folder on a file system that all nodes share: --shared DIR"
        yield Check("shared", "error", f"{', '.join(blind)} cannot see {shared}", cure)
    else:
        yield Check("shared", "ok", f"all of them see {shared}")
    if without := [name for name, _, usable, *_ in nodes if usable != "True"]:
        cure = "python: in the site file, an interpreter of 3.11 or newer that all nodes have"
        yield Check("node python", "error", f"{', '.join(without)} cannot run {python}", cure)
    else:
        yield Check("node python", "ok", python)
    if bound := [f"{name} {usable_cpus}" for name, *_, usable_cpus, _ in nodes if int(usable_cpus) < cpus]:
        cure = "srun: [--cpu-bind=none] in the site file, or ask the administrators about their binding of CPUs"
        yield Check("node cpus", "warning", f"{cpus} were requested, but a task may use: {', '.join(bound)}", cure)
    else:
        yield Check("node cpus", "ok", f"a task may use the {cpus} that were requested")
    off = max((abs(int(when) - time.time()) for *_, when in nodes), default=0.0)
    if off > CLOCK_SECONDS:
        yield Check(
            "node clocks", "warning", f"up to {off:.0f} s from this machine's", "use one time server for all nodes"
        )


@contextmanager
def _marker(shared: Path) -> Iterator[Path | None]:
    path = shared / f".doctor-{uuid4().hex}"
    try:
        path.touch()
    except OSError:
        yield None
        return
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
