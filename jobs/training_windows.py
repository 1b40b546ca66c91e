"""The windows that a model was trained on, for those who have its shards at hand."""

import numpy as np
from jaxtyping import Int16

from musicvae.errors import ConfigError
from musicvae.shard_source import open_shards
from musicvae.shards import read_tokens
from musicvae.trained_model import TrainedModel


def training_windows(trained: TrainedModel, shards: str) -> Int16[np.ndarray, "window step"]:
    """Their tokens, in the manifest's order.

    Args:
        shards: a folder or URL.

    Raises:
        ConfigError: no shards, or others than the model was trained on.
        DataError: a shard is damaged.
    """
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
    return read_tokens(source, manifest, "train").tokens
