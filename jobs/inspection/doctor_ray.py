"""What `jobs.doctor --on ray` looks at: the cluster that jobs would be submitted to."""

import importlib.metadata
from collections.abc import Iterator

from cluster import ray_jobs
from cluster.errors import TargetError
from jobs.inspection.machine import Check


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
