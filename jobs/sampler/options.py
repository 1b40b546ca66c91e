"""The options of `jobs.sample` that decide what is made, and which of them can be used together."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

from jobs.command.command_line import check_options
from musicvae.errors import ConfigError
from musicvae.midi.settings import MAX_TICKS, MIN_TICKS, TICKS_PER_QUARTER
from musicvae.model.settings import DecodingPrecision

PRECISIONS: tuple[DecodingPrecision, ...] = get_args(DecodingPrecision)
PICKED = re.compile(r"groove-([0-9]{5,15})", re.ASCII)
DEFAULT_BARS = 1
"""Of --continue."""
DEFAULT_STEPS = 9
"""Of --interpolate."""
STYLE = "style"
"""In place of a range of tempos: those of the style of --feel."""
REFILL_LIMIT = 20
"""Times the count that --refill makes at most: a model that hardly makes anything new is told, not waited for."""
RANKED = ("hits_per_bar", "syncopation", "log_likelihood", "nearest_training")
"""Figures that `--best` can go by."""


@dataclass(frozen=True, slots=True)
class Modes:
    """As they are written on the command line, with absolute paths; None is an option that is not given.

    Attributes:
        start, end, steps: `--interpolate START END --steps N`.
        move: `--move NAME=AMOUNT`, all of them.
        continued, bars: `--continue FILE --bars N`.
        source, keep, keep_bars: `--from FILE --keep DRUMS --keep-bars NUMBERS`.

    Raises:
        ConfigError: a value that cannot be used, or options that exclude or need each other.
    """

    start: str | None = None
    end: str | None = None
    steps: int | None = None
    move: tuple[str, ...] = ()
    continued: str | None = None
    bars: int | None = None
    source: str | None = None
    keep: str | None = None
    keep_bars: str | None = None
    must_have: str | None = None
    forbid: str | None = None
    density: str | None = None
    bar_temperature: str | None = None
    top_p: float | None = None
    tempo_range: str | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.continued and self.source:
            raise ConfigError("--continue and --from exclude each other", do="--from FILE --keep-bars 1 continues too")
        kept = self.keep is not None or self.keep_bars is not None
        check_options(
            ("--steps", self.steps, self.steps is None or self.steps >= 2, "2 or more: both ends belong to it"),
            ("--steps", self.steps, self.steps is None or self.start, "--interpolate A B beside it"),
            ("--bars", self.bars, self.bars is None or self.continued, "--continue FILE beside it"),
            ("--keep", self.keep, self.keep is None or self.source, "--from FILE beside it"),
            ("--keep-bars", self.keep_bars, self.keep_bars is None or self.source, "--from FILE beside it"),
            ("--from", self.source, self.source is None or kept, "--keep or --keep-bars beside it"),
            ("--top-p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "above 0, up to 1"),
            ("--precision", self.precision, self.precision in (None, *PRECISIONS), " or ".join(PRECISIONS)),
        )

    @property
    def least_count(self) -> int:
        """Grooves that belong together, if no number of them is asked for.

        Raises:
            ConfigError: any number would do.
        """
        if self.start is None:
            raise ConfigError("--count is missing", expected="how many grooves", do="add --count N")
        return self.steps or DEFAULT_STEPS

    def decoding_precision(self, otherwise: DecodingPrecision) -> DecodingPrecision:
        """The precision that is asked for, if any is."""
        match self.precision:
            case "float32" | "bfloat16" as asked:
                return asked
            case _:
                return otherwise

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Modes":
        """What `dataclasses.asdict` gave, through JSON or not.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        return cls(**{**values, "move": tuple(values["move"])})


def numbers(option: str, text: str, *, separator: str = ",") -> list[float]:
    """Numbers of an option, such as `0.8,1,1.2`.

    Raises:
        ConfigError: something else.
    """
    try:
        values = [float(part) for part in text.split(separator)]
        if not all(map(math.isfinite, values)):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{option} {text} cannot be used",
            expected=f"finite numbers with {separator!r} between them",
            found=repr(text),
            do="correct the command line",
        ) from None
    return values


def span(option: str, text: str) -> tuple[float, float]:
    """Both ends of a range such as `6:10`; one number is both.

    Raises:
        ConfigError: something else, or a range whose end comes before its start.
    """
    ends = numbers(option, text, separator=":")
    if len(ends) > 2 or ends[-1] < ends[0]:
        raise ConfigError(
            f"{option} {text} cannot be used", expected="LEAST:MOST", found=repr(text), do="correct the command line"
        )
    return ends[0], ends[-1]


def amounts(moves: tuple[str, ...]) -> dict[str, float]:
    """Amounts of attributes by name, from `NAME=AMOUNT`; of a name that comes twice both count.

    Raises:
        ConfigError: something else.
    """
    found: dict[str, float] = {}
    for move in moves:
        name, _, amount = move.partition("=")
        found[name] = found.get(name, 0.0) + sum(numbers("--move", amount))
    return found


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


def read_pick(path: Path) -> list[int]:
    """The numbers of the items that a list names, in its order. An id that occurs again counts once.

    Raises:
        ConfigError: the list cannot be read, names nothing, or has a line that is no id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else "a file that is no text"
        raise _refused(path, f"{found}", "give the list that a gallery saved") from None
    picked: dict[int, None] = {}
    for number, line in enumerate(lines, start=1):
        if not (text := line.strip()):
            continue
        if not (match := PICKED.fullmatch(text)):
            raise _refused(path, f"{_short(text)} in line {number}", "take the line out, or give the list of a gallery")
        picked[int(match[1])] = None
    if not picked:
        raise _refused(path, "no ids", "mark favourites in a gallery and save the list")
    return list(picked)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _refused(path: Path, found: str, do: str) -> ConfigError:
    expected = "text with one id a line, as groove-00012"
    return ConfigError(f"--pick {path} cannot be used", expected=expected, found=found, do=do)
