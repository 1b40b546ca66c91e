"""The code that runs on other machines: which of it travels, its hash, and messages that only the same code opens.

A submission keeps this code, Ray gets it with a job, and ranks compare it.
"""

import hashlib
import json
import os
import pickle
import platform
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from cluster.errors import TargetError

CHECKOUT = Path(__file__).resolve().parents[1]
CODE_PACKAGES = ("jobs", "musicvae", "preprocess", "cluster")
"""The folders of a checkout that run anywhere else: kept with a submission, sent to Ray, compared between ranks."""
SHIPPED_MODELS, BASELINES = "musicvae/weights", "jobs/baselines"
"""Most bytes of the packages. Ray gets only the models that a job uses; submissions share what is the same."""
STORED = re.compile(r"\.\./\.\./[0-9a-f]{16}(-\d+)?")
"""Where a snapshot's links to such models lead, see `cluster.submission`."""
SECRET_NAMES = (
    *(
        ".env",
        ".env.*",
        "*.env",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".pgpass",
        "*.pem",
        "*.key",
        "*.p12",
        "*.pfx",
        "*.kdbx",
        "*.ppk",
        "*.jks",
        "*.keystore",
        ".ssh",
        ".aws",
    ),
    *(
        "id_rsa*",
        "id_dsa*",
        "id_ecdsa*",
        "id_ed25519*",
        "*secret*",
        "*credential*",
        "*password*",
        "*passwd*",
        "*api_key*",
        "*apikey*",
        "auth_token*",
        "*.token",
    ),
)
"""Files and folders whose names match stay in the checkout, in lower case and in the syntax of .gitignore."""
HASHED = (".py", ".yaml")
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable by which Ray says to the process of a Ray Job what the job was submitted with."""
Look: TypeAlias = Callable[[], str]
"""Looks at the node on which it runs; gives what is wrong with it, empty if nothing is."""


def is_secret(name: str) -> bool:
    """Whether a path in a checkout matches `SECRET_NAMES`."""
    return any(fnmatchcase(part.lower(), pattern) for part in Path(name).parts for pattern in SECRET_NAMES)


def sent_to_ray(checkout: Path, *, models: Sequence[str] = ()) -> dict[str, Any]:
    """The part of Ray's runtime environment that brings the code to the nodes of a cluster.

    Ray names what it sends by a hash of the content, so a cluster that has it gets it only once. Links are not sent,
    but for the models of a snapshot.

    Nothing is sent where a Ray Job brought this checkout (`ray job submit --working-dir .`): its tasks get the same.

    Args:
        models: names of shipped models to send too.
    """
    if _was_sent_with_job(checkout):
        return {}
    # Of several patterns that match, the last one counts. Ray asks about "." first, which "/*" would exclude, and with
    # it everything.
    return {
        "working_dir": str(checkout),
        "excludes": [
            *("/*", "!.", *(f"!/{package}" for package in CODE_PACKAGES)),
            *(f"/{BASELINES}/*", f"/{SHIPPED_MODELS}/*", *(f"!/{SHIPPED_MODELS}/{model}" for model in models)),
            *("__pycache__", *SECRET_NAMES),
            # Ray would send what they lead to.
            *(re.sub(r"([\\*?\[\]!# ])", r"\\\1", f"/{link}") for link in links_in(checkout)),
        ],
    }


def _was_sent_with_job(checkout: Path) -> bool:
    """Whether a checkout is what Ray has unpacked for the Ray Job of this process, in a folder of the same name."""
    job = json.loads(os.environ.get(JOB_CONFIG, "{}"))
    package = (job.get("runtime_env") or {}).get("working_dir", "")
    return bool(package) and PurePosixPath(package).stem == checkout.name


def links_in(checkout: Path) -> list[str]:
    """The links in our packages, by their path in the checkout, without those of a snapshot to its models."""
    folders = [entry for package in CODE_PACKAGES for entry in os.walk(checkout / package)]
    paths = [Path(folder, name) for folder, inner, files in folders for name in (*inner, *files)]
    links = {path.relative_to(checkout).as_posix(): str(path.readlink()) for path in paths if path.is_symlink()}
    models = (SHIPPED_MODELS, BASELINES)
    return sorted(name for name, end in links.items() if name not in models or not STORED.fullmatch(end))


@cache
def code_hash(checkout: Path = CHECKOUT) -> str:
    """A short hash of all our source, and of the YAML files in it."""
    total = hashlib.sha256()
    for package in CODE_PACKAGES:
        for path in sorted((checkout / package).rglob("*")):
            name = path.relative_to(checkout).as_posix()
            if path.suffix in HASHED and not is_secret(name):
                total.update(f"{name}\0".encode())
                total.update(path.read_bytes())
    return total.hexdigest()[:12]


@cache
def _version(package: str) -> str:
    """Without the part behind a plus: torch for CPUs and torch for GPUs are one version."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "missing"


@dataclass(frozen=True, slots=True)
class Message:
    """Something for another process, packed so that it can be compared before it is opened.

    Attributes:
        versions: of code, Python and the packages that have to be the same, where it was packed.
    """

    versions: Mapping[str, str]
    content: bytes

    @classmethod
    def of(cls, content: object, *packages: str) -> "Message":
        """Packs something.

        Args:
            packages: distributions that have to be the same where it is opened.
        """
        return cls(_versions(packages), pickle.dumps(content))

    def differences(self) -> str:
        """What differs in this process, with both versions; empty if nothing does."""
        here = _versions([name for name in self.versions if name not in ("code", "python")])
        differing = [name for name, there in self.versions.items() if here[name] != there]
        return "; ".join(f"{name} {here[name]}, but {self.versions[name]} on the driver" for name in differing)

    def open(self) -> Any:
        """The content.

        Raises:
            TargetError: this process has other versions; both are named.
        """
        if differing := self.differences():
            raise TargetError(
                f"node {socket.gethostname()} has other versions than the driver",
                expected="the same code, Python and packages on all nodes",
                found=differing,
                likely="another image or environment on this node, or an edit of the code while the command started",
                do="install the driver's versions there, then run the same command again to resume",
            )
        return pickle.loads(self.content)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    python = ".".join(platform.python_version_tuple()[:2])
    return {"code": code_hash(), "python": python, **{package: _version(package) for package in packages}}


@lru_cache(maxsize=2)
def opened_work(work: bytes) -> tuple[str, Any]:
    """What is wrong with this node for some work, empty if nothing is; and the work, which the next task shares.

    Args:
        work: a pickled `Message` of the work and of a function that looks at the node, or None.
    """
    message: Message = pickle.loads(work)
    if problem := message.differences():
        return problem, None
    content, look = message.open()
    return (look() if look else ""), content


def done_here(work: bytes, task: bytes) -> tuple[str, Any]:
    """What is wrong with this node, empty if nothing is; and what the function of `work` makes of a task.

    Args:
        task: a pickled `Message`.
    """
    problem, function = opened_work(work)
    if problem:
        return problem, None
    message: Message = pickle.loads(task)
    return "", function(message.open())
