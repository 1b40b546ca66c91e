"""One MIDI file -> its windows, or the reason why it gives none. Pure: bytes in, values out.

Filters leave out windows that are not wanted, and count them by the filter that did it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from jaxtyping import Bool

from musicvae.data.windows import WindowBlock
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.midi.parser import MidiError, SmpteError, TooManyHitsError
from musicvae.midi.performance import DEFAULT_METRE, Performance, read_performances
from musicvae.midi.quantize import QuantizedSong, quantize
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings, FilterSettings, ReadingSettings, WindowSettings

METRES_NAMED = 5
"""How many of a file's metres a detail names."""


class DroppedBars(StrEnum):
    """Why bars of a file stand in no window. Silent bars after the last hit of a stretch are not counted."""

    METRE = "other metre"
    PARTIAL = "cut by a change of metre"
    UNFINISHED = "cut by the end of the file"
    SHORT = "stretch shorter than a window"
    HOP = "between or after the hops"


@dataclass(frozen=True, slots=True)
class FileCounts:
    """What became of the drum hits and bars of one file, as far as it was read.

    `hits` is the sum of `doubled`, `outside`, those of unknown pitch unless the nearest stood in, and those on the
    grid.

    Attributes:
        hits: note-ons of the drum channels and tracks.
        doubled: of these, left out because another has their (step, drum).
        outside: of these, left out because they lie in no whole bar in 4/4.
        unknown_pitches: of these, those whose pitch the drum map does not know, per pitch.
        dropped_bars: bars in no window, by `DroppedBars`.
        filtered: windows left out, by the name of the filter, for every filter that is on.
    """

    hits: int = 0
    doubled: int = 0
    outside: int = 0
    unknown_pitches: Mapping[int, int] = field(default_factory=dict)
    dropped_bars: Mapping[str, int] = field(default_factory=dict)
    filtered: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """What one file came to: windows or a rejection, never both, and its counts as far as it was read."""

    result: WindowBlock | Rejection
    counts: FileCounts = FileCounts()


def convert(
    data: bytes,
    settings: BuildSettings,
    drum_map: DrumMap,
    *,
    source: str,
    style: str = "",
    tempo: float | None = None,
) -> Conversion:
    """Reads, quantizes, cuts and filters one MIDI file.

    Args:
        data: content of the file.
        drum_map: what `settings.drum_map` came to for this collection.
        source: name of the file, carried by its windows; those of piece n of a format 2 file carry `source#n`.
        style: style of the file, carried by its windows; empty if unknown.
        tempo: quarter notes per minute, if they are known better than from the file.
    """
    reading, grid, limits = settings.reading, settings.window.grid, settings.limits
    counts = FileCounts()

    def rejected(reason: Reason, detail: str) -> Conversion:
        return Conversion(Rejection(source, reason, detail), counts)

    try:
        performances = read_performances(
            data, channels=reading.channels, drum_tracks=reading.drum_tracks, max_hits=limits.max_notes
        )
    except SmpteError as error:
        return rejected(Reason.SMPTE, str(error))
    except MidiError as error:
        return rejected(Reason.NOT_MIDI, str(error))
    except TooManyHitsError as error:
        return rejected(Reason.TOO_LARGE, f"{error.hits} drum hits, limits.max_notes is {limits.max_notes}")
    if not any(len(performance.tick) for performance in performances):
        return rejected(Reason.NO_DRUMS, f"no hits on {_where(reading)}")

    songs = {
        source if len(performances) == 1 else f"{source}#{number}": quantize(
            performance if tempo is None else replace(performance, tempos=((0, tempo),)),
            grid,
            drum_map,
            nearest_pitch=reading.unknown_pitch == "nearest",
            pad_last_bar=settings.window.pad_last_bar,
        )
        for number, performance in enumerate(performances, start=1)
        if len(performance.tick)
    }
    counts = _count_hits(songs.values())
    if reading.unknown_pitch == "reject" and counts.unknown_pitches:
        return rejected(Reason.UNKNOWN_PITCH, _pitches(counts.unknown_pitches, drum_map))
    bars = sum(song.bar_counts.file for song in songs.values())
    if not bars:
        return rejected(Reason.NO_DRUMS, f"{_pitches(counts.unknown_pitches, drum_map)}, no other hits")
    if bars > limits.max_bars:
        return rejected(Reason.TOO_LARGE, f"{bars} bars, limits.max_bars is {limits.max_bars}")
    counts = replace(counts, dropped_bars=_dropped_bars(songs.values(), settings.window))
    longest = max((stretch.bars for song in songs.values() for stretch in song.stretches), default=0)
    if not longest and any(song.bar_counts.other_metre for song in songs.values()):
        return rejected(Reason.METRE, _other_metres(performances))
    if longest < grid.bars:
        return rejected(Reason.TOO_SHORT, f"{longest} bars, a window has {grid.bars}")

    blocks = [song.windows(settings.window.hop_bars, source=name, style=style) for name, song in songs.items()]
    windows = blocks[0] if len(blocks) == 1 else WindowBlock.joined(blocks)
    kept, filtered = filter_windows(windows, settings.filters, grid)
    counts = replace(counts, filtered=filtered)
    if not kept.any():
        by_name = ", ".join(f"{name} {count}" for name, count in filtered.items() if count)
        return rejected(Reason.FILTERED, f"all {len(windows)} windows: {by_name}")
    return Conversion(windows if kept.all() else windows.take(np.flatnonzero(kept)), counts)


def _count_hits(songs: Collection[QuantizedSong]) -> FileCounts:
    unknown: Counter[int] = Counter()
    for song in songs:
        unknown.update(song.unknown_pitches)
    return FileCounts(
        hits=sum(len(song.performance.tick) for song in songs),
        doubled=sum(song.doubled_hits for song in songs),
        outside=sum(song.outside_hits for song in songs),
        unknown_pitches=dict(sorted(unknown.items())),
    )


def _dropped_bars(songs: Collection[QuantizedSong], window: WindowSettings) -> dict[str, int]:
    dropped: Counter[str] = Counter()
    for song in songs:
        dropped[DroppedBars.METRE] += song.bar_counts.other_metre
        dropped[DroppedBars.PARTIAL] += song.bar_counts.cut
        dropped[DroppedBars.UNFINISHED] += song.bar_counts.unfinished
        for stretch in song.stretches:
            if stretch.bars < window.bars:
                dropped[DroppedBars.SHORT] += stretch.bars
            else:
                hops = (stretch.bars - window.bars) // window.hop_bars
                in_windows = window.bars + hops * min(window.hop_bars, window.bars)
                dropped[DroppedBars.HOP] += stretch.bars - in_windows
    return {str(reason): bars for reason, bars in dropped.items() if bars}


def _where(reading: ReadingSettings) -> str:
    channels = ", ".join(str(channel) for channel in reading.channels)
    named = " or tracks named like drums" if reading.drum_tracks else ""
    return f"channel{'s' * (len(reading.channels) > 1)} {channels}{named}"


def _pitches(unknown: Mapping[int, int], drum_map: DrumMap) -> str:
    """Names the pitches that a map does not know, with their hits, the most frequent first."""
    most = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{pitch} ({hits})" for pitch, hits in most)
    return f"drum map {drum_map.name!r} does not know pitch {named}"


def _other_metres(performances: Sequence[Performance]) -> str:
    metres = {tuple(metre) for performance in performances for _, *metre in performance.metres} - {DEFAULT_METRE}
    named = [f"{numerator}/{denominator}" for numerator, denominator in sorted(metres)]
    return ", ".join(named[:METRES_NAMED]) + ", ..." * (len(named) > METRES_NAMED)


def filter_windows(
    windows: WindowBlock, filters: FilterSettings, grid: GridSpec
) -> tuple[Bool[np.ndarray, " window"], dict[str, int]]:
    """Which windows are kept, and how many each filter that is on leaves out.

    A window that several filters would leave out counts under the first of them. Repeated windows are no matter of one
    file and not looked at here.
    """
    kept = np.ones(len(windows), dtype=bool)
    counts: dict[str, int] = {}
    for name, wanted in _verdicts(windows, filters, grid):
        counts[name] = int((kept & ~wanted).sum())
        kept &= wanted
    return kept, counts


def _verdicts(
    windows: WindowBlock, filters: FilterSettings, grid: GridSpec
) -> Iterator[tuple[str, Bool[np.ndarray, " window"]]]:
    """The name of each filter that is on, and which windows pass it."""
    if filters.min_hits > 0:
        yield "min_hits", np.count_nonzero(windows.velocity, axis=(1, 2)) >= filters.min_hits
    if filters.max_empty_bars is not None:
        bars = windows.tokens.reshape(len(windows), grid.bars, grid.steps_per_bar).any(axis=2)
        yield "max_empty_bars", (~bars).sum(axis=1) <= filters.max_empty_bars
    if filters.min_drums > 0:
        yield "min_drums", windows.velocity.any(axis=1).sum(axis=1) >= filters.min_drums
    if filters.min_tempo is not None or filters.max_tempo is not None:
        tempo = np.array([meta.tempo for meta in windows.meta])
        slowest = -np.inf if filters.min_tempo is None else filters.min_tempo
        fastest = np.inf if filters.max_tempo is None else filters.max_tempo
        yield "tempo", (slowest <= tempo) & (tempo <= fastest)
    if filters.styles:
        yield "style", np.array([_has_style(meta.style, filters.styles) for meta in windows.meta], dtype=bool)


def _has_style(style: str, wanted: tuple[str, ...]) -> bool:
    """Whether a style is a wanted one or a sub-style of it, as rock/indie of rock."""
    return any(style == name or style.startswith(f"{name}/") for name in wanted)
