"""Settings of the training data: how windows are ordered, varied and cached."""

from pydantic import PositiveFloat, PositiveInt

from musicvae.data.cache import DEFAULT_GIB
from musicvae.settings import Probability, Settings


class DataSettings(Settings):
    """How windows are ordered and varied."""

    lanes: PositiveInt = 64
    """Parallel streams that the order of an epoch is cut into; the largest world size."""
    mix_drums: Probability = 0.0
    """Probability that a training window gets half its drums from another."""
    mix_bars: Probability = 0.0
    """Probability that a training window gets half its bars from another."""
    cached_blocks: PositiveInt = 2048
    """Runs of 1,024 windows that each rank keeps in memory, 128 KiB each, 256 MiB in all; more than its lanes times the
    blocks of a shard are not needed."""
    cache_dir: str | None = None
    """Folder on a disk of this machine for copies of remote shards; none: this user's own among the temporary files."""
    cache_gib: PositiveFloat = DEFAULT_GIB
    """Space for these copies; those used longest ago give way."""
