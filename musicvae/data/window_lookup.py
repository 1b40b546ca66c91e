"""Single windows out of shards, by their ids, with all that is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard
from musicvae.data.sources import ShardSource
from musicvae.data.windows import WindowMeta
from musicvae.errors import ConfigError
from musicvae.groove.groove import DrumGroove


@dataclass(frozen=True, slots=True, eq=False)
class FoundWindow:
    """A window and where it stands.

    Attributes:
        split: its split.
        id: its place in the manifest's order within the split.
    """

    split: str
    id: int
    meta: WindowMeta
    groove: DrumGroove


def find_windows(source: ShardSource, manifest: ShardManifest, split: str, ids: Sequence[int]) -> list[FoundWindow]:
    """The windows with these ids, in that order; reads the shards that hold them, one at a time.

    Raises:
        ConfigError: no such split or window.
        DataError: a shard that holds one is missing or damaged.
    """
    entry = manifest.split(split)
    if outside := [i for i in ids if not 0 <= i < entry.windows]:
        raise ConfigError(
            f"there is no window {outside[0]} in split {split!r}",
            expected=f"0 to {entry.windows - 1}",
            found=str(outside[0]),
            likely="a window of another split, or of another build",
            do="name a window in that range",
        )
    starts = np.cumsum([0, *(shard.windows for shard in entry.shards)])
    shard_of = np.searchsorted(starts, ids, side="right") - 1
    found: dict[int, FoundWindow] = {}
    for shard in np.unique(shard_of).tolist():
        path = source.local(entry.shards[shard])
        windows = read_shard(path, entry.shards[shard], grid=manifest.grid, num_drums=manifest.drum_map.num_drums)
        for i in np.array(ids)[shard_of == shard].tolist():
            row = i - int(starts[shard])
            found[i] = FoundWindow(split, i, windows.meta[row], windows.groove(row, manifest.grid))
    return [found[i] for i in ids]
