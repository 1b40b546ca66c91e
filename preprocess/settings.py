"""What decides which windows come out of a collection; nothing here changes how fast."""

from typing import Any, Literal

from pydantic import Field, model_validator

from musicvae.groove.grid import GridSpec
from musicvae.midi.settings import ReadingSettings
from musicvae.settings import Settings

YOUNGER = ("salvage", "metres", "transpose")
"""Settings of `reading` that the first shards were built without."""


class WindowSettings(Settings):
    """What one window is and how far the next one is away."""

    bars: int = Field(default=4, ge=1, le=64)
    """Bars of a window."""
    hop_bars: int = Field(default=1, ge=1)
    """Bars from the start of one window to the start of the next."""
    steps_per_beat: int = Field(default=4, ge=1, le=96)
    """Steps of the grid in a quarter note."""
    pad_last_bar: bool = True
    """Whether the last bar of a file is used although the file ends before its bar line."""

    @property
    def grid(self) -> GridSpec:
        return GridSpec(bars=self.bars, steps_per_beat=self.steps_per_beat)


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
    """Styles that are kept, by their names in the list of files; `rock` keeps `rock/indie` too."""
    drop_repeated: bool = False
    """Whether duplicates within a split are left out; windows with equal tokens are duplicates."""

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
    """Expected share of groups in test; all other groups are in train."""
    group: Literal["file", "folder", "column"] = "file"
    """What is kept in one split: a file (by its content), the files of a folder, or the files with the same `group` in
    the list of files."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives another split."""

    @model_validator(mode="after")
    def _something_is_left_to_train(self) -> "SplitSettings":
        if self.validation_share + self.test_share >= 1:
            shares = f"validation_share {self.validation_share} and test_share {self.test_share}"
            raise ValueError(f"{shares} leave no files for train")
        return self


class LimitSettings(Settings):
    """What is too large, or takes too much, to be a drum performance; each counts for one file."""

    max_bytes: int = Field(default=16 * 2**20, ge=1)
    """Most bytes of one file."""
    max_notes: int = Field(default=200_000, ge=1)
    """Most drum hits of one file; the longest performance of GMD has 11,513."""
    max_bars: int = Field(default=10_000, ge=1)
    """Most bars of one file; five hours at 120 bpm."""
    cpu_seconds: int = Field(default=20, ge=1)
    """Most seconds of CPU time for one file; a file of GMD needs a millisecond."""
    wall_seconds: float = Field(default=120.0, gt=0)
    """Most seconds of wall time for one file."""
    memory_mib: int = Field(default=1024, ge=64)
    """Most MiB of memory for the conversion of one file."""


class ShardSettings(Settings):
    """How windows are cut into files."""

    windows: int = Field(default=2048, ge=1)
    """Most windows of one shard; the shards of a split differ by at most one."""


class WarningSettings(Settings):
    """What follows from the checks over the whole collection."""

    as_errors: bool = False
    """Whether a warning ends the build with an error and without shards."""


class DemoSettings(Settings):
    """The corpus that `--source demo` composes."""

    performances: int = Field(default=360, ge=1)
    """Number of MIDI files."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives another corpus."""


class BuildSettings(Settings):
    """Everything that decides the bytes of the shards, beside the files themselves."""

    drum_map: str = "auto"
    """`roland`, `general_midi`, a YAML file of your own, or `auto`: roland for GMD, general_midi for other sources."""
    max_rejected_share: float | None = Field(default=None, ge=0, le=1)
    """Largest share of rejected files; above it, the build ends with an error and without shards."""
    reading: ReadingSettings = Field(default_factory=ReadingSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    filters: FilterSettings = Field(default_factory=FilterSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    shard: ShardSettings = Field(default_factory=ShardSettings)
    demo: DemoSettings = Field(default_factory=DemoSettings)
    warnings: WarningSettings = Field(default_factory=WarningSettings)

    def deciding(self, *without: str) -> dict[str, Any]:
        """The settings that decide windows, as JSON values for a hash.

        A setting that is younger than the first shards is left out where it has its default, so that these keep their
        identity.

        Args:
            without: groups that the hash does not depend on.
        """
        values = self.model_dump(mode="json", exclude={"max_rejected_share", "drum_map", "demo", "warnings", *without})
        defaults = ReadingSettings().model_dump(mode="json")
        for name in YOUNGER:
            if values["reading"][name] == defaults[name]:
                del values["reading"][name]
        return values
