"""All ranks run the same code on the same data with the same settings, or none runs."""

import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch.cuda import nccl

from cluster.code import CODE_PACKAGES, code_hash
from musicvae.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RankVersion:
    """What has to agree between ranks, and who says so."""

    host: str
    code: str
    torch: str
    device: str
    cuda: str
    nccl: str
    manifest: str
    run: str


def version_of_rank(device: torch.device, *, manifest: str, run: str) -> RankVersion:
    """Of this rank.

    Args:
        device: where it computes.
        manifest: the fingerprint of its shards.
        run: the identity that its settings give.
    """
    on_cuda = device.type == "cuda"
    return RankVersion(
        host=socket.gethostname(),
        code=code_hash(),
        torch=torch.__version__,
        device=device.type,
        cuda=str(torch.version.cuda) if on_cuda else "-",
        nccl=".".join(map(str, nccl.version())) if on_cuda else "-",
        manifest=manifest,
        run=run,
    )


def check_same_everywhere(exchange: Callable[[str], Sequence[str]], this_rank: RankVersion, *, rank: int) -> None:
    """Compares all ranks with rank 0.

    Args:
        exchange: gives a text to all ranks, and the texts of all of them to this one.
        rank: of this process.

    Raises:
        ConfigError: they differ; on every rank, with the ranks, their machines and the values.
    """
    versions = [json.loads(text) for text in exchange(json.dumps(asdict(this_rank)))]
    meanings = {
        "code": f"source code ({', '.join(CODE_PACKAGES)})",
        "torch": "torch",
        "device": "device",
        "cuda": "CUDA",
        "nccl": "NCCL",
        "manifest": "shards (manifest fingerprint)",
        "run": "settings (run id)",
    }
    differing = [
        f"{meanings[name]}: {versions[0].get(name)} on rank 0 ({versions[0]['host']}), "
        f"{version.get(name)} on rank {place} ({version['host']})"
        for name in meanings
        for place, version in enumerate(versions)
        if version.get(name) != versions[0].get(name)
    ]
    if differing:
        error = ConfigError(
            "the ranks have different versions",
            expected="the same code, torch, devices, shards and settings on every machine",
            found="; ".join(differing[:8]) + (f"; and {len(differing) - 8} more" if len(differing) > 8 else ""),
            likely="the checkout or the shards were updated on some machines only, or a machine has no GPU",
            do="update these machines to the same version; resources.device=cpu does without GPUs",
        )
        error.shown_elsewhere = rank != 0
        raise error
