"""How MIDI files are read and written where nothing else is said; no numpy."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from musicvae.errors import ConfigError
from musicvae.settings import Settings

TICKS_PER_QUARTER = 480
MIN_TICKS, MAX_TICKS = 24, 32767
"""Of a quarter note: below, hits of neighbouring steps could not be told apart; above, MIDI has no number for it."""
LOOP_MARK = b"loop: early hits are at the end"
"""A text of our own files; without it a hit at the end of a file belongs to the bar after it."""
DRUM_CHANNEL = 10
"""The channel that General MIDI keeps for drums, counted from 1."""
BAR = re.compile(r"0*[1-9][0-9]{0,8}", re.ASCII)
Metre = Literal["2/2", "4/2", "8/8"]
Channel = Annotated[int, Field(ge=1, le=16)]


class ReadingSettings(Settings):
    """Which notes of a file are drum hits, and what is read of a file that is not as it should be."""

    channels: tuple[Channel, ...] | Literal["auto"] = Field(default=(DRUM_CHANNEL,), min_length=1)
    """MIDI channels, counted from 1, whose notes are read as drum hits in any track; `auto`: channel 10 and every
    channel that a GS or XG message of the file makes a drum part. Channel 10 alone is not read where such a message
    makes it melodic."""
    drum_tracks: bool = False
    """Whether tracks with names like drum, perc, kit or beat are read on every channel too."""
    unknown_pitch: Literal["drop", "nearest", "reject"] = "drop"
    """Hits of a pitch that is not in the drum map: drop and count them, read them as the nearest known pitch (the lower
    of two), or reject the file."""
    salvage: Literal["others", "all", "off"] = "others"
    """How damaged files are read. `others`: the undamaged part, if the damage cannot affect drum hits; `all`: the
    undamaged part in any case; `off`: they are rejected."""
    metres: tuple[Metre, ...] = ()
    """Other metres that are read as 4/4."""
    transpose: int = Field(default=0, ge=-96, le=96)
    """Semitones that each drum pitch is moved by, for a kit whose pitches are octaves too low or high."""

    @field_validator("channels", "metres", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | str) and value != "auto" else value

    @field_validator("salvage", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return "off" if value is False else value  # as YAML reads a plain `off`


def first_bars(text: str | None, files: int = 1) -> tuple[int | None, ...]:
    """The bars, counted from 0, that some files are used from, by the value of `--first-bar`.

    Args:
        text: one bar for all files or one for each, counted from 1; None is the first bar with hits of each.

    Raises:
        ConfigError: something else.
    """
    if text is None:
        return (None,) * files
    bars = [bar.strip() for bar in text.split(",")]
    if len(bars) not in (1, files) or not all(BAR.fullmatch(bar) for bar in bars):
        raise ConfigError(
            f"--first-bar {text} cannot be used",
            expected="a bar, counted from 1" + f"; or {files}, with commas between them" * (files > 1),
            found=repr(text),
            do="correct the command line",
        )
    return tuple(int(bar) - 1 for bar in bars) * (files // len(bars))
