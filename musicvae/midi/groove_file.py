"""MIDI files, as everything reads them: their bytes on the grid, with a report of what was read and what was lost.

A build of shards (`preprocess.convert`) reads by its settings, a file that somebody names is read by their defaults.
The windows of such a file stand side by side from the first bar with hits on; those without a hit are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from musicvae.data.windows import OFFSET_UNITS, WindowBlock
from musicvae.durable import open_regular
from musicvae.errors import ConfigError, DataError, UserError
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import MAX_VELOCITY, DrumGroove
from musicvae.midi.parser import DEFAULT_READING, TooManyHitsError
from musicvae.midi.performance import Performance, played_otherwise, read_performances
from musicvae.midi.quantize import QuantizedSong, changes_of, quantize
from musicvae.midi.reading_report import (
    Hint,
    ReadingReport,
    UsedBars,
    as_argument,
    as_setting,
    channels_read,
    count_dropped_bars,
    named_metres,
    named_pitches,
    not_read_lines,
)
from musicvae.midi.settings import ReadingSettings
from musicvae.midi.tracks import MidiError, SmpteError
from musicvae.midi.writer import groove_to_midi
from musicvae.settings import parse_settings

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

Short = Literal["refuse", "silence", "repeat"]
"""What to do with a file that ends before the window does."""
MAX_BYTES, MAX_NOTES, MAX_BARS = 16 * 2**20, 200_000, 10_000
"""Of a file; what is larger is no drum performance."""
CAUSES = {
    "too-large": ("a recording of a whole concert, or no MIDI file", "cut the bars that you need out of the file"),
    "not-midi": ("another kind of file, or an incomplete copy", "export the drums as a standard MIDI file (.mid)"),
    "smpte": (
        "a file for film or video",
        "export the drums with ticks per quarter note, not with SMPTE time code",
    ),
    "no-drums": (
        "the drums are on another channel, or the file has none",
        "read their channel, if one is named above; or move them to channel 10, at their General MIDI pitches",
    ),
    "metre": (
        "music in another metre",
        "read it as 4/4, if a setting for that is named above; or use a file with bars in 4/4",
    ),
    "damaged": ("an incomplete copy", "export the drums again as a standard MIDI file (.mid)"),
    "too-short": (
        "a loop of less than a window",
        'repeat the groove in the file until it fills a window, or read it with short="repeat"',
    ),
    "no-such-bar": (
        "the window begins after the last hit, or in another metre",
        "choose one of the bars that are named above; without a choice the first bar with hits is used",
    ),
}
"""The likely cause and what to do about it, by the reason why a file cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class MidiReading:
    """A file that was read.

    Attributes:
        report: what was read and what was not; None if nothing was.
        performances: its pieces before any grid; none if it is no MIDI.
        songs: those with hits, on the grid, by name: the source's, and `source#n` for piece n of a format 2 file.
        dropped_bars: bars in no window, by `DroppedBars`.
        refused: why it gives no windows, as (reason, detail); None if it does.
    """

    report: ReadingReport | None = None
    performances: Sequence[Performance] = ()
    songs: Mapping[str, QuantizedSong] = field(default_factory=dict)
    dropped_bars: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, str] | None = None


def read_midi(
    data: bytes,
    grid: GridSpec,
    drum_map: DrumMap,
    *,
    source: str,
    reading: ReadingSettings = DEFAULT_READING,
    hop_bars: int | None = None,
    least_bars: int | None = None,
    tempo: float | None = None,
    pad_last_bar: bool = True,
    max_notes: int = MAX_NOTES,
    max_bars: int = MAX_BARS,
    hint: Hint = as_setting,
) -> MidiReading:
    """Reads and quantizes one MIDI file.

    Args:
        data: content of the file.
        source: name of the file.
        reading: which notes are hits, and what becomes of hits that the drum map does not know.
        hop_bars: bars from one window to the next; a window's, if not given.
        least_bars: bars in a row that it has to have; a window's, if not given.
        tempo: quarter notes per minute, if they are known better than from the file.
        pad_last_bar: see `quantize`.
        hint: how a setting of `reading` is written in the details of a refusal.
    """
    try:
        performances = read_performances(data, reading, max_hits=max_notes, tempo=tempo)
    except SmpteError as error:
        return MidiReading(refused=("smpte", str(error)))
    except MidiError as error:
        return MidiReading(refused=("not-midi", str(error)))
    except TooManyHitsError as error:
        return MidiReading(refused=("too-large", f"{error.hits} drum hits, more than limits.max_notes = {max_notes}"))
    numbered = list(enumerate(performances, start=1))
    if not numbered:
        return MidiReading(refused=("no-drums", "no hits, and no tracks"))
    songs = {
        source if len(performances) == 1 else f"{source}#{number}": quantize(
            performance,
            grid,
            drum_map,
            nearest_pitch=reading.unknown_pitch == "nearest",
            pad_last_bar=pad_last_bar,
        )
        for number, performance in [piece for piece in numbered if len(piece[1].tick)] or numbered[:1]
    }
    report = ReadingReport(list(songs.values()), drum_map)
    bars = sum(song.bar_counts.file for song in songs.values())
    longest = max((section.bars for song in songs.values() for section in song.sections), default=0)
    refused, dropped = None, {}
    if not report.hits:
        elsewhere = [*not_read_lines(report.findings, hint)] or ["the file has no notes at all"]
        refused = "no-drums", "; ".join([f"no hits on {channels_read(reading)}", *elsewhere])
    elif reading.unknown_pitch == "reject" and report.unknown:
        refused = "unknown-pitch", _unknown(report)
    elif not bars:
        elsewhere = not_read_lines(report.findings, hint)
        refused = "no-drums", "; ".join([f"{_unknown(report)}, no other hits", *elsewhere])
    elif bars > max_bars:
        refused = "too-large", f"{bars} bars, more than limits.max_bars = {max_bars}"
    else:
        dropped = count_dropped_bars(songs.values(), grid.bars, hop_bars or grid.bars)
        if not longest and report.other_metres:
            refused = "metre", named_metres(report.other_metres, hint)
        elif longest < (grid.bars if least_bars is None else least_bars):
            refused = "too-short", f"{longest} bars, a window has {grid.bars}"
    return MidiReading(report, performances, songs, dropped, refused)


def read_windows(
    path: Path,
    grid: GridSpec,
    drum_map: DrumMap,
    short: Short = "repeat",
    *,
    bar: int | None = None,
    first_only: bool = False,
    source: str | None = None,
    data: bytes | None = None,
    reading: ReadingSettings = DEFAULT_READING,
    hint: Hint = as_setting,
) -> tuple[WindowBlock, ReadingReport]:
    """The windows of a file that somebody names, one at least, and what was read of it.

    Args:
        short: what to do with a file of fewer bars than a window has.
        bar: where the only window begins, counted from 0; if not given, windows stand side by side from the first bar
            with hits on, and those without a hit are left out.
        first_only: whether only the first window is wanted.
        source: name that the windows carry; that of the file if not given.
        data: content of the file, where the path is only a name.
        reading, hint: as for `read_midi`.

    Raises:
        ConfigError: the file cannot be read.
        DataError: it is no MIDI file, has no drums, or too few bars in the grid's metre.
    """
    read = read_midi(
        _content(path, grid) if data is None else data,
        grid,
        drum_map,
        source=source or path.name,
        reading=reading,
        least_bars=None if short == "refuse" else 1,
        hint=hint,
    )
    _check_use(read, path, grid)
    return _windows(read, path, grid, short, bar=bar, first_only=first_only)


@dataclass(frozen=True, slots=True, eq=False)
class WholeFile:
    """A file of any length, all of whose bars in the grid's metre are used.

    Attributes:
        name: what its windows carry.
        data: its content.
        songs: its pieces with hits.
        report: what was read of it.
    """

    name: str
    data: bytes
    drum_map: DrumMap
    reading: ReadingSettings
    songs: Sequence[QuantizedSong]
    report: ReadingReport

    @classmethod
    def read(
        cls,
        path: Path,
        grid: GridSpec,
        drum_map: DrumMap,
        *,
        source: str | None = None,
        reading: ReadingSettings = DEFAULT_READING,
        hint: Hint = as_setting,
        data: bytes | None = None,
    ) -> "WholeFile":
        """Reads a file; arguments as for `read_windows`.

        Raises:
            ConfigError: the file cannot be read.
            DataError: it is no MIDI file, is damaged, or has no drums in the grid's metre.
        """
        name, data = source or path.name, _content(path, grid) if data is None else data
        read = read_midi(data, grid, drum_map, source=name, reading=reading, least_bars=1, hint=hint)
        _check_use(read, path, grid)
        assert read.report is not None, "a file that can be used"
        if damage := read.report.findings.salvaged:
            raise unusable(path, grid, "damaged", damage[0])
        return cls(name, data, drum_map, reading, list(read.songs.values()), read.report)

    def again(self, data: bytes) -> "WholeFile":
        """Other content, read as this was.

        Raises:
            DataError: it cannot be used.
        """
        return WholeFile.read(Path(self.name), self.songs[0].grid, self.drum_map, reading=self.reading, data=data)

    def first_window(self) -> WindowBlock:
        """The first window with hits, as `read_windows` gives it."""
        song = next(song for song in self.songs if len(song.step))
        read = MidiReading(self.report, songs={self.name: song})
        return _windows(read, Path(self.name), song.grid, "repeat", bar=None, first_only=True)[0]

    def groove(self) -> DrumGroove:
        """All bars of the first piece, one after the other, at its first tempo; hits of other metres are left out."""
        song = next(song for song in self.songs if len(song.step))
        return _groove(song, 0, song.bars, self.name)

    def played_by(self, play: Callable[[DrumGroove, Sequence[float], int], DrumGroove]) -> bytes:
        """The file with its hits played otherwise; all else in it stays as it is.

        Args:
            play: from bars in a row, the tempo of each and the number of the first, to the same hits as played.
        """
        changes: dict[int, tuple[int, int]] = {}
        for song in self.songs:
            played = []
            for section in song.sections:
                given = _groove(song, section.before, section.bars, self.name)
                a_bar = song.grid.beats_per_bar * song.performance.ticks_per_quarter
                tempos = song.performance.tempo_at(section.start + np.arange(section.bars) * a_bar)
                played.append(play(given, tempos.tolist(), section.before))
            cells = song.step, song.drum
            velocity, offset = (
                np.concatenate([getattr(groove, name) for groove in played])[cells] for name in ("velocity", "offset")
            )
            nearest = self.reading.unknown_pitch == "nearest"
            loudness = np.rint(velocity * MAX_VELOCITY).astype(np.int64)
            changes |= changes_of(song, self.drum_map, loudness, offset, nearest_pitch=nearest)
        return played_otherwise(self.data, changes)


def _groove(song: QuantizedSong, first_bar: int, bars: int, source: str) -> DrumGroove:
    """Bars of a song on the grid, at the tempo of the section that they begin in."""
    grid = replace(song.grid, bars=bars)
    first = first_bar * grid.steps_per_bar
    inside = (song.step >= first) & (song.step < first + grid.num_steps)
    cells = song.step[inside] - first, song.drum[inside]
    velocity, offset = (np.zeros((grid.num_steps, song.num_drums), dtype=np.float32) for _ in range(2))
    velocity[cells], offset[cells] = song.velocity[inside] / MAX_VELOCITY, song.offset[inside] / OFFSET_UNITS
    start = [section.start for section in song.sections if section.before <= first_bar][-1]
    tempo = float(song.performance.tempo_at(np.array([start]))[0])
    return DrumGroove(grid, velocity > 0, velocity, offset, tempo, source)


def _check_use(read: MidiReading, path: Path, grid: GridSpec) -> None:
    """Refuses a file that gives no windows."""
    if read.refused is not None:
        raise unusable(path, grid, *read.refused)
    assert read.report is not None, "a file that can be used"
    if not read.report.kept:
        raise unusable(path, grid, "metre", f"no hit is in a whole bar in {grid.beats_per_bar}/4")


def read_groove(
    path: Path,
    drum_map: DrumMap,
    grid: GridSpec,
    bar: int | None,
    short: Short,
    reading: Mapping[str, Any] | None,
    *,
    data: bytes | None = None,
) -> DrumGroove:
    """The window of a file that begins at a bar; see `DrumGroove.from_midi`."""
    settings = parse_settings(ReadingSettings, dict(reading or {}))
    windows, report = read_windows(
        path, grid, drum_map, short, bar=bar, first_only=True, data=data, reading=settings, hint=as_argument
    )
    return replace(windows.groove(0, grid), reading_report=report.text(path, as_argument))


def pretty_midi_of(groove: DrumGroove, drum_map: DrumMap) -> "PrettyMIDI":
    """What pretty_midi reads of a groove's file; see `DrumGroove.to_pretty_midi`."""
    try:
        from pretty_midi import PrettyMIDI
    except ImportError:
        raise ConfigError(
            "pretty_midi is not installed",
            expected="the package with the class PrettyMIDI",
            do="pip install pretty_midi",
        ) from None
    return PrettyMIDI(BytesIO(groove_to_midi(groove, drum_map)))


def unusable(path: Path, grid: GridSpec, reason: str, detail: str) -> DataError:
    """What to say of a file that gives no windows."""
    likely, cure = CAUSES.get(reason, ("a file of another kind", "choose another file"))
    return DataError(
        f"{path} has no usable groove",
        expected=f"a MIDI file with drums in {grid.beats_per_bar}/4",
        found=f"{reason}: {detail}",
        likely=likely,
        do=cure,
    )


def _content(path: Path, grid: GridSpec) -> bytes:
    try:
        with open_regular(path) as file:
            if (size := path.stat().st_size) > MAX_BYTES:
                raise unusable(path, grid, "too-large", f"{size} bytes, more than limits.max_bytes = {MAX_BYTES}")
            return file.read(MAX_BYTES)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read {path}", expected="a MIDI file", found=reason, do="correct the path") from None


def _windows(
    read: MidiReading, path: Path, grid: GridSpec, short: Short, *, bar: int | None, first_only: bool
) -> tuple[WindowBlock, ReadingReport]:
    """The windows of a named file, or the one that begins at a bar, and the report with the bars that are used."""
    assert read.report is not None, "a file that can be used"
    if bar is None:
        blocks = [song.windows(grid.bars, from_bar=song.first_window, source=name) for name, song in read.songs.items()]
        windows = WindowBlock.joined(blocks)
        windows = windows.take(np.flatnonzero(windows.tokens.any(axis=1))[: 1 if first_only else None])
        if len(windows):
            return windows, replace(read.report, used=UsedBars(windows.meta[0].bar, grid.bars, len(windows)))
    name, song = next((name, song) for name, song in read.songs.items() if len(song.step))
    bar = song.first_window if bar is None else bar
    left = max(
        (section.first_bar + section.bars - bar for section in song.sections if section.first_bar <= bar), default=0
    )
    if left < (grid.bars if short == "refuse" else 1):
        bars = ", ".join(f"{section.first_bar + 1} to {section.first_bar + section.bars}" for section in song.sections)
        detail = f"the window begins at bar {bar + 1}; the file has bars {bars} (counted from 1)"
        raise unusable(path, grid, "too-short" if left > 0 else "no-such-bar", detail)
    part = replace(grid, bars=min(left, grid.bars))
    windows = replace(song, grid=part).windows(from_bar=bar, source=name)[:1]
    extended = _extended(windows, grid, repeat=short == "repeat")
    return extended, replace(read.report, used=UsedBars(bar, part.bars))


def _extended(windows: WindowBlock, grid: GridSpec, *, repeat: bool) -> WindowBlock:
    """Windows of fewer bars on the grid: played again from their start, or followed by silence."""

    def to_length(values: np.ndarray) -> np.ndarray:
        steps, others = values.shape[1], [(0, 0)] * (values.ndim - 2)
        if repeat:
            return np.concatenate([values] * -(-grid.num_steps // steps), axis=1)[:, : grid.num_steps]
        return np.pad(values, [(0, 0), (0, grid.num_steps - steps), *others])

    tokens, velocity, offset = map(to_length, (windows.tokens, windows.velocity, windows.offset))
    return WindowBlock(tokens, velocity, offset, windows.meta)


def _unknown(report: ReadingReport) -> str:
    return f"drum map {report.drum_map.name!r} does not know {named_pitches(report.unknown)}"
