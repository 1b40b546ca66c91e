"""What decides which windows come out of a collection; nothing here changes how fast."""

from pydantic import Field

from musicvae.grid import GridSpec
from musicvae.settings import Settings


class WindowSettings(Settings):
    """What one window is and how far the next one is away."""

    bars: int = Field(default=4, ge=1)
    """Bars of a window."""
    hop_bars: int = Field(default=1, ge=1)
    """Bars from the start of one window to the start of the next."""
    steps_per_beat: int = Field(default=4, ge=1)
    """Steps of the grid in a quarter note."""

    @property
    def grid(self) -> GridSpec:
        return GridSpec(bars=self.bars, steps_per_beat=self.steps_per_beat)


class SplitSettings(Settings):
    """How files are split where the collection does not say."""

    validation_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of files in validation; a hash of the content decides which, so adding files moves none."""


class LimitSettings(Settings):
    """What is too large to be a drum performance."""

    max_bytes: int = Field(default=16 * 2**20, ge=1)
    """Bytes of one file."""
    max_bars: int = Field(default=10_000, ge=1)
    """Bars of one file; five hours at 120 quarter notes a minute."""


class ShardSettings(Settings):
    """How windows are cut into files."""

    windows: int = Field(default=2048, ge=1)
    """Most windows of one shard; the shards of a split differ by at most one."""


class DemoSettings(Settings):
    """The corpus that `--source demo` composes."""

    performances: int = Field(default=360, ge=1)
    """Number of MIDI files."""
    seed: int = Field(default=0, ge=0)
    """Which corpus."""


class BuildSettings(Settings):
    """Everything that decides the bytes of the shards, beside the files themselves."""

    drum_map: str = "auto"
    """`roland`, `general_midi`, a YAML file of your own, or `auto`: roland for GMD, general_midi for all else."""
    window: WindowSettings = Field(default_factory=WindowSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    shard: ShardSettings = Field(default_factory=ShardSettings)
    demo: DemoSettings = Field(default_factory=DemoSettings)
