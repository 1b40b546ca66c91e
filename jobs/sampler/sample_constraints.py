"""From options to constraints: what is given of a file, what must and must not occur, how dense a groove is."""

import math
from collections.abc import Sequence

import numpy as np

from jobs.sampler.sample_modes import DEFAULT_BARS, Modes, numbers, span
from musicvae.errors import ConfigError
from musicvae.generation.constraints import GivenHits, Steering, WholeGroove, first_bars
from musicvae.groove.drum_map import drum_bits
from musicvae.groove.groove import DrumGroove
from musicvae.pretrained.model import TrainedModel


def constraints(
    modes: Modes, source: DrumGroove | None, trained: TrainedModel
) -> tuple[GivenHits | None, WholeGroove | None]:
    """What the options constrain; None where they do not.

    Args:
        source: the groove that bars or drums are kept from.

    Raises:
        ConfigError: unknown drums, bars that the window does not have, or constraints that no groove can keep.
    """
    forbidden, must_have = (drum_bits(_names(names), trained.drum_map) for names in (modes.forbid, modes.must_have))
    whole = _whole(modes, must_have, trained) if must_have or modes.density is not None else None
    if source is None and not forbidden and whole is None:
        return None, None
    given = GivenHits.nothing(trained.grid.num_steps) if source is None else _kept(modes, source, trained)
    try:
        given = given.without(forbidden)
        if whole is not None:
            Steering(whole, given, range(1), trained.drum_map.num_drums)
    except ValueError as error:
        raise ConfigError(
            "no groove can keep all constraints",
            expected="--keep, --keep-bars, --forbid, --must-have and --density that go together",
            found=str(error),
            do="keep or forbid fewer drums, or widen the density",
        ) from None
    return given, whole


def _kept(modes: Modes, source: DrumGroove, trained: TrainedModel) -> GivenHits:
    tokens, grid = source.tokens[None], trained.grid
    if modes.continued is not None:
        bars = DEFAULT_BARS if modes.bars is None else modes.bars
        if not 0 < bars < grid.bars:
            raise ConfigError(
                f"--bars {bars} cannot be used",
                expected=f"1 to {grid.bars - 1}: at least one bar is the model's",
                found=str(bars),
                do="keep fewer bars",
            )
        return first_bars(tokens, bars, grid)
    bars = [] if modes.keep_bars is None else numbers("--keep-bars", modes.keep_bars)
    if not set(bars) <= set(range(1, grid.bars + 1)):
        raise ConfigError(
            f"--keep-bars {modes.keep_bars} cannot be used",
            expected=f"bars 1 to {grid.bars}, with commas between them",
            found=repr(modes.keep_bars),
            do="correct the command line",
        )
    bar_of = 1 + np.arange(grid.num_steps) // grid.steps_per_bar
    return GivenHits.kept(tokens, drum_bits(_names(modes.keep), trained.drum_map), np.isin(bar_of, bars))


def _whole(modes: Modes, must_have: int, trained: TrainedModel) -> WholeGroove:
    if modes.density is None:
        return WholeGroove(must_have)
    least, most = span("--density", modes.density)
    fewest, greatest = math.ceil(least * trained.grid.bars), math.floor(most * trained.grid.bars)
    if not 0 <= fewest <= greatest:
        raise ConfigError(
            f"--density {modes.density} cannot be used",
            expected=f"LEAST:MOST hits a bar that a groove of {trained.grid.bars} bars can have",
            found=repr(modes.density),
            do="widen the range",
        )
    return WholeGroove(must_have, fewest, greatest)


def _names(text: str | None) -> Sequence[str]:
    return [] if text is None else [name.strip() for name in text.split(",")]
