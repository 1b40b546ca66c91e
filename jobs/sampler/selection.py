"""Which of the grooves made go into the output: all, unless the options drop some; and what was dropped is counted.

What is kept is a function of the items in their order alone: an item is dropped as a duplicate where an earlier one has
its tokens. With --refill items beyond --count are made until there are as many as were asked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from jobs.sampler.parts import Rows
from jobs.sampler.settings import SampleSettings
from musicvae.groove.distance import window_hashes
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.features import hits_per_bar, quality, syncopation
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens
from musicvae.pretrained.training_record import TrainingRecord

DUPLICATE, MEMORISED, NOT_BEST = "duplicate", "memorised", "not among the best"
NO_ITEM = -1


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """The outcome.

    Attributes:
        items: what is kept, ascending.
        duplicate_of: of each the first item with its tokens, if that is an earlier one; else `NO_ITEM`.
        looked_at: items that were needed to come to it, from 0 on or of those that are picked.
        dropped: how many of those were not kept, by reason.
        lacking: how many are missing from what was asked for, with --refill.
    """

    items: Int64[np.ndarray, " item"]
    duplicate_of: Int64[np.ndarray, " item"]
    looked_at: int
    dropped: dict[str, int]
    lacking: int


def figure_of(name: str, drum_map: DrumMap, grid: GridSpec) -> Callable[[Rows], Float64[np.ndarray, " item"]]:
    """The function that gives a figure of `jobs.sampler.settings.RANKED`."""
    match name:
        case "hits_per_bar":
            return lambda rows: hits_per_bar(hits_from_tokens(rows.tokens, drum_map.num_drums), grid)
        case "syncopation":
            return lambda rows: syncopation(hits_from_tokens(rows.tokens, drum_map.num_drums), grid)
        case "quality":
            return lambda rows: quality(hits_from_tokens(rows.tokens, drum_map.num_drums), grid, drum_map.classes)
        case "log_likelihood":
            return lambda rows: rows.log_likelihood
        case "steered":
            return lambda rows: rows.known_steered().astype(np.float64)
        case "nearest_training":
            return lambda rows: rows.nearest_training.astype(np.float64)
    raise AssertionError(f"--by {name} is checked with the other options")


def select(
    made: Iterator[Rows],
    options: SampleSettings,
    training: TrainingRecord | None,
    figure: Callable[[Rows], Float64[np.ndarray, " item"]] | None,
) -> Selected:
    """Goes once through what was made, in order; about 70 bytes an item are held at once.

    Args:
        figure: what --best goes by.
    """
    indices, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    memorised, figures = [np.zeros(0, bool)], [np.zeros(0)]
    for rows in made:
        indices.append(rows.items)
        hashes.append(window_hashes(rows.tokens))
        if options.drop_memorised and training is not None:
            memorised.append(training.holds(hashes[-1]))
        if figure is not None:
            figures.append(figure(rows))
    item, of_item = np.concatenate(indices), np.concatenate(hashes)
    _, first, group = np.unique(of_item, return_index=True, return_inverse=True)
    duplicate_of = np.where(first[group] < np.arange(len(item)), item[first[group]], NO_ITEM)

    is_duplicate = options.drop_duplicates & (duplicate_of != NO_ITEM)
    is_memorised = np.concatenate(memorised) if options.drop_memorised else np.zeros(len(item), bool)
    places = np.flatnonzero(~is_duplicate & ~is_memorised)[: options.wanted]
    # What is picked was chosen from a job that had been refilled.
    lacking = options.wanted - len(places) if options.refill and options.pick is None else 0
    looked_at = int(places[-1]) + 1 if len(places) == options.wanted else len(item)
    dropped = {}
    if options.drop_duplicates:
        dropped[DUPLICATE] = int(is_duplicate[:looked_at].sum())
    if options.drop_memorised:
        dropped[MEMORISED] = int((is_memorised & ~is_duplicate)[:looked_at].sum())
    if options.best is not None and options.by is not None and not lacking:
        best = _best(np.concatenate(figures)[places], options.best, least=options.by.startswith("-"))
        dropped[NOT_BEST] = len(places) - len(best)
        places = places[best]
    return Selected(item[places], duplicate_of[places], looked_at, dropped, lacking)


def _best(figures: Float64[np.ndarray, " item"], count: int, *, least: bool) -> Int64[np.ndarray, " best"]:
    """Places of the largest or the least figures, ascending; of equal ones the first."""
    return np.sort(np.argsort(figures if least else -figures, kind="stable")[:count])
