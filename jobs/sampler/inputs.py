"""The MIDI files that options of `jobs.sample` name, and the constraints that options describe.

The file of `--like` is read under the same rules as files that are trained on.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.command.command_line import console
from jobs.sampler.options import DEFAULT_BARS, Modes, numbers, span
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError, DataError
from musicvae.generation.constraints import GivenHits, Steering, WholeGroove, first_bars
from musicvae.groove.drum_map import DrumMap, drum_bits
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.pretrained.model import TrainedModel
from preprocess.convert import convert
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings, WindowSettings

MIDI_SUFFIXES = (".mid", ".midi")
CURES = {
    Reason.TOO_LARGE: "cut the bars that are meant out of it",
    Reason.NOT_MIDI: "export the drums as a standard MIDI file (.mid)",
    Reason.SMPTE: "export the drums with ticks of a quarter note, not with time code",
    Reason.NO_DRUMS: "move the drums to channel 10, which MIDI keeps for them, at their General MIDI pitches",
    Reason.METRE: "take a file with bars in 4/4: the model knows no other metre",
    Reason.TOO_SHORT: "repeat the groove in the file until it fills a window, without a change of metre",
}


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


def windows_of(path: Path, grid: GridSpec, drum_map: DrumMap) -> WindowBlock:
    """The windows of a file, or of all MIDI files in a folder and below it, in the order of their paths.

    Files of a folder that cannot be used are left out, and counted on the terminal.

    Raises:
        ConfigError: a file that cannot be read, or a folder without MIDI files.
        DataError: a file, or every file of the folder, that cannot be used.
    """
    if not path.is_dir():
        return windows_of_file(path, grid, drum_map)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in MIDI_SUFFIXES)
    if not files:
        raise ConfigError(
            f"there are no MIDI files in {path}",
            expected=f"files named {' or '.join(f'*{suffix}' for suffix in MIDI_SUFFIXES)}",
            found="none",
            do="name another folder, or a file",
        )
    blocks, refused = [], []
    for file in files:
        try:
            blocks.append(windows_of_file(file, grid, drum_map, source=file.relative_to(path).as_posix()))
        except DataError as error:
            refused.append(error)
    if not blocks:
        raise refused[0]
    if refused:
        console.print(f"{len(refused)} of {len(files)} files are left out; the first: {refused[0]}", soft_wrap=True)
    return WindowBlock.joined(blocks)


def windows_of_file(path: Path, grid: GridSpec, drum_map: DrumMap, *, source: str | None = None) -> WindowBlock:
    """The windows of a file one after the other, without overlap; those without a hit are left out.

    Raises:
        ConfigError: the file cannot be read.
        DataError: it is no MIDI file, has no drums, or no stretch in 4/4 as long as a window.
    """
    settings = BuildSettings(
        window=WindowSettings(bars=grid.bars, hop_bars=grid.bars, steps_per_beat=grid.steps_per_beat)
    )
    try:
        size, data = path.stat().st_size, b""
        if size <= settings.limits.max_bytes:
            data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}",
            expected="a MIDI file for --like",
            found=error.strerror or str(error),
            do="check the path",
        ) from None
    if size > settings.limits.max_bytes:
        raise _refused(path, grid, Rejection(path.name, Reason.TOO_LARGE, f"{size} bytes"))
    result = convert(data, settings, drum_map, source=source or path.name).result
    if isinstance(result, Rejection):
        raise _refused(path, grid, result)
    return result.take(np.flatnonzero(result.tokens.any(axis=1)))


def _refused(path: Path, grid: GridSpec, rejection: Rejection) -> DataError:
    return DataError(
        f"{path} cannot be varied",
        expected=f"a MIDI file in {grid.beats_per_bar}/4 with at least {grid.bars} bars of drums on channel 10",
        found=f"{rejection.reason}: {rejection.detail}",
        likely="another kind of file than was meant",
        do=CURES.get(rejection.reason, "name another file"),
    )
