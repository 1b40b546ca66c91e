"""What the driver and the ranks of `jobs.train_on_ray` tell each other."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicvae.data.manifest import is_url
from musicvae.training.run_folder import RunFolder
from musicvae.training.stopping import Stop


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers there may be, and what each of them gets."""

    least: int
    most: int
    cpus: int
    device: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Ranks ended without an agreement to do so.

    Attributes:
        reason: in Ray's words.
        errors: what each failed rank raised, as far as Ray knows; empty if no rank came so far.
    """

    reason: str
    errors: Mapping[int, BaseException]


@dataclass(frozen=True, slots=True)
class RankJob:
    """What the driver tells every rank of one attempt; paths are absolute and mean the same on all nodes.

    Attributes:
        provenance: of the run's config.yaml as the driver sees it.
        attempt: how often the ranks of this launch were started before.
    """

    settings: dict[str, Any]
    shards: str
    run: Path
    init_from: Path | None
    provenance: dict[str, Any]
    launch_id: str
    attempt: int

    def blind_spot(self) -> str:
        """What this node does not see of the run and its data; empty if it sees all."""
        folder = RunFolder(self.run)
        if not folder.config.exists():
            return f"it does not see {folder.config}"
        if folder.read_config()["provenance"] != self.provenance:
            return f"it sees another run in {folder.path}"
        if not os.access(folder.path, os.W_OK):
            return f"it cannot write to {folder.path}"
        if not is_url(self.shards) and not Path(self.shards).exists():
            return f"it does not see {self.shards}"
        return ""


@dataclass(frozen=True, slots=True)
class StopRequest:
    """What the ranks were asked: to save and leave, and whether they are to start again at once."""

    leave: Stop = Stop.GO_ON
    again: bool = False

    @property
    def stop(self) -> Stop:
        return max(self.leave, Stop.STOP_FOR_SCHEDULER if self.again else Stop.GO_ON)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The ranks agreed to leave and saved."""

    step: int
    by_user: bool
    again: bool
