"""Which code, with which packages, was run by which command line; and the code that a cluster gets."""

import os
import platform
import secrets
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.submission import CODE_PACKAGES, read_snapshot
from jobs import CHECKOUT
from musicvae.data.sources import without_secrets

LIBRARIES = ("torch", "numpy", "webdataset", "pydantic", "ray", "wandb")
OUR_CODE = {
    "working_dir": str(CHECKOUT),
    # Ray asks about "." first, which "/*" would exclude, and with it everything.
    "excludes": ["/*", "!.", *(f"!/{package}" for package in CODE_PACKAGES), "__pycache__"],
}
"""Sent along to a cluster, so that its nodes run this very code whatever they have installed."""
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
        result = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def our_code() -> dict[str, Any]:
    """The runtime environment that a cluster's nodes get: this checkout's packages, and some of this environment."""
    variables = {
        name: value for name, value in os.environ.items() if name.startswith(HANDED_ON) and name not in KEPT_BACK
    }
    return {**OUR_CODE, "env_vars": variables}
