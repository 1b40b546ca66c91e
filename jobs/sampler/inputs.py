"""The MIDI files that options of `jobs.sample` name, and the constraints that options describe."""

import math
import shlex
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np

from jobs.command.command_line import console, option_error
from jobs.sampler.settings import DEFAULT_BARS, SampleSettings, reading_of
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError, DataError
from musicvae.generation.constraints import GrooveConstraint, HitMask, ReachabilityGuide, first_bars
from musicvae.groove.drum_map import DrumMap, drum_bits
from musicvae.groove.grid import GridSpec
from musicvae.groove.played import PlayedHits, manner_of
from musicvae.midi.groove_file import DEFAULT_READING, WholeFile, read_windows
from musicvae.midi.reading_report import ReadingReport, as_option
from musicvae.midi.settings import ReadingSettings
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.performer import shipped_performer

MIDI_SUFFIXES = (".mid", ".midi")
T = TypeVar("T")


def constraints(
    options: SampleSettings, source: WindowBlock | None, trained: TrainedModel
) -> tuple[HitMask | None, GrooveConstraint | None]:
    """What the options constrain; None where they do not.

    Args:
        source: the window that bars or drums are kept from.

    Raises:
        ConfigError: unknown drums, bars that the window does not have, or constraints that no groove can keep.
    """
    forbidden, must_have = (drum_bits(_names(names), trained.drum_map) for names in (options.forbid, options.must_have))
    constraint = _groove_constraint(options, must_have, trained) if must_have or options.density is not None else None
    if source is None and not forbidden and constraint is None:
        return None, None
    hit_mask = HitMask.nothing(trained.grid.num_steps) if source is None else _hit_mask(options, source, trained)
    try:
        hit_mask = hit_mask.without(forbidden)
        if constraint is not None:
            ReachabilityGuide(constraint, hit_mask, range(1), trained.drum_map.num_drums)
    except ValueError as error:
        raise ConfigError(
            "no groove can meet all constraints",
            expected="--keep, --keep-bars, --forbid, --must-have and --density that do not contradict each other",
            found=str(error),
            do="keep or forbid fewer drums, or widen the range of --density",
        ) from None
    return hit_mask, constraint


def _hit_mask(options: SampleSettings, source: WindowBlock, trained: TrainedModel) -> HitMask:
    tokens, grid = source.tokens, trained.grid
    if options.continued is not None:
        bars = DEFAULT_BARS if options.bars is None else options.bars
        if not 0 < bars < grid.bars:
            expected = f"1 to {grid.bars - 1}, as the model makes at least one bar"
            raise option_error("--bars", bars, expected, do="keep fewer bars")
        return first_bars(tokens, bars, grid)
    bars = [] if options.keep_bars is None else numbers("--keep-bars", options.keep_bars)
    if not set(bars) <= set(range(1, grid.bars + 1)):
        raise option_error("--keep-bars", options.keep_bars, f"bars from 1 to {grid.bars}, separated by commas")
    bar_of = 1 + np.arange(grid.num_steps) // grid.steps_per_bar
    return HitMask.kept(tokens, drum_bits(_names(options.keep), trained.drum_map), np.isin(bar_of, bars))


def _groove_constraint(options: SampleSettings, must_have: int, trained: TrainedModel) -> GrooveConstraint:
    if options.density is None:
        return GrooveConstraint(must_have)
    least, most = span("--density", options.density)
    fewest, greatest = math.ceil(least * trained.grid.bars), math.floor(most * trained.grid.bars)
    if not 0 <= fewest <= greatest:
        expected = f"LEAST:MOST hits per bar that a groove of {trained.grid.bars} bars can have"
        raise option_error("--density", options.density, expected, do="widen the range")
    return GrooveConstraint(must_have, fewest, greatest)


def _names(text: str | None) -> Sequence[str]:
    return [] if text is None else [name.strip() for name in text.split(",")]


def window_of(
    path: Path, grid: GridSpec, drum_map: DrumMap, reading: ReadingSettings = DEFAULT_READING, bar: int | None = None
) -> WindowBlock:
    """The window of a file that begins at a bar, counted from 0, or the first one; see `windows_of`."""
    return _shown(path, *read_windows(path, grid, drum_map, bar=bar, first_only=True, reading=reading, hint=as_option))


def windows_of(
    path: Path, grid: GridSpec, drum_map: DrumMap, reading: ReadingSettings = DEFAULT_READING, bar: int | None = None
) -> WindowBlock:
    """The windows of a file, or of all MIDI files in a folder and below it, in the order of their paths.

    What was read of a file is shown on the terminal. Files of a folder that cannot be used are left out, and counted.

    Args:
        bar: of a file, where the only window begins, counted from 0.

    Raises:
        ConfigError: a file that cannot be read, or a folder without MIDI files.
        DataError: a file, or every file of the folder, that cannot be used.
    """
    if not path.is_dir():
        return _shown(path, *read_windows(path, grid, drum_map, bar=bar, reading=reading, hint=as_option))

    def read(file: Path, name: str) -> WindowBlock:
        return read_windows(file, grid, drum_map, source=name, reading=reading, hint=as_option)[0]

    blocks = _of_folder(path, read)
    windows = WindowBlock.joined(blocks)
    used = f"{len(windows):,} windows of {len(blocks):,} files are used"
    console.print(f"{used}; what was read of them: python -m jobs.show {shlex.quote(str(path))}", soft_wrap=True)
    return windows


@lru_cache(maxsize=1)
def files_of(path: Path, reading: tuple[str, ...] = ()) -> tuple[WholeFile, ...]:
    """A file that is to be humanized, or all MIDI files in a folder and below it, as `windows_of` finds them.

    Args:
        reading: how they are read, as --reading has it.

    Raises:
        ConfigError: a file that cannot be read, or a folder without MIDI files.
        DataError: a file, or every file of the folder, that cannot be used.
    """
    performer, settings = shipped_performer(), reading_of(reading)

    def read(file: Path, name: str) -> WholeFile:
        grid, drum_map = performer.grid, performer.drum_map
        return WholeFile.read(file, grid, drum_map, source=name, reading=settings, hint=as_option)

    if path.is_dir():
        files = _of_folder(path, read)
        console.print(f"{len(files):,} files are used", soft_wrap=True)
    else:
        files = [read(path, path.name)]
        console.print(files[0].report.text(path, as_option), soft_wrap=True)
    return tuple(files)


def player_of(
    path: Path, grid: GridSpec, drum_map: DrumMap, reading: ReadingSettings = DEFAULT_READING
) -> tuple[float, ...]:
    """The figures of `MANNER` of the performance in a file: the means over its windows.

    Raises:
        ConfigError: the file cannot be read.
        DataError: it cannot be used.
    """
    file = WholeFile.read(path, grid, drum_map, reading=reading, hint=as_option)
    console.print(file.report.text(path, as_option), soft_wrap=True)
    return tuple(manner_of(PlayedHits.of(file.groove()), grid.num_steps).tolist())


def _of_folder(folder: Path, read: Callable[[Path, str], T]) -> list[T]:
    """What each MIDI file in a folder and below it gives, at least one; those that cannot be used are left out."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in MIDI_SUFFIXES)
    if not files:
        raise ConfigError(
            f"there are no MIDI files in {folder}",
            expected=f"files named {' or '.join(f'*{suffix}' for suffix in MIDI_SUFFIXES)}",
            found="none",
            do="choose another folder, or a file",
        )
    used, refused = [], []
    for file in files:
        try:
            used.append(read(file, file.relative_to(folder).as_posix()))
        except DataError as error:
            refused.append(error)
    if not used:
        raise refused[0]
    if refused:
        console.print(f"{len(refused)} of {len(files)} files are skipped; the first: {refused[0]}", soft_wrap=True)
    return used


def _shown(path: Path, windows: WindowBlock, report: ReadingReport) -> WindowBlock:
    console.print(report.text(path, as_option), soft_wrap=True)
    return windows


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
        raise option_error(option, text, f"finite numbers with {separator!r} between them") from None
    return values


def span(option: str, text: str) -> tuple[float, float]:
    """Both ends of a range such as `6:10`; one number is both.

    Raises:
        ConfigError: something else, or a range whose end comes before its start.
    """
    ends = numbers(option, text, separator=":")
    if len(ends) > 2 or ends[-1] < ends[0]:
        raise option_error(option, text, "LEAST:MOST")
    return ends[0], ends[-1]


def amounts(moves: tuple[str, ...]) -> dict[str, float]:
    """Amounts of attributes by name, from `NAME=AMOUNT`; of a name that comes twice both count.

    Raises:
        ConfigError: something else.
    """
    totals: dict[str, float] = {}
    for move in moves:
        name, _, amount = move.partition("=")
        totals[name] = totals.get(name, 0.0) + sum(numbers("--move", amount))
    return totals
