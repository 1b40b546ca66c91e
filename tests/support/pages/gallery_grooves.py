"""Grooves for galleries: hits, velocities and offsets by chance, the extremes among them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jobs.sampler.gallery import FigureColumn, GalleryGroove, write_gallery
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, tokens_from_hits

GRID, DRUM_MAP = GridSpec(), DrumMap.load("roland")
DENSITY = 0.13
"""Share of cells that are hit: about 19 hits a bar, as in the Groove MIDI Dataset."""
COLUMNS = (
    FigureColumn("hits", "hits per bar", "onsets of all drums", decimals=2),
    FigureColumn("score", "score", "by chance; one in ten has none", decimals=3),
    FigureColumn("copy", "duplicate", "every seventh", kind="flag"),
)


def chance_groove(item: int, grid: GridSpec = GRID) -> GalleryGroove:
    """Groove `item`, always the same; every tenth has no score, groove 3 no hits."""
    chance = np.random.default_rng(item)
    shape = (grid.num_steps, DRUM_MAP.num_drums)
    hits = chance.random(shape) < (0.0 if item == 3 else DENSITY)
    offset = chance.integers(-32768, 32768, shape)
    # Half ticks are where roundings differ: a tick is 65536 / 120 of an offset, so these lie in the middle of two.
    offset = np.where(chance.random(shape) < 0.2, 4096 * chance.integers(-7, 8, shape), offset)
    return GalleryGroove(
        id=f"groove-{item:05d}",
        tokens=tokens_from_hits(hits),
        velocity=(chance.integers(1, 128, shape) * hits).astype(np.uint8),
        offset=(offset * hits).astype(np.int16),
        tempo=round(float(chance.uniform(60, 200)), 3),
        figures={
            "hits": float(hits.sum() / grid.bars),
            "score": None if item % 10 == 9 else float(chance.normal()),
            "copy": item % 7 == 0,
        },
    )


def chance_grooves(count: int, grid: GridSpec = GRID) -> Iterator[GalleryGroove]:
    """The first grooves."""
    return (chance_groove(item, grid) for item in range(count))


def chance_gallery(path: Path, count: int, grid: GridSpec = GRID) -> Path:
    """A page of the first grooves."""
    write_gallery(
        path, chance_grooves(count, grid), title="Grooves by chance", grid=grid, drum_map=DRUM_MAP, figures=COLUMNS
    )
    return path


def drum_groove(groove: GalleryGroove, grid: GridSpec = GRID) -> DrumGroove:
    """The same as what the rest of the project works with."""
    meta = WindowMeta(groove.id, 0, groove.tempo)
    block = WindowBlock(groove.tokens[None], groove.velocity[None], groove.offset[None], [meta])
    return block.groove(0, grid)
