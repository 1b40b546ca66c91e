"""What decides which windows come out of a collection; nothing here changes how fast."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from musicvae.groove.grid import GridSpec
from musicvae.settings import Settings

Channel = Annotated[int, Field(ge=1, le=16)]


class WindowSettings(Settings):
    """What one window is and how far the next one is away."""

    bars: int = Field(default=4, ge=1, le=64)
    """Bars of a window."""
    hop_bars: int = Field(default=1, ge=1)
    """Bars from the start of one window to the start of the next."""
    steps_per_beat: int = Field(default=4, ge=1, le=96)
    """Steps of the grid in a quarter note."""
    pad_last_bar: bool = True
    """Whether the bar of a file's last hit counts although the file ends before its bar line."""

    @property
    def grid(self) -> GridSpec:
        return GridSpec(bars=self.bars, steps_per_beat=self.steps_per_beat)


class ReadingSettings(Settings):
    """Which notes of a file are drum hits."""

    channels: tuple[Channel, ...] = Field(default=(10,), min_length=1)
    """MIDI channels, counted from 1, whose notes are drum hits in any track."""
    drum_tracks: bool = False
    """Whether tracks that are named like drums (drum, perc, kit, beat) count on every channel too."""
    unknown_pitch: Literal["drop", "nearest", "reject"] = "drop"
    """Hits of a pitch that the drum map does not know: drop and count them, take the class of the nearest known pitch
    (the lower of two), or reject the file."""

    @field_validator("channels", mode="before")
    @classmethod
    def _one_channel(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value


class FilterSettings(Settings):
    """Windows that are not wanted; all filters are off by default, and what one leaves out is counted."""

    min_hits: int = Field(default=0, ge=0)
    """Fewest hits of a window."""
    max_empty_bars: int | None = Field(default=None, ge=0)
    """Most bars of a window without a hit."""
    min_drums: int = Field(default=0, ge=0)
    """Fewest distinct drum classes of a window."""
    min_tempo: float | None = Field(default=None, gt=0)
    """Slowest tempo at the start of a window, in quarter notes per minute."""
    max_tempo: float | None = Field(default=None, gt=0)
    """Fastest tempo at the start of a window, in quarter notes per minute."""
    styles: tuple[str, ...] = ()
    """Styles that are kept, as the collection's table names them; `rock` keeps `rock/indie` too."""
    drop_repeated: bool = False
    """Whether of windows with equal tokens within a split only the first is kept."""

    @model_validator(mode="after")
    def _tempo_range(self) -> "FilterSettings":
        if self.min_tempo is not None and self.max_tempo is not None and self.min_tempo > self.max_tempo:
            raise ValueError(f"min_tempo {self.min_tempo} is above max_tempo {self.max_tempo}")
        return self


class SplitSettings(Settings):
    """How files are split where the collection does not say; a hash decides, so adding files moves none."""

    validation_share: float = Field(default=0.2, ge=0, lt=1)
    """Expected share of groups in validation."""
    test_share: float = Field(default=0.0, ge=0, lt=1)
    """Expected share of groups in test; what is in neither is train."""
    group: Literal["file", "folder", "column"] = "file"
    """What is never torn apart: a file (by its content), the files of one folder, or those with the same `group` in
    the collection's list."""
    seed: int = Field(default=0, ge=0)
    """Which split."""

    @model_validator(mode="after")
    def _something_is_left_to_train(self) -> "SplitSettings":
        if self.validation_share + self.test_share >= 1:
            shares = f"validation_share {self.validation_share} and test_share {self.test_share}"
            raise ValueError(f"{shares} leave nothing to train on")
        return self


class LimitSettings(Settings):
    """What is too large, or takes too much, to be a drum performance; each counts for one file."""

    max_bytes: int = Field(default=16 * 2**20, ge=1)
    """Bytes of one file."""
    max_notes: int = Field(default=200_000, ge=1)
    """Drum hits of one file; GMD's longest performance has 11,513."""
    max_bars: int = Field(default=10_000, ge=1)
    """Bars of one file; five hours at 120 quarter notes a minute."""
    cpu_seconds: int = Field(default=20, ge=1)
    """Seconds of CPU time that one file may take; GMD's take a millisecond."""
    wall_seconds: float = Field(default=120.0, gt=0)
    """Seconds by the clock, for a file that waits instead of computing."""
    memory_mib: int = Field(default=1024, ge=64)
    """MiB that the conversion of one file may add to its process."""


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
    max_rejected_share: float | None = Field(default=None, ge=0, le=1)
    """Most rejected files, as a share of those seen; more end the build with an error and no shards."""
    reading: ReadingSettings = Field(default_factory=ReadingSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    filters: FilterSettings = Field(default_factory=FilterSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    shard: ShardSettings = Field(default_factory=ShardSettings)
    demo: DemoSettings = Field(default_factory=DemoSettings)
