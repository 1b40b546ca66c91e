"""Lays a drum performance on its own beat grid and cuts the grid into windows.

The grid starts at tick 0 of the file, never at the first hit, and follows the file's ticks, so a tempo change moves no
hit. A hit belongs to the nearest step. All arithmetic is on integers: the same file gives the same windows everywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16, Int64, UInt8

from musicvae.drum_map import NO_CLASS, DrumMap
from musicvae.grid import GridSpec
from musicvae.groove import tokens_from_hits
from musicvae.midi import Performance
from musicvae.shards import OFFSET_UNITS, WindowBlock, WindowMeta


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedSong:
    """The hits of a whole file on the grid, at most one for each (step, drum), ordered by step and drum.

    Attributes:
        grid: what one window is.
        num_drums: number of drum classes.
        step: steps since tick 0 of the file.
        drum: drum class.
        velocity: MIDI velocity 1..127.
        offset: distance from the step in 1/65536 of a step, early is negative.
        tempo: quarter notes per minute at the start of the file.
        doubled_hits: hits left out because a louder or earlier one has their (step, drum).
        unknown_pitches: hits left out because the drum map has no class for their pitch, per pitch.
    """

    grid: GridSpec
    num_drums: int
    step: Int64[np.ndarray, " hit"]
    drum: Int64[np.ndarray, " hit"]
    velocity: UInt8[np.ndarray, " hit"]
    offset: Int16[np.ndarray, " hit"]
    tempo: float
    doubled_hits: int
    unknown_pitches: Mapping[int, int]

    @property
    def bars(self) -> int:
        """Bars up to and including that of the last hit."""
        return int(self.step[-1]) // self.grid.steps_per_bar + 1 if len(self.step) else 0

    def windows(self, hop_bars: int = 1, *, source: str = "", style: str = "") -> WindowBlock:
        """Every window of `grid.bars` whole bars, one each `hop_bars`; none if the song is shorter than a window.

        Memory grows with the song's bars, so a caller with files of unknown origin limits `bars` first.
        """
        per_bar, length = self.grid.steps_per_bar, self.grid.num_steps
        velocity = np.zeros((self.bars * per_bar, self.num_drums), dtype=np.uint8)
        offset = np.zeros(velocity.shape, dtype=np.int16)
        velocity[self.step, self.drum] = self.velocity
        offset[self.step, self.drum] = self.offset

        first_bars = np.arange(0, self.bars - self.grid.bars + 1, hop_bars)
        rows = first_bars[:, None] * per_bar + np.arange(length)
        return WindowBlock(
            tokens=tokens_from_hits(velocity > 0)[rows],
            velocity=velocity[rows],
            offset=offset[rows],
            meta=[WindowMeta(source, int(bar), self.tempo, style) for bar in first_bars],
        )


def quantize(performance: Performance, grid: GridSpec, drum_map: DrumMap) -> QuantizedSong:
    """Moves each hit to the nearest step, a hit halfway between two to the later one; a beat is a quarter note.

    Of two hits on one (step, drum) the louder stays, of equally loud ones the earlier.
    """
    drum = drum_map.class_of_pitch[performance.pitch].astype(np.int64)
    known = drum != NO_CLASS
    pitches, counts = np.unique(performance.pitch[~known], return_counts=True)
    drum, velocity = drum[known], performance.velocity[known]

    # In units of 1 / ticks_per_quarter of a step, floor(x + 1/2) is exact.
    unit = performance.ticks_per_quarter
    position = performance.tick[known] * grid.steps_per_beat
    step = (2 * position + unit) // (2 * unit)
    offset = (2 * OFFSET_UNITS * (position - step * unit) + unit) // (2 * unit)

    louder_then_earlier = np.lexsort((position, -velocity.astype(np.int64), drum, step))
    cell = (step * drum_map.num_drums + drum)[louder_then_earlier]
    kept = louder_then_earlier[np.diff(cell, prepend=-1) != 0]
    return QuantizedSong(
        grid=grid,
        num_drums=drum_map.num_drums,
        step=step[kept],
        drum=drum[kept],
        velocity=velocity[kept],
        offset=offset[kept].astype(np.int16),
        tempo=performance.tempo,
        doubled_hits=len(cell) - len(kept),
        unknown_pitches=dict(zip(pitches.tolist(), counts.tolist(), strict=True)),
    )
