"""One MIDI file -> its windows, or the reason why it gives none. Pure: bytes in, values out.

Filters leave out windows that are not wanted, and count them by the filter that did it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from musicvae.data.windows import WindowBlock
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.midi.groove_file import read_midi
from musicvae.midi.performance import Performance
from musicvae.midi.reading_report import ReadingReport
from preprocess.checks import signs_of
from preprocess.rejection import Reason, Rejection
from preprocess.settings import BuildSettings, FilterSettings


@dataclass(frozen=True, slots=True, eq=False)
class FileCounts:
    """What became of one file, as far as it was read.

    Attributes:
        reading: what was read of it; None if nothing was.
        dropped_bars: bars in no window, by `DroppedBars`.
        filtered: windows left out, by the name of the filter, for every filter that is on.
        signs: what it shows that makes a warning, see `preprocess.checks`.
    """

    reading: ReadingReport | None = None
    dropped_bars: Mapping[str, int] = field(default_factory=dict)
    filtered: Mapping[str, int] = field(default_factory=dict)
    signs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Conversion:
    """What one file came to: windows or a rejection, never both; its counts and pieces, as far as it was read."""

    result: WindowBlock | Rejection
    counts: FileCounts = FileCounts()
    performances: Sequence[Performance] = ()


def convert(
    data: bytes, settings: BuildSettings, drum_map: DrumMap, *, source: str, style: str = "", tempo: float | None = None
) -> Conversion:
    """Reads, quantizes, cuts and filters one MIDI file.

    Args:
        data: content of the file.
        drum_map: what `settings.drum_map` came to for this collection.
        source: name of the file, carried by its windows; those of piece n of a format 2 file carry `source#n`.
        style: style of the file, carried by its windows; empty if unknown.
        tempo: quarter notes per minute, if they are known better than from the file.
    """
    grid, limits = settings.window.grid, settings.limits
    reading = read_midi(
        data,
        grid,
        drum_map,
        source=source,
        hop_bars=settings.window.hop_bars,
        tempo=tempo,
        reading=settings.reading,
        pad_last_bar=settings.window.pad_last_bar,
        max_notes=limits.max_notes,
        max_bars=limits.max_bars,
    )
    report = reading.report
    filtered: dict[str, int] = {}

    def counted(windows: WindowBlock | None) -> FileCounts:
        return FileCounts(report, reading.dropped_bars, filtered, signs_of(report, windows) if report else {})

    def rejected(reason: Reason, detail: str) -> Conversion:
        return Conversion(Rejection(source, reason, detail), counted(None), reading.performances)

    if reading.refused is not None:
        return rejected(Reason(reading.refused[0]), reading.refused[1])
    blocks = [song.windows(settings.window.hop_bars, source=name, style=style) for name, song in reading.songs.items()]
    windows = blocks[0] if len(blocks) == 1 else WindowBlock.joined(blocks)
    kept, filtered = filter_windows(windows, settings.filters, grid)
    if not kept.any():
        by_name = ", ".join(f"{name} {count}" for name, count in filtered.items() if count)
        return rejected(Reason.FILTERED, f"all {len(windows)} windows: {by_name}")
    windows = windows if kept.all() else windows.take(np.flatnonzero(kept))
    return Conversion(windows, counted(windows), reading.performances)


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
