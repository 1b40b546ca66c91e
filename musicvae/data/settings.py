"""Settings of the training data: how windows are ordered, varied and cached."""

from pydantic import PositiveFloat, PositiveInt

from musicvae.data.cache import DEFAULT_GIB
from musicvae.errors import ConfigError
from musicvae.settings import Probability, Settings


class DataSettings(Settings):
    """How windows are ordered and varied."""

    lanes: PositiveInt = 64
    """Parallel streams of the data order; the largest number of ranks."""
    mix_drums: Probability = 0.0
    """Probability that a training window gets half its drums from another."""
    mix_bars: Probability = 0.0
    """Probability that a training window gets half its bars from another."""
    cached_blocks: PositiveInt = 2048
    """Blocks of 1,024 windows that each rank keeps in memory, 128 KiB each, 256 MiB in all (1.7 MiB each of velocity
    and timing); more than its lanes times the blocks of a shard are not needed."""
    ahead_mib: PositiveFloat = 256.0
    """MiB of shards that each rank fetches and verifies before it needs them."""
    cache_dir: str | None = None
    """Folder on a disk of this machine for copies of remote shards; null: a folder of this user in the temporary
    files."""
    cache_gib: PositiveFloat = DEFAULT_GIB
    """Most GiB of these copies; the least recently used ones are removed."""


def check_sizes(num_windows: int, *, lanes: int, global_batch: int) -> None:
    """Whether training windows can be put in order; needs no numpy, so that a login node can ask.

    Raises:
        ConfigError: the lanes do not divide the batch, or there are fewer windows than a batch or the lanes need.
    """
    if global_batch % lanes:
        raise ConfigError(
            "the global batch cannot be divided among the lanes",
            expected=f"train.global_batch is a multiple of data.lanes ({lanes})",
            found=f"train.global_batch={global_batch}",
            do=f"set train.global_batch={max(lanes, round(global_batch / lanes) * lanes)}",
        )
    if num_windows < global_batch:
        fitting = num_windows // lanes * lanes
        raise ConfigError(
            "there are fewer training windows than one batch needs",
            expected=f"at least train.global_batch={global_batch} windows",
            found=f"{num_windows} training windows, data.lanes={lanes}",
            likely="a small collection, or most files were rejected (see report.html of the shards)",
            do=f"set train.global_batch={fitting}"
            if fitting
            else f"set data.lanes={num_windows} train.global_batch={num_windows}"
            if num_windows
            else "add MIDI files",
        )
