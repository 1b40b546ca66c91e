"""The windows that a model was trained on, for those who have its shards at hand."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int16

from musicvae.data.manifest import ShardManifest
from musicvae.data.shards import read_shard, read_tokens
from musicvae.data.sources import ShardSource, open_shards
from musicvae.data.style_feels import StyleFeels, measure_styles
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError
from musicvae.pretrained.model import TrainedModel


def training_windows(trained: TrainedModel, shards: str) -> Int16[np.ndarray, "window step"]:
    """Their tokens, in the manifest's order.

    Args:
        shards: a folder or URL.

    Raises:
        ConfigError: no shards, or others than the model was trained on.
        DataError: a shard is damaged.
    """
    source, manifest = _shards_of(trained, shards)
    return read_tokens(source, manifest, "train").tokens


def training_styles(trained: TrainedModel, shards: str) -> StyleFeels:
    """How each style among them is played; one shard is held at a time.

    Args:
        shards: a folder or URL.

    Raises:
        ConfigError: no shards, or others than the model was trained on.
        DataError: a shard is damaged.
    """
    source, manifest = _shards_of(trained, shards)

    def blocks() -> Iterator[WindowBlock]:
        for shard in manifest.split("train").shards:
            num_drums = manifest.drum_map.num_drums
            yield read_shard(source.local(shard), shard, grid=manifest.grid, num_drums=num_drums)

    return measure_styles(blocks(), manifest.grid)


def _shards_of(trained: TrainedModel, shards: str) -> tuple[ShardSource, ShardManifest]:
    source = open_shards(shards)
    manifest = source.manifest()
    if manifest.fingerprint != trained.fingerprint:
        other_grid = "" if manifest.grid == trained.grid else f", whose grid is {manifest.grid}"
        raise ConfigError(
            f"{source} is not what the model was trained on",
            expected=f"shards {trained.fingerprint}",
            found=f"shards {manifest.fingerprint}{other_grid}",
            do="name the shards of the run",
        )
    return source, manifest
