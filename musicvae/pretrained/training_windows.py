"""The windows that a model was trained on, for those who have its shards at hand."""

import numpy as np
import torch
from jaxtyping import Int16

from musicvae.data.feel import StyleFeels, measure_styles, primary_style
from musicvae.data.manifest import ShardManifest, ShardSource, open_shards
from musicvae.data.shards import read_blocks, read_tokens
from musicvae.errors import ConfigError
from musicvae.generation.attribute_vectors import AttributeVectors, fit_attribute_vectors
from musicvae.generation.style_guide import StyleGuide, fit_style_guide
from musicvae.groove.features import measure_attributes
from musicvae.groove.groove import hits_from_tokens
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord, record_of

BLOCK = 512
"""Windows that are encoded at once."""


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
    return measure_styles(read_blocks(source, manifest, manifest.split("train").shards), manifest.grid)


def training_record(trained: TrainedModel, tokens: Int16[np.ndarray, "window step"], shards: str) -> TrainingRecord:
    """What an export keeps of its training windows.

    Args:
        tokens: `training_windows`.
        shards: a folder or URL.

    Raises:
        ConfigError: no shards, or others than the model was trained on.
        DataError: a shard is damaged.
    """
    guide = training_guide(trained, shards)
    return record_of(tokens, trained.grid, trained.drum_map, training_styles(trained, shards), guide)


@torch.no_grad()
def training_guide(trained: TrainedModel, shards: str) -> StyleGuide | None:
    """Which styles their codes have; None without a latent space or without two styles.

    Raises:
        ConfigError: no shards, or others than the model was trained on.
        DataError: a shard is damaged.
    """
    if not trained.latent:
        return None
    source, manifest = _shards_of(trained, shards)
    mu, sigma, manners, metas = [], [], [], []
    for block in read_blocks(source, manifest, manifest.split("train").shards):
        for first in range(0, len(block), BLOCK):
            posterior = trained.model.encode(torch.from_numpy(block.tokens[first : first + BLOCK].astype(np.int64)))
            mu.append(posterior.mu.float().numpy())
            sigma.append(posterior.sigma.float().numpy())
        manners.append(block.played().manner())
        metas += block.meta
    styles = [primary_style(meta.style) for meta in metas]
    tempos = np.array([meta.tempo for meta in metas])
    return fit_style_guide(np.concatenate(mu), np.concatenate(sigma), styles, tempos, np.concatenate(manners))


def measured_vectors(trained: TrainedModel, tokens: Int16[np.ndarray, "window step"]) -> AttributeVectors:
    """Directions of attributes, measured on the training windows."""
    hits = hits_from_tokens(tokens, trained.drum_map.num_drums)
    values = measure_attributes(hits, trained.grid, trained.drum_map.classes)
    return fit_attribute_vectors(trained.encode(tokens), values, trained.attributes)


def _shards_of(trained: TrainedModel, shards: str) -> tuple[ShardSource, ShardManifest]:
    source = open_shards(shards)
    manifest = source.manifest()
    if manifest.fingerprint != trained.fingerprint:
        other_grid = "" if manifest.grid == trained.grid else f", whose grid is {manifest.grid}"
        raise ConfigError(
            f"the model was not trained on {source}",
            expected=f"shards {trained.fingerprint}",
            found=f"shards {manifest.fingerprint}{other_grid}",
            do="give the shards that the run was trained on",
        )
    return source, manifest
