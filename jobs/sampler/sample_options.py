"""What a command line of jobs.sample asks for, as far as it decides what comes out."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from jobs.command.command_line import check_options
from jobs.sampler.sample_modes import STYLE, Modes
from musicvae.errors import ConfigError
from musicvae.midi.writer import MAX_TICKS, MIN_TICKS, TICKS_PER_QUARTER

REFILL_LIMIT = 20
"""Times the count that --refill makes at most: a model that hardly makes anything new is told, not waited for."""
RANKED = ("hits_per_bar", "syncopation", "log_likelihood", "nearest_training")
"""Figures that `--best` can go by."""


class Form(StrEnum):
    """What grooves are handed over as, beside the manifest."""

    FILES = "files"
    TAR = "tar"
    ZIP = "zip"
    NONE = "none"


class Audio(StrEnum):
    """Sound files beside the MIDI files."""

    NONE = "none"
    WAV = "wav"
    FLAC = "flac"


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """The options that `jobs.sample` explains; paths are absolute, so that any process may go on with them.

    Attributes:
        pick: items of the list that is picked from, ascending; the list itself may go.

    Raises:
        ConfigError: a value that cannot be used, or options that exclude each other.
    """

    count: int
    seed: int = 0
    run: str | None = None
    preset: str | None = None
    temperature: float | None = None
    tempo: float | None = None
    dry: bool = False
    feel: str | None = None
    like: str | None = None
    distance: float | None = None
    form: Form = Form.FILES
    pitches: str | None = None
    midi_format: int = 1
    ticks: int = TICKS_PER_QUARTER
    audio: Audio = Audio.NONE
    gallery: bool = True
    shards: str | None = None
    drop_duplicates: bool = False
    drop_memorised: bool = False
    best: int | None = None
    by: str | None = None
    refill: bool = False
    pick: tuple[int, ...] | None = None
    modes: Modes = field(default_factory=Modes)

    def __post_init__(self) -> None:
        if self.run is not None and self.preset is not None:
            raise ConfigError("two models are named", do="give one of --run, --preset and --weights")
        temperature, tempo, distance, by = self.temperature, self.tempo, self.distance, self.by
        drops, modes = self.drop_duplicates or self.drop_memorised, self.modes
        last, reach = max(self.pick or [0]), self.count * (REFILL_LIMIT if self.refill else 1)
        near = self.like or modes.continued or modes.source
        check_options(
            ("--count", self.count, self.count >= 1, "1 or more"),
            ("--seed", self.seed, 0 <= self.seed < 2**64, "0 to 2^64 - 1"),
            ("--temperature", temperature, temperature is None or 0 < temperature < math.inf, "a number above 0"),
            ("--tempo", tempo, tempo is None or 4 <= tempo <= 1000, "4 to 1000 quarter notes a minute"),
            ("--distance", distance, distance is None or 0 <= distance <= 1, "0 (the same) to 1 (unrelated)"),
            ("--distance", distance, distance is None or near, "--like FILE.mid beside it, --continue or --from"),
            ("--distance", distance, distance is None or not modes.start, "no --interpolate beside it"),
            ("--like", self.like, self.like is None or not modes.start, "no --interpolate beside it"),
            ("--temperature", temperature, temperature is None or not modes.bar_temperature, "no --bar-temperature"),
            ("--tempo", tempo, tempo is None or not modes.tempo_range, "no --tempo-range beside it"),
            ("--dry", self.dry, not (self.dry and self.feel), "no --feel beside it"),
            ("--tempo-range", STYLE, modes.tempo_range != STYLE or self.feel, "--feel STYLE beside it"),
            ("--midi-format", self.midi_format, self.midi_format in (0, 1), "0 (one track) or 1"),
            ("--ticks", self.ticks, MIN_TICKS <= self.ticks <= MAX_TICKS, f"{MIN_TICKS} to {MAX_TICKS} a quarter note"),
            ("--audio", self.audio, self.audio is Audio.NONE or self.form is not Form.NONE, "no --no-files beside it"),
            ("--best", self.best, self.best is None or 1 <= self.best <= self.count, f"1 to --count {self.count}"),
            ("--best", self.best, (self.best is None) == (by is None), "--by FIGURE beside it"),
            ("--by", by, by is None or by.removeprefix("-") in RANKED, f"one of {', '.join(RANKED)}, - for the least"),
            ("--pick", f"groove-{last:05d}", last < reach, f"ids below {reach:,}, as --count {self.count} has them"),
            ("--refill", self.refill, drops or not self.refill, "--drop-duplicates or --drop-memorised beside it"),
        )

    @property
    def wanted(self) -> int:
        """How many grooves are made, before --refill makes more."""
        return self.count if self.pick is None else len(self.pick)

    def values(self) -> dict[str, Any]:
        """Plain values; exact inverse of `from_values`."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "SampleOptions":
        """What `values` gave, through JSON or not; options that an earlier version did not have are not given.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        own = {one.name: values[one.name] for one in fields(cls) if one.name in values}
        parts = {"form": Form(own["form"]), "audio": Audio(own["audio"]), "modes": Modes.from_values(own["modes"])}
        parts["pick"] = own["pick"] and tuple(own["pick"])
        return cls(**{**own, **parts})
