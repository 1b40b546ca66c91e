"""The options of jobs.sample that decide what is made of a model, and which of them go together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from jobs.command.command_line import check_options
from musicvae.errors import ConfigError
from musicvae.model.precision import DecodingPrecision

PRECISIONS: tuple[DecodingPrecision, ...] = get_args(DecodingPrecision)
DEFAULT_BARS = 1
"""Of --continue."""
DEFAULT_STEPS = 9
"""Of --interpolate."""
STYLE = "style"
"""In place of a range of tempos: those of the style of --feel."""


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
