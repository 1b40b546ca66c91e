"""A drum performance on its own beat grid, cut into windows.

The grid starts at tick 0 of the file, never at the first hit. It starts anew where the metre changes, and follows the
file's ticks, so a tempo change moves no hit. A hit belongs to the nearest step. All arithmetic is on integers: the same
file gives the same windows everywhere.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int16, Int64, UInt8

from musicvae.data.windows import OFFSET_UNITS, WindowBlock, WindowMeta
from musicvae.groove.drum_map import NO_CLASS, DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.midi.performance import Performance

MAX_SHIFT = 1 << 40
"""Ticks that no hit is moved by."""


@dataclass(frozen=True, slots=True)
class MetreSection:
    """Bars in a row in one metre, counted from the tick where it begins.

    Attributes:
        start: tick of its first bar line.
        numerator, denominator: its metre.
        first_bar: bars of the file before it; one that a change of metre cuts short counts.
        bars: its whole bars; none where no change ends it.
    """

    start: int
    numerator: int
    denominator: int
    first_bar: int
    bars: int | None = None

    def bars_until(self, tick: int, ticks_per_quarter: int) -> tuple[int, bool]:
        """Whole bars from its start to a tick, and whether the tick lies off the bar line after them."""
        whole, rest = divmod((tick - self.start) * self.denominator, 4 * ticks_per_quarter * self.numerator)
        return whole, rest > 0


def metre_sections(metres: Sequence[tuple[int, int, int]], ticks_per_quarter: int) -> list[MetreSection]:
    """The sections of a file, in order, from (tick, numerator, denominator) of its time signatures in order.

    Every change of metre begins a section. The metre in force said again changes nothing on a bar line; off the bar
    line it begins a section too, because that is where the file wants its next bar. 4/4 holds before the first.
    """
    sections = [MetreSection(0, 4, 4, 0)]
    for tick, numerator, denominator in metres:
        last = sections.pop()
        whole, off = last.bars_until(tick, ticks_per_quarter)
        if (numerator, denominator) == (last.numerator, last.denominator) and not off:
            sections.append(last)
            continue
        if tick > last.start:
            sections.append(MetreSection(last.start, last.numerator, last.denominator, last.first_bar, whole))
        sections.append(MetreSection(tick, numerator, denominator, last.first_bar + whole + off))
    return sections


def bar_of(performance: Performance, tick: int) -> tuple[int, bool]:
    """The bar of the file, counted from 0, that a tick lies in, and whether it lies after its bar line."""
    sections = metre_sections(performance.metres, performance.ticks_per_quarter)
    section = [section for section in sections if section.start <= tick][-1]
    bars, within = section.bars_until(tick, performance.ticks_per_quarter)
    return section.first_bar + bars, within


@dataclass(frozen=True, slots=True)
class GridSection:
    """Whole bars in a row in the grid's metre.

    Attributes:
        start: tick of its first bar line.
        first_bar: bars of the file before it, in any metre.
        bars: its bars, up to that of its last hit.
        before: bars on the grid before it.
    """

    start: int
    first_bar: int
    bars: int
    before: int


@dataclass(frozen=True, slots=True)
class BarCounts:
    """What the bars of a performance came to; silent bars after the last hit of a section count nowhere.

    Attributes:
        file: bars from the start of the file to its last hit, in any metre, silent ones and cut ones too.
        other_metres: bars in each other metre than the grid's, such as `3/4`.
        cut: bars of the grid's metre that a change cuts short.
        unfinished: bars of a last hit that the file ends before, where such bars are not padded.
    """

    file: int
    other_metres: Mapping[str, int]
    cut: int
    unfinished: int

    @property
    def other_metre(self) -> int:
        """Bars in another metre than the grid's."""
        return sum(self.other_metres.values())


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedSong:
    """The hits of a whole performance on the grid, at most one for each (step, drum), ordered by step and drum.

    Attributes:
        grid: what one window is.
        num_drums: number of drum classes.
        performance: what was quantized.
        sections: where the grid lies in the performance; its steps count on from each section to the next.
        step: steps since the first bar line of the first section: since tick 0 in a file of one metre.
        drum: drum class.
        velocity: MIDI velocity 1..127.
        offset: distance from the step in 1/65536 of a step, early is negative.
        bar_counts: bars on the grid and off it.
        doubled_hits: hits left out because a louder or earlier one has their (step, drum).
        outside_hits: hits left out because they lie in no whole bar of the grid's metre.
        unknown_pitches: hits whose pitch the drum map does not know, per pitch; left out, unless the nearest known
            pitch stands in for theirs.
    """

    grid: GridSpec
    num_drums: int
    performance: Performance
    sections: tuple[GridSection, ...]
    step: Int64[np.ndarray, " hit"]
    drum: Int64[np.ndarray, " hit"]
    velocity: UInt8[np.ndarray, " hit"]
    offset: Int16[np.ndarray, " hit"]
    bar_counts: BarCounts
    doubled_hits: int
    outside_hits: int
    unknown_pitches: Mapping[int, int]

    @property
    def bars(self) -> int:
        """Bars on the grid."""
        return sum(section.bars for section in self.sections)

    @property
    def first_bar(self) -> int:
        """The file's bar, counted from 0, of the first hit on the grid; 0 without hits."""
        section, bar = self._first_hit()
        return section.first_bar + bar if section else 0

    @property
    def first_window(self) -> int:
        """The file's bar, counted from 0, that a first window begins at: that of the first hit on the grid, or an
        earlier one where the section would end before the window."""
        section, bar = self._first_hit()
        return section.first_bar + min(bar, max(0, section.bars - self.grid.bars)) if section else 0

    def _first_hit(self) -> tuple[GridSection | None, int]:
        """The section of the first hit on the grid, and the bar of the section that it is in."""
        if not len(self.step):
            return None, 0
        bar = int(self.step[0]) // self.grid.steps_per_bar
        section = [section for section in self.sections if section.before <= bar][-1]
        return section, bar - section.before

    def windows(self, hop_bars: int = 1, *, from_bar: int = 0, source: str = "", style: str = "") -> WindowBlock:
        """Every window of `grid.bars` bars in one section, one each `hop_bars`; none if all sections are shorter.

        Args:
            from_bar: the file's bar, counted from 0, before which no window begins.
            source, style: what the windows carry.

        Memory grows with the song's bars, so a caller with files of unknown origin limits them first.
        """
        steps = self.bars * self.grid.steps_per_bar
        velocity = np.zeros((steps, self.num_drums), dtype=np.uint8)
        offset = np.zeros(velocity.shape, dtype=np.int16)
        velocity[self.step, self.drum] = self.velocity
        offset[self.step, self.drum] = self.offset
        # As `tokens_from_hits`, in a third of its time: no step has a drum twice.
        tokens = np.bincount(self.step, weights=1 << self.drum, minlength=steps).astype(np.int16)

        rows, bars, ticks = [np.zeros(0, dtype=np.int64)], [], [np.zeros(0, dtype=np.int64)]
        for section in self.sections:
            bar = np.arange(max(0, from_bar - section.first_bar), section.bars - self.grid.bars + 1, hop_bars)
            rows.append(section.before + bar)
            bars += (section.first_bar + bar).tolist()
            ticks.append(section.start + bar * self.grid.beats_per_bar * self.performance.ticks_per_quarter)
        first_rows = np.concatenate(rows)
        tempos = self.performance.tempo_at(np.concatenate(ticks)).tolist()
        return WindowBlock(
            tokens=self._cut(tokens, first_rows),
            velocity=self._cut(velocity, first_rows),
            offset=self._cut(offset, first_rows),
            meta=[WindowMeta(source, bar, tempo, style) for bar, tempo in zip(bars, tempos, strict=True)],
        )

    def _cut(self, steps: np.ndarray, first_bars: Int64[np.ndarray, " window"]) -> np.ndarray:
        """Steps (step, ...) -> windows (window, step, ...), a bar at a time because that is 16 times fewer copies."""
        in_bars = steps.reshape(self.bars, self.grid.steps_per_bar, *steps.shape[1:])
        windows = in_bars.take(first_bars[:, None] + np.arange(self.grid.bars), axis=0)
        return windows.reshape(len(first_bars), self.grid.num_steps, *steps.shape[1:])


def quantize(
    performance: Performance,
    grid: GridSpec,
    drum_map: DrumMap,
    *,
    nearest_pitch: bool = False,
    pad_last_bar: bool = True,
) -> QuantizedSong:
    """Moves each hit to the nearest step, a hit halfway between two to the later one; a beat is a quarter note.

    Of two hits on one (step, drum) the louder stays, of equally loud ones the earlier. A hit belongs to the section
    of its nearest step, so an early first beat stays with its bar; in a file with a `LOOP_MARK`, where such a hit is at
    the end, it is moved there.

    Args:
        performance: its metre is the grid's where it is `grid.beats_per_bar`/4; 2/2 and 8/8 are other metres.
        nearest_pitch: whether an unknown pitch takes the class of the nearest known one.
        pad_last_bar: whether the bar of the last hit counts although the file ends before the bar line.
    """
    tick, pitch, velocity = _from_first_beat(performance, grid)
    drum = drum_map.class_of_pitch[pitch]
    unknown = pitch[drum == NO_CLASS]
    if len(unknown) and nearest_pitch:
        drum = drum_map.nearest_class_of_pitch[pitch]
    elif len(unknown):
        known = (drum != NO_CLASS).nonzero()[0]
        drum, tick, velocity = drum[known], tick[known], velocity[known]

    unit = performance.ticks_per_quarter
    played = _played(tick, performance, grid)
    sections, bar_counts = _lay_out(played, performance, grid, pad_last_bar=pad_last_bar)
    laid = [
        (section.start, section.before * grid.steps_per_bar, section.bars * grid.steps_per_bar) for section in sections
    ]
    if len(laid) == 1:
        start, steps_before, num_steps = laid[0]
    else:
        per_section = np.array(laid, dtype=np.int64).reshape(-1, 3)
        start, steps_before, num_steps = per_section.T.repeat([section.hits for section in played], axis=1)

    # In units of 1 / (2 * ticks_per_quarter) of a step, floor(x + 1/2) and what it leaves are exact.
    step, rest = np.divmod((tick - start) * (2 * grid.steps_per_beat) + unit, 2 * unit)
    offset = (OFFSET_UNITS * (rest - unit) + unit) // (2 * unit)
    inside = (step < num_steps).nonzero()[0]
    cell = ((step + steps_before) * drum_map.num_drums + drum)[inside]

    velocity = velocity[inside]
    louder = ((cell << 7) - velocity).argsort(kind="stable")  # equally loud hits of a cell stay in the order of time
    cell = cell[louder]
    first_of_cell = np.ones(len(cell), dtype=bool)
    first_of_cell[1:] = cell[1:] != cell[:-1]
    kept = louder[first_of_cell]
    step, drum = np.divmod(cell[first_of_cell], drum_map.num_drums)
    return QuantizedSong(
        grid=grid,
        num_drums=drum_map.num_drums,
        performance=performance,
        sections=tuple(section for section in sections if section.bars),
        step=step,
        drum=drum,
        velocity=velocity[kept],
        offset=offset[inside][kept].astype(np.int16),
        bar_counts=bar_counts,
        doubled_hits=len(cell) - len(kept),
        outside_hits=len(tick) - len(inside),
        unknown_pitches=dict(sorted(Counter(unknown.tolist()).items())) if len(unknown) else {},
    )


def _from_first_beat(
    performance: Performance, grid: GridSpec
) -> tuple[Int64[np.ndarray, " hit"], UInt8[np.ndarray, " hit"], UInt8[np.ndarray, " hit"]]:
    """Tick, pitch and velocity of the hits in order of time; early hits of a loop's first beat have negative ticks."""
    if not performance.loops:
        return performance.tick, performance.pitch, performance.velocity
    tick, early = _ticks_of_loop(performance, grid)
    order = np.concatenate([early.nonzero()[0], (~early).nonzero()[0]])
    return tick[order], performance.pitch[order], performance.velocity[order]


def _ticks_of_loop(
    performance: Performance, grid: GridSpec
) -> tuple[Int64[np.ndarray, " hit"], Bool[np.ndarray, " hit"]]:
    """The ticks of the hits, negative for early hits of a loop's first beat, which are at its end; which those are."""
    if not performance.loops:
        return performance.tick, np.zeros(len(performance.tick), dtype=bool)
    # A program that saved the file again may have let it end a little later than its last bar.
    bar = grid.beats_per_bar * performance.ticks_per_quarter
    end = max(1, round(performance.end / bar)) * bar
    early = (end - performance.tick) * 2 * grid.steps_per_beat <= performance.ticks_per_quarter
    return performance.tick - end * early, early


@dataclass(frozen=True, slots=True)
class _Played:
    """A section that has hits: their number, the tick of the last, and the grid's bars up to that."""

    section: MetreSection
    hits: int
    last_tick: int
    grid_bars: int


def _played(tick: Int64[np.ndarray, " hit"], performance: Performance, grid: GridSpec) -> list[_Played]:
    """The sections that have hits. Hits come in order of time, and half a step before a section its own begin."""
    unit = performance.ticks_per_quarter
    sections = metre_sections(performance.metres, unit)
    half_step = unit // (2 * grid.steps_per_beat)
    starts = [section.start - half_step for section in sections[1:]]
    ends = tick.searchsorted(starts).tolist() if starts else []
    played = []
    for section, (first, end) in zip(sections, pairwise([0, *ends, len(tick)]), strict=True):
        if end > first:
            last = int(tick[end - 1])
            last_step = (2 * grid.steps_per_beat * (last - section.start) + unit) // (2 * unit)
            played.append(_Played(section, end - first, last, last_step // grid.steps_per_bar + 1))
    return played


def _lay_out(
    played: Sequence[_Played], performance: Performance, grid: GridSpec, *, pad_last_bar: bool
) -> tuple[list[GridSection], BarCounts]:
    """The sections one after the other on the grid, without bars in another metre; and what all bars came to."""
    laid: list[GridSection] = []
    other_metres: dict[str, int] = {}
    before = file = cut = unfinished = 0
    for played_section in played:
        section, bars = played_section.section, played_section.grid_bars
        if (section.numerator, section.denominator) != (grid.beats_per_bar, 4):
            bars = (
                section.bars_until(max(played_section.last_tick, section.start), performance.ticks_per_quarter)[0] + 1
            )
            metre = f"{section.numerator}/{section.denominator}"
            other_metres[metre] = other_metres.get(metre, 0) + bars
            file = section.first_bar + bars
            laid.append(GridSection(section.start, section.first_bar, 0, before))
            continue
        file = section.first_bar + bars
        if section.bars is None:
            ends = section.bars_until(performance.end, performance.ticks_per_quarter)[0] >= bars
            unfinished = int(not (ends or pad_last_bar))
            bars -= unfinished
        elif bars > section.bars:
            cut += 1
            bars = section.bars
        laid.append(GridSection(section.start, section.first_bar, bars, before))
        before += bars
    return laid, BarCounts(file, other_metres, cut, unfinished)


def changes_of(
    song: QuantizedSong,
    drum_map: DrumMap,
    velocity: Int64[np.ndarray, " hit"],
    offset: Float[np.ndarray, " hit"],
    *,
    nearest_pitch: bool = False,
) -> dict[int, tuple[int, int]]:
    """What `played_otherwise` changes in the file of a song where its hits are played otherwise.

    Hits that were merged into one move as one, and keep their velocities in proportion. No hit leaves its step, or the
    file.

    Args:
        velocity: of each hit of the song, 1..127.
        offset: of each hit of the song, in steps.
        nearest_pitch: as it was quantized.
    """
    performance, steps = song.performance, song.grid.steps_per_bar
    drum = (drum_map.nearest_class_of_pitch if nearest_pitch else drum_map.class_of_pitch)[performance.pitch]
    per_step = performance.ticks_per_quarter / song.grid.steps_per_beat
    step, grid_tick = np.full(len(drum), -1), np.zeros(len(drum))
    ticks, early = _ticks_of_loop(performance, song.grid)
    for section in song.sections:
        nearest = np.floor((ticks - section.start) / per_step + 0.5).astype(np.int64)
        inside = (nearest >= 0) & (nearest < section.bars * steps)
        step[inside] = nearest[inside] + section.before * steps
        grid_tick[inside] = section.start + nearest[inside] * per_step
    placed = np.flatnonzero((step >= 0) & (drum != NO_CLASS))
    hit = np.searchsorted(song.step * song.num_drums + song.drum, step[placed] * song.num_drums + drum[placed])
    tick, grid_tick = ticks[placed], grid_tick[placed]
    first, last = np.where(early, -np.inf, 0), np.where(early, -1, np.inf)
    # The steps of a hit's file that it may move to, whatever was merged into it; what is at a loop's end stays there.
    least, most = np.full(len(song.step), -MAX_SHIFT), np.full(len(song.step), MAX_SHIFT)
    np.maximum.at(least, hit, np.ceil(grid_tick - per_step / 2).clip(first[placed]).astype(np.int64) - tick)
    np.minimum.at(most, hit, (np.ceil(grid_tick + per_step / 2) - 1).clip(max=last[placed]).astype(np.int64) - tick)
    shift = np.rint((offset - song.offset / OFFSET_UNITS) * per_step).astype(np.int64).clip(least, most)[hit]
    louder = np.rint(performance.velocity[placed] * (velocity / song.velocity)[hit]).clip(1, 127).astype(np.int64)
    changed = np.flatnonzero((shift != 0) | (louder != performance.velocity[placed]))
    events = performance.event[placed[changed]].tolist()
    return dict(zip(events, zip(shift[changed].tolist(), louder[changed].tolist(), strict=True), strict=True))
