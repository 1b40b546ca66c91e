"""What the driver and the ranks of `jobs.train_on_ray` tell each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicvae.training.stopping import Wish


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
    launch: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What the ranks were asked: to save and leave, and whether they are to start again at once."""

    leave: Wish = Wish.GO_ON
    again: bool = False

    @property
    def wish(self) -> Wish:
        return max(self.leave, Wish.STOP_FOR_SCHEDULER if self.again else Wish.GO_ON)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The ranks agreed to leave and saved."""

    step: int
    by_user: bool
    again: bool
