"""One groove from a MIDI file, or from a `PrettyMIDI` object, by the same rules; and such an object of a groove."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from musicvae.errors import ConfigError, DataError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove
from musicvae.midi.parser import MidiError, TooManyHitsError
from musicvae.midi.performance import read_performance
from musicvae.midi.quantize import QuantizedSong, quantize
from musicvae.midi.writer import groove_to_midi

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

Short = Literal["refuse", "silence", "repeat"]
"""What to do with a file that ends before the window does."""
MAX_BYTES = 16 * 2**20
MAX_BARS = 10_000
"""Five hours at 120 quarter notes a minute; what is longer is damaged."""


def read_groove(path: Path, drum_map: DrumMap, grid: GridSpec, bar: int, short: Short) -> DrumGroove:
    """The window of a file that begins at a bar; see `DrumGroove.from_midi`."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _refused(path, grid, f"{size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}", expected="a MIDI file", found=error.strerror or str(error), do="check the path"
        ) from None
    return _groove(data, path, drum_map, grid, bar, short)


def groove_of_pretty_midi(midi: "PrettyMIDI", drum_map: DrumMap, grid: GridSpec, bar: int, short: Short) -> DrumGroove:
    """The window of an object that begins at a bar; see `DrumGroove.from_pretty_midi`."""
    data = BytesIO()
    midi.write(data)
    return _groove(data.getvalue(), Path("a PrettyMIDI object"), drum_map, grid, bar, short)


def pretty_midi_of(groove: DrumGroove, drum_map: DrumMap) -> "PrettyMIDI":
    """What pretty_midi reads of a groove's file; see `DrumGroove.to_pretty_midi`."""
    try:
        from pretty_midi import PrettyMIDI
    except ImportError:
        raise ConfigError(
            "pretty_midi is not installed",
            expected="the package that holds the class PrettyMIDI",
            do="pip install pretty_midi",
        ) from None
    return PrettyMIDI(BytesIO(groove_to_midi(groove, drum_map)))


def _groove(data: bytes, path: Path, drum_map: DrumMap, grid: GridSpec, bar: int, short: Short) -> DrumGroove:
    try:
        song = quantize(read_performance(data), grid, drum_map)
    except (MidiError, TooManyHitsError) as error:
        raise _refused(path, grid, str(error)) from None
    if song.bars > MAX_BARS:
        raise _refused(path, grid, f"{song.bars} bars")
    left = max((one.first_bar + one.bars - bar for one in song.stretches if one.first_bar <= bar), default=0)
    if left < (grid.bars if short == "refuse" else 1):
        bars = ", ".join(f"{one.bars} from bar {one.first_bar} on" for one in song.stretches)
        found = f"bars with hits in {grid.beats_per_bar}/4: {bars or 'none'}; the window begins at bar {bar}"
        raise _refused(path, grid, found)
    return _extended(_window(song, path, bar, min(left, grid.bars)), grid, repeat=short == "repeat")


def _window(song: QuantizedSong, path: Path, bar: int, bars: int) -> DrumGroove:
    grid = replace(song.grid, bars=bars)
    windows = replace(song, grid=grid).windows(source=path.name)
    return windows.groove([meta.bar for meta in windows.meta].index(bar), grid)


def _extended(groove: DrumGroove, grid: GridSpec, *, repeat: bool) -> DrumGroove:
    """A groove of fewer bars on the grid: played again from its start, or followed by silence."""

    def to_length(values: np.ndarray) -> np.ndarray:
        if repeat:
            return np.tile(values, (-(-grid.num_steps // len(values)), 1))[: grid.num_steps]
        return np.pad(values, ((0, grid.num_steps - len(values)), (0, 0)))

    hits, velocity, offset = map(to_length, (groove.hits, groove.velocity, groove.offset))
    return replace(groove, grid=grid, hits=hits, velocity=velocity, offset=offset)


def _refused(path: Path, grid: GridSpec, found: str) -> DataError:
    return DataError(
        f"{path} holds no such groove",
        expected=f"a MIDI file in {grid.beats_per_bar}/4 with {grid.bars} bars of drums on channel 10 from there on",
        found=found,
        likely="a loop shorter than the window, another metre, or drums on another channel",
        do='for a short loop short="repeat"; else name a bar that enough bars follow, or another file',
    )
