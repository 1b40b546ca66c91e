"""Grooves for galleries: hits, velocities and offsets by chance, the extremes among them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from jobs.sampler.gallery import HITS, FigureColumn, GalleryGroove, write_gallery
from musicvae.data.feel import GrooveFeel
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.features import count_grooves
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, tokens_from_hits

GRID, DRUM_MAP = GridSpec(), DrumMap.load("roland")
DENSITY = 0.13
"""Share of cells that are hit: about 19 hits a bar, as in the Groove MIDI Dataset."""
COLUMNS = (
    FigureColumn("hits", "hits per bar", "onsets of all drums", decimals=2),
    FigureColumn("score", "score", "by chance; one in ten has none", decimals=3),
    FigureColumn("copy", "duplicate", "every seventh", kind="flag"),
    FigureColumn("style", "style", "in turn", kind="name", names=("funk", "jazz", "polka", "rock")),
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
            "style": (0, 1, 3)[item % 3],
        },
    )


def chance_grooves(count: int, grid: GridSpec = GRID) -> Iterator[GalleryGroove]:
    """The first grooves."""
    return (chance_groove(item, grid) for item in range(count))


def chance_sources(count: int) -> WindowBlock:
    """Windows that grooves may come from: window i has all of groove 1,000 + i."""
    grooves = [chance_groove(1_000 + row) for row in range(count)]
    tokens, velocity, offset = (np.stack([getattr(g, name) for g in grooves]) for name in HITS)
    return WindowBlock(
        tokens, velocity, offset, [WindowMeta(f"my song {row}.mid", 4 * row, 97.0) for row in range(count)]
    )


def sourced_groove(item: int) -> GalleryGroove:
    """Groove `item` with the first two bars of source `item` % 2, which it keeps."""
    groove, source = chance_groove(item), chance_sources(2)
    kept = np.arange(GRID.num_steps) < 2 * GRID.steps_per_bar
    of_source = [getattr(source, name)[item % 2] for name in HITS]
    tokens, velocity, offset = (
        np.where(kept if values.ndim == 1 else kept[:, None], theirs, values)
        for values, theirs in zip((groove.tokens, groove.velocity, groove.offset), of_source, strict=True)
    )
    hits = kept[:, None] & (velocity > 0)
    return GalleryGroove(
        groove.id, tokens, velocity, offset, groove.tempo, groove.figures, sources=(item % 2,), kept=hits
    )


def mean_feel() -> GrooveFeel:
    """A velocity and timing for every step of the bar and drum."""
    chance, shape = np.random.default_rng(7), (GRID.steps_per_bar, DRUM_MAP.num_drums)
    velocity, offset = chance.uniform(0.1, 1, shape), chance.uniform(-0.4, 0.4, shape)
    statistics = count_grooves(np.zeros((1, GRID.num_steps, DRUM_MAP.num_drums), dtype=bool), GRID)
    return GrooveFeel(GRID, velocity.astype(np.float32), offset.astype(np.float32), 120.0, statistics)


def sourced_gallery(path: Path, count: int) -> Path:
    """A page of grooves with a source each, and with a switch for the mean."""
    write_gallery(
        path,
        map(sourced_groove, range(count)),
        title="Grooves with sources",
        grid=GRID,
        drum_map=DRUM_MAP,
        figures=COLUMNS,
        sources=chance_sources(2),
        written="played",
        mean=mean_feel(),
    )
    return path


def pad_gallery(path: Path) -> Path:
    """A page of a square of nine grooves between four sources; the last point but one has no groove."""
    places = [0, 1, 2, 3, 4, 5, 6, 8]
    grooves = (replace(chance_groove(item), place=place, sources=(0, 1, 2, 3)) for item, place in enumerate(places))
    about = {"title": "A square", "grid": GRID, "drum_map": DRUM_MAP, "figures": COLUMNS}
    write_gallery(path, grooves, **about, sources=chance_sources(4), pad=(3, 3))
    return path


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
