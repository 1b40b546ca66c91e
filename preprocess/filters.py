"""Leaves out windows that are not wanted, and counts them by the filter that did it."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from musicvae.data.windows import WindowBlock
from musicvae.groove.grid import GridSpec
from preprocess.settings import FilterSettings


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
