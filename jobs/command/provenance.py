"""Which code, with which packages, was run by which command line; and the code that a cluster gets."""

import os
import platform
import secrets
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.code import sent_to_ray
from cluster.submission import read_snapshot
from jobs import CHECKOUT
from musicvae.data.manifest import without_secrets

LIBRARIES = ("torch", "numpy", "webdataset", "pydantic", "ray", "wandb")
HANDED_ON = ("NCCL_", "GLOO_", "WANDB_", "GOMP_")
"""Variables of the driver that ranks on a cluster get too."""
KEPT_BACK = ("WANDB_API_KEY",)
"""Ray shows the variables of a job to everyone who sees its dashboard."""


def provenance() -> dict[str, Any]:
    """What config.yaml keeps: commit, whether the tree was changed since, versions, command line, a tracking id.

    The tracking id is random: two folders with the same settings are one run by its run id, but two lives.
    """
    commit, dirty = _code()
    return {
        "tracking_id": secrets.token_hex(6),
        "command": without_secrets(shlex.join(sys.argv)),
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in LIBRARIES},
    }


def _code() -> tuple[str | None, bool | None]:
    if about := read_snapshot(CHECKOUT):
        return about["commit"], about["dirty"]
    status = _git("status", "--porcelain")
    return _git("rev-parse", "HEAD"), None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def code_for_ray(*, models: Sequence[str] = (), variables: bool = False) -> dict[str, Any]:
    """The runtime environment with which the nodes of a cluster run this very code, whatever they have installed.

    Args:
        models: names of shipped models that the nodes need.
        variables: whether they get some of the variables of this process too, as ranks do.
    """
    code = sent_to_ray(CHECKOUT, models=models)
    if not variables:
        return code
    handed_on = {
        name: value for name, value in os.environ.items() if name.startswith(HANDED_ON) and name not in KEPT_BACK
    }
    return {**code, "env_vars": handed_on}
