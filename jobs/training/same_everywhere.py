"""All ranks run the same code on the same data with the same settings, or none runs."""

import hashlib
import os
import socket
from dataclasses import dataclass
from functools import cache

import torch

from cluster.submission import CODE_PACKAGES
from jobs import CHECKOUT
from musicvae.errors import ConfigError
from musicvae.training.world import World


@dataclass(frozen=True, slots=True)
class RankVersion:
    """What has to agree between ranks, and who says so."""

    host: str
    pid: int
    code: str
    torch: str
    manifest: str
    run: str


@cache
def code_hash() -> str:
    """A short hash of all our source."""
    total = hashlib.sha256()
    for package in CODE_PACKAGES:
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            total.update(f"{path.relative_to(CHECKOUT)}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()[:12]


def check_same_everywhere(world: World, *, manifest: str, run: str) -> list[RankVersion]:
    """Compares all ranks with rank 0 and gives what they said, by rank.

    Args:
        manifest: the fingerprint of this rank's shards.
        run: the identity that its settings give.

    Raises:
        ConfigError: they differ; on every rank, with the ranks, their machines and the values.
    """
    own = RankVersion(
        host=socket.gethostname(),
        pid=os.getpid(),
        code=code_hash(),
        torch=torch.__version__,
        manifest=manifest,
        run=run,
    )
    versions = world.gather(own)
    meanings = {
        "code": f"source code ({', '.join(CODE_PACKAGES)})",
        "torch": "torch",
        "manifest": "shards (manifest fingerprint)",
        "run": "settings (run id)",
    }
    differing = [
        f"{meanings[name]}: {getattr(versions[0], name)} on rank 0 ({versions[0].host}), "
        f"{getattr(version, name)} on rank {rank} ({version.host})"
        for name in meanings
        for rank, version in enumerate(versions)
        if getattr(version, name) != getattr(versions[0], name)
    ]
    if differing:
        error = ConfigError(
            "the ranks do not agree on what to run",
            expected="the same code, torch, shards and settings on every machine",
            found="; ".join(differing[:8]) + (f"; and {len(differing) - 8} more" if len(differing) > 8 else ""),
            likely="a checkout or a copy of the shards that was updated on some machines only",
            do="bring these machines to the same version",
        )
        error.shown_elsewhere = not world.is_main
        raise error
    return versions
