"""The MIDI file that `--like` names -> the windows to vary, under the same rules as files that are trained on."""

from pathlib import Path

import numpy as np

from jobs.command.command_line import console
from musicvae.data.windows import WindowBlock
from musicvae.errors import ConfigError, DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
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
