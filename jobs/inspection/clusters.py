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
TRIAL_NODES = 2
LOOK = (
    'seen=$(test -e "$1" && echo yes); usable=$("$2" -c "import sys; print(sys.version_info >= (3, 11))" 2>/dev/null);'
    'echo "${SLURMD_NODENAME:-$(hostname)}|$seen|$usable|$(date +%s)"'
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
        own = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return  # `ray` has said so
    if own != version:
        cure = f"the same on both: pip install 'ray[default,train]=={version}'"
        yield Check("Ray version", "warning", f"{own} here, {version} there", cure)


def slurm_checks(site: Site, python: str, shared: Path) -> Iterator[Check]:
    """The controller's settings beside the site's, and a trial on the nodes.

    Args:
        python: that jobs would run with.
        shared: the folder that runs and shards lie in.
    """
    if not slurm.installed():
        yield Check("SLURM", "error", "there is no sbatch here", "log in to the cluster's login node")
        return
    try:
        settings, partitions = slurm.configuration(), slurm.partitions()
    except TargetError as error:
        yield Check("SLURM", "error", error.problem, "ask the site: the controller does not answer")
        return
    yield Check("SLURM", "ok", f"{settings.get('SLURM_VERSION', '?')}, cluster {settings.get('ClusterName', '?')}")
    name = site.partition or next((name for name, own in partitions.items() if own.get("Default") == "YES"), None)
    yield partition(name, partitions)
    yield array_size(site, settings)
    yield requeue(settings)
    if name in partitions:
        own = partitions[name]
        yield notice(site, own, settings)
        yield from on_the_nodes(site, min(TRIAL_NODES, int(own.get("TotalNodes", "1"))), python, shared)


def partition(name: str | None, partitions: Mapping[str, Mapping[str, str]]) -> Check:
    """The site's partition is there and up."""
    if name is None or name not in partitions:
        found = f"no partition {name}" if name else "no partition is the default"
        return Check("partition", "error", found, f"partition: in the site's file, one of {', '.join(partitions)}")
    state, nodes, limit = (partitions[name].get(key, "?") for key in ("State", "TotalNodes", "MaxTime"))
    found = f"{name}: {state}, {nodes} nodes, limit of time {limit}"
    if state != "UP":
        return Check("partition", "warning", found, "jobs wait until it is up; or another partition")
    return Check("partition", "ok", found)


def notice(site: Site, own: Mapping[str, str], settings: Mapping[str, str]) -> Check:
    """A preemption gives as much notice as jobs count on."""
    if "OFF" in (settings.get("PreemptMode", "OFF"), own.get("PreemptMode", "OFF")):
        return Check("notice", "ok", "no preemption here")
    grace = int(own.get("GraceTime", "0"))
    if grace < site.notice_seconds:
        cure = f"notice_seconds: {max(10, grace)} in the site's file, or what was not saved by then is lost"
        return Check("notice", "warning", f"preempted jobs get {grace} s, {site.notice_seconds} are counted on", cure)
    return Check("notice", "ok", f"preempted jobs get {grace} s")


def array_size(site: Site, settings: Mapping[str, str]) -> Check:
    """Where arrays are split."""
    most = int(settings.get("MaxArraySize", "0"))
    if most < site.max_array_size:
        cure = f"max_array_size: {most} in the site's file, so that dry runs show what is submitted"
        return Check("arrays", "warning", f"up to {most}, the site's file says {site.max_array_size}", cure)
    return Check("arrays", "ok", f"up to {most}, split at {site.max_array_size}")


def requeue(settings: Mapping[str, str]) -> Check:
    """Jobs ask for it themselves, and sites can forbid it."""
    if settings.get("JobRequeue") == "0":
        return Check("requeue", "ok", "off by default; our scripts ask for it with --requeue")
    return Check("requeue", "ok", "a preempted job and one whose node is lost come again")


def on_the_nodes(site: Site, count: int, python: str, shared: Path) -> Iterator[Check]:
    """A step on some nodes: the interpreter, the folder and the clock as they see them."""
    with _marker(shared) as marker:
        if marker is None:
            return  # `folder` has said so
        look = ["sh", "-c", LOOK, "sh", str(marker), python]
        try:
            said = slurm.try_on_nodes(look, site, nodes=count, seconds=TRIAL_SECONDS)
        except TargetError as error:
            yield Check("nodes", "warning", error.problem, "try again when nodes are free; squeue tells who has them")
            return
    nodes = sorted(line.split("|") for line in said if line.count("|") == 3)  # they answer in any order
    yield Check("nodes", "ok", ", ".join(name for name, *_ in nodes))
    if blind := [name for name, seen, *_ in nodes if not seen]:
        cure = "a folder on a file system that all nodes share: --shared DIR"
        yield Check("shared", "error", f"{', '.join(blind)} cannot see {shared}", cure)
    else:
        yield Check("shared", "ok", f"all of them see {shared}")
    if without := [name for name, _, usable, _ in nodes if usable != "True"]:
        cure = "python: in the site's file, an interpreter of 3.11 or newer that the nodes have"
        yield Check("node python", "error", f"{', '.join(without)} cannot run {python}", cure)
    else:
        yield Check("node python", "ok", python)
    off = max((abs(int(when) - time.time()) for *_, when in nodes), default=0.0)
    if off > CLOCK_SECONDS:
        yield Check("node clocks", "warning", f"up to {off:.0f} s from this machine's", "one time server for all")


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
