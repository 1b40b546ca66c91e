"""What a groove is like, in numbers that a musician would name; of single windows, and of whole collections.

Features:
    Every function takes hits of shape (window, step, drum) and gives float64 of shape (window,), unless it says
    otherwise. A window without the thing that is measured (no hits at all, say) has the value 0, so that every window
    counts in every distribution.

    `hits_per_bar`: density. Hits of all drums, mean over bars.
    `class_density`: hits of each drum class in a bar, mean over bars; shape (window, drum).
    `syncopation`: how far hits anticipate stronger beats that stay silent (Longuet-Higgins and Lee 1984).
    `polyphony`: drums struck together, mean over the steps that have a hit.
    `self_similarity`: how alike neighbouring bars are, mean Jaccard index of their hits.
    `drum_shares`: share of each drum class among all hits; shape (window, drum).
    `fill`: share of beats that sound like a drum fill: snare or toms run, and nothing keeps the time.
    `onset_position`: mean step in the bar of all hits: 0 is the downbeat, a larger value a bar that leans to its end.
    `repetition`: likeness (F1 of the hits) of each bar and the bar most like it, mean over bars.
    `contrast`: `repetition` less the likeness of any two bars: what differs, differs in one bar and not in all.
    `steadiness`: share of beats whose timekeeping is the same in two bars, mean over pairs of bars.
    `stray_drums`: drums that are struck once or twice in the window.
    `different_bars`: number of bars that are not all the same.
    `bar_likeness`: F1 of the hits of two bars, by how many bars apart they are; shape (window, distance).
    `onset_likeness`: the same of which steps are struck at all; shape (window, distance).
    `backbeat`: share of bars with a snare on every other beat, from the second on.
    `ending`: `fill` of the last bar less that of the others.
    `quality`: how much these four are those of played windows and not of a model's samples, 0 to 1.

Attributes:
    The features that a groove can be moved along in latent space, each by a name: density, syncopation, fill, and the
    share of each drum.

Statistics:
    Counts of a collection, which can be added up over its parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from musicvae.groove.grid import GridSpec

TIMEKEEPERS = ("hihat", "ride")
MOST_STRAY = 2
"""Hits in a window up to which a drum has no part in the groove."""
FILL_HITS = 2
"""Hits in a beat on snare and toms from which on they run: more than a backbeat."""
QUALITY_WEIGHTS = (2.29, 12.03, 0.55, -0.13)
QUALITY_BIAS = -3.02
"""A logistic regression; see `quality`."""
QUALITY_DECIMALS = 6
"""The last bits of an exponential depend on how many are taken at once."""
OF_THE_WHOLE_KIT = ("density", "syncopation", "fill")
Hits = Bool[np.ndarray, "window step drum"]
PerWindow = Float64[np.ndarray, " window"]


def hits_per_bar(hits: Hits, grid: GridSpec) -> PerWindow:
    """Hits of all drums in a bar, mean over the bars of the window."""
    return hits.sum(axis=(1, 2), dtype=np.float64) / grid.bars


def class_density(hits: Hits, grid: GridSpec) -> Float64[np.ndarray, "window drum"]:
    """Hits of each drum class in a bar, mean over the bars of the window."""
    return hits.sum(axis=1, dtype=np.float64) / grid.bars


def syncopation(hits: Hits, grid: GridSpec) -> PerWindow:
    """Syncopation after Longuet-Higgins and Lee (1984, Music Perception 1(4), 424-441), summed over drums, per bar.

    Each drum is a voice of its own. Of a hit, the heaviest silent step before the next hit of its voice is looked for;
    if that step is heavier than the hit's own, the hit is syncopated by the difference of the two metrical weights
    (`metrical_weights`), else by nothing. The last hit of a voice looks as far as the window's end. Witek et al. 2014
    (DOI 10.1371/journal.pone.0094446) extend the measure to drum kits with weights for instruments, which need kick,
    snare and hi-hat by name; the plain sum over voices holds for every drum map.
    """
    weights = np.tile(metrical_weights(grid), grid.bars)
    windows, steps, drums = hits.shape
    lightest = weights.min()
    heaviest_silent = np.full((windows, drums), lightest, dtype=np.int64)
    total = np.zeros(windows)
    for step in reversed(range(steps)):
        struck, weight = hits[:, step], weights[step]
        total += np.where(struck, (heaviest_silent - weight).clip(min=0), 0).sum(axis=1)
        heaviest_silent = np.where(struck, lightest, np.maximum(heaviest_silent, weight))
    return total / grid.bars


def metrical_weights(grid: GridSpec) -> Int64[np.ndarray, " step_in_bar"]:
    """Weight of each step of a bar: 0 for the downbeat, one less for every division of the bar that reaches it.

    In 4/4 with sixteenths: -1 for the third beat, -2 for the second and fourth, -3 for eighths, -4 for sixteenths.
    """
    span, spans = grid.steps_per_bar, [grid.steps_per_bar]
    for parts in (*_prime_factors(grid.beats_per_bar), *_prime_factors(grid.steps_per_beat)):
        span //= parts
        spans.append(span)
    steps = np.arange(grid.steps_per_bar)
    return -(steps[:, None] % np.array(spans) == 0).argmax(axis=1).astype(np.int64)


def drum_shares(hits: Hits) -> Float64[np.ndarray, "window drum"]:
    """Share of each drum class among the hits of the window: they sum to 1, or are all 0 without a hit."""
    of_drum = hits.sum(axis=1, dtype=np.float64)
    return of_drum / np.maximum(1, of_drum.sum(axis=1, keepdims=True))


def fill(hits: Hits, grid: GridSpec, drums: Sequence[str]) -> PerWindow:
    """Share of the window's beats with two hits or more on snare and toms and none on hi-hats or ride.

    Our own definition; a fill leaves the timekeeping for the drums. On GMD's training windows it tells the files that
    are labelled as fills from the labelled beats better than the share of toms, of snare and toms, and likeness of bars
    do: area under the ROC curve .86, .76, .76 and .80.

    Args:
        drums: name of each class; those with `snare` or `tom` in it are run on, those with `hihat` or `ride` keep time.
            A map without such names has no fills.
    """
    beats = hits.reshape(len(hits), grid.bars * grid.beats_per_bar, grid.steps_per_beat, len(drums))
    runs = beats[..., _named(drums, "snare", "tom")].sum(axis=(2, 3)) >= FILL_HITS
    return (runs & ~beats[..., _named(drums, *TIMEKEEPERS)].any(axis=(2, 3))).mean(axis=1)


def _named(drums: Sequence[str], *words: str) -> list[int]:
    """The drums with one of these words in their names."""
    return [number for number, drum in enumerate(drums) if any(word in drum for word in words)]


def polyphony(hits: Hits) -> PerWindow:
    """Drums struck together, mean over the steps that have a hit."""
    struck = hits.any(axis=2).sum(axis=1)
    return hits.sum(axis=(1, 2), dtype=np.float64) / np.maximum(1, struck)


def self_similarity(hits: Hits, grid: GridSpec) -> PerWindow:
    """Jaccard index of the hits of a bar and of the bar before, mean over such pairs; two empty bars are alike (1).

    1 is a bar that repeats unchanged, 0 bars that share no hit. A window of one bar, which has no pair, has 0.
    """
    bars = hits.reshape(len(hits), grid.bars, grid.steps_per_bar * hits.shape[2])
    before, after = bars[:, :-1], bars[:, 1:]
    shared, either = (before & after).sum(axis=2), (before | after).sum(axis=2)
    index = np.where(either == 0, 1.0, shared / np.maximum(1, either))
    return index.sum(axis=1) / max(1, grid.bars - 1)


def onset_position(hits: Hits, grid: GridSpec) -> PerWindow:
    """Mean step in the bar of all hits."""
    at_step = onsets_in_bar(hits, grid).astype(np.float64)
    return at_step @ np.arange(grid.steps_per_bar) / np.maximum(1, at_step.sum(axis=1))


def repetition(hits: Hits, grid: GridSpec) -> PerWindow:
    """F1 of the hits of each bar and of the bar most like it, mean over bars; a silent bar is like no other.

    1 is a window in which each bar comes twice. A window of one bar has 0.
    """
    return _likeness(hits, grid).max(axis=2).mean(axis=1)


def contrast(hits: Hits, grid: GridSpec) -> PerWindow:
    """`repetition` less the F1 of two bars, mean over all pairs.

    Large where most bars are alike and one differs, as a fill does; 0 where all pairs are equally alike.
    """
    of_pairs = _likeness(hits, grid).sum(axis=(1, 2)) / max(1, grid.bars * (grid.bars - 1))
    return repetition(hits, grid) - of_pairs


def different_bars(hits: Hits, grid: GridSpec) -> PerWindow:
    """Number of different bars; silent ones are alike."""
    bars = np.packbits(hits.reshape(len(hits), grid.bars, grid.steps_per_bar * hits.shape[2]), axis=2)
    equal = (bars[:, :, None] == bars[:, None]).all(axis=3)
    earlier = np.tri(grid.bars, k=-1, dtype=bool)
    return (~(equal & earlier).any(axis=2)).sum(axis=1, dtype=np.float64)


def bar_likeness(hits: Hits, grid: GridSpec) -> Float64[np.ndarray, "window distance"]:
    """F1 of the hits of bars one, two, ... apart, mean over such pairs of the window; 0 for two silent bars."""
    return _by_distance(_likeness(hits, grid))


def onset_likeness(hits: Hits, grid: GridSpec) -> Float64[np.ndarray, "window distance"]:
    """Share of steps that are struck in both of two bars or in neither, whatever the drums, mean over pairs as above.

    Grooving similarity (Wu and Yang 2020, arXiv 2008.01307), of sixteenths.
    """
    struck = hits.any(axis=2).reshape(len(hits), grid.bars, grid.steps_per_bar)
    return _by_distance((struck[:, :, None] == struck[:, None]).mean(axis=3))


def backbeat(hits: Hits, grid: GridSpec, drums: Sequence[str]) -> PerWindow:
    """Share of bars with a snare on every other beat, from the second on."""
    on_beats = hits[:, :: grid.steps_per_beat, _named(drums, "snare")].any(axis=2)
    return on_beats.reshape(len(hits), grid.bars, grid.beats_per_bar)[:, :, 1::2].all(axis=2).mean(axis=1)


def ending(hits: Hits, grid: GridSpec, drums: Sequence[str]) -> PerWindow:
    """`fill` of the last bar less that of the bars before; 0 where there are none."""
    if grid.bars == 1:
        return np.zeros(len(hits))
    last = (grid.bars - 1) * grid.steps_per_bar
    before = GridSpec(grid.bars - 1, grid.beats_per_bar, grid.steps_per_beat)
    of_last = GridSpec(1, grid.beats_per_bar, grid.steps_per_beat)
    return fill(hits[:, last:], of_last, drums) - fill(hits[:, :last], before, drums)


def _by_distance(of_pairs: Float64[np.ndarray, "window bar other_bar"]) -> Float64[np.ndarray, "window distance"]:
    """The mean over pairs of bars that are 1, 2, ... apart."""
    windows, bars, _ = of_pairs.shape
    means = [np.diagonal(of_pairs, apart, 1, 2).mean(axis=1) for apart in range(1, bars)]
    return np.array(means, dtype=np.float64).reshape(bars - 1, windows).T


def _likeness(hits: Hits, grid: GridSpec) -> Float64[np.ndarray, "window bar other_bar"]:
    """F1 of the hits of two bars; 0 for a bar with itself, and for two silent ones."""
    bars = hits.reshape(len(hits), grid.bars, grid.steps_per_bar * hits.shape[2]).astype(np.float64)
    struck = bars.sum(axis=2)
    likeness = 2 * (bars @ bars.transpose(0, 2, 1)) / np.maximum(1, struck[:, :, None] + struck[:, None, :])
    likeness[:, np.arange(grid.bars), np.arange(grid.bars)] = 0
    return likeness


def steadiness(hits: Hits, grid: GridSpec, drums: Sequence[str]) -> PerWindow:
    """Share of beats on which two bars have the same strokes on hi-hats and ride, and any; mean over pairs of bars.

    Args:
        drums: name of each class. A map without such names has no timekeeper, and so 0.
    """
    keeps_time = hits[..., _named(drums, *TIMEKEEPERS)].any(axis=2)
    beats = keeps_time.reshape(len(hits), grid.bars, grid.beats_per_bar, grid.steps_per_beat)
    first, second = np.triu_indices(grid.bars, 1)
    same = (beats[:, first] == beats[:, second]).all(axis=3) & beats[:, first].any(axis=3)
    return same.sum(axis=(1, 2), dtype=np.float64) / max(1, len(first) * grid.beats_per_bar)


def stray_drums(hits: Hits) -> PerWindow:
    """Number of drums that are struck once or twice in the window."""
    of_drum = hits.sum(axis=1)
    return ((of_drum > 0) & (of_drum <= MOST_STRAY)).sum(axis=1, dtype=np.float64)


def quality_figures(hits: Hits, grid: GridSpec, drums: Sequence[str]) -> dict[str, PerWindow]:
    """What `quality` is made of, by name."""
    return {
        "repetition": repetition(hits, grid),
        "contrast": contrast(hits, grid),
        "steadiness": steadiness(hits, grid, drums),
        "stray_drums": stray_drums(hits),
    }


def quality(hits: Hits, grid: GridSpec, drums: Sequence[str]) -> PerWindow:
    """How much a groove is built as played ones are, 0 to 1; it does not say whether it pleases.

    A logistic regression of `quality_figures`, fitted to tell GMD's training windows (1) from samples of the model
    `generation` (0) as it was before its prior was learnt, both of equal weight: at .5 it was as much one as the other.
    The area under the ROC curve of validation windows against other samples is .669; the figures were chosen with a
    view to it. A backbeat tells nothing (.52 alone), and strokes that no other bar has got the wrong sign beside the
    others (.56 alone), so they are left out. `tests/experiments/groove_quality.py` fits the weights.

    Args:
        drums: name of each class.
    """
    figures = quality_figures(hits, grid, drums).values()
    log_odds = sum(weight * figure for weight, figure in zip(QUALITY_WEIGHTS, figures, strict=True)) + QUALITY_BIAS
    return (1 / (1 + np.exp(-log_odds))).round(QUALITY_DECIMALS)


def onsets_in_bar(hits: Hits, grid: GridSpec) -> Int64[np.ndarray, "window step_in_bar"]:
    """How many hits of the window, all drums and bars, fall on each step of the bar."""
    of_step = hits.sum(axis=2, dtype=np.int64)
    return of_step.reshape(len(hits), grid.bars, grid.steps_per_bar).sum(axis=1)


def _prime_factors(number: int) -> list[int]:
    """In ascending order: 12 gives 2, 2, 3."""
    factors, divisor = [], 2
    while number > 1:
        if number % divisor:
            divisor += 1
        else:
            factors.append(divisor)
            number //= divisor
    return factors


def attribute_names(drums: Sequence[str]) -> tuple[str, ...]:
    """The names in order: those of the whole kit, then each drum class, whose attribute is its share of the hits."""
    return (*OF_THE_WHOLE_KIT, *drums)


def measure_attributes(
    hits: Bool[np.ndarray, "window step drum"], grid: GridSpec, drums: Sequence[str]
) -> Float64[np.ndarray, "window attribute"]:
    """The attributes of each window, in the order of `attribute_names`.

    density: hits a bar. syncopation: Longuet-Higgins and Lee 1984, a bar. fill: share of beats. Drums: share of hits.
    """
    of_kit = [hits_per_bar(hits, grid), syncopation(hits, grid), fill(hits, grid, drums)]
    return np.column_stack([*of_kit, drum_shares(hits)])


@dataclass(frozen=True, slots=True, eq=False)
class GrooveStatistics:
    """Counts over windows; every share and mean follows from them.

    Attributes:
        windows: windows counted.
        empty: windows without a single hit.
        bars: bars of all windows, empty ones included.
        hits: hits of each drum class.
    """

    windows: int
    empty: int
    bars: int
    hits: Int64[np.ndarray, " drum"]

    def __add__(self, other: "GrooveStatistics") -> "GrooveStatistics":
        return GrooveStatistics(
            self.windows + other.windows, self.empty + other.empty, self.bars + other.bars, self.hits + other.hits
        )

    @property
    def empty_share(self) -> float:
        """Share of windows without a hit, in 0..1."""
        return self.empty / max(1, self.windows)

    @property
    def hits_per_bar(self) -> float:
        """Mean number of hits in a bar, over all drum classes."""
        return int(self.hits.sum()) / max(1, self.bars)

    @property
    def class_shares(self) -> Float64[np.ndarray, " drum"]:
        """Share of each drum class among all hits; they sum to 1, or are all 0 without hits."""
        return self.hits / max(1, int(self.hits.sum()))


def count_grooves(hits: Bool[np.ndarray, "window step drum"], grid: GridSpec) -> GrooveStatistics:
    """The statistics of some windows."""
    of_drum = hits.sum(axis=1, dtype=np.int64)
    return GrooveStatistics(
        windows=len(hits),
        empty=int((of_drum.sum(axis=1) == 0).sum()),
        bars=len(hits) * grid.bars,
        hits=of_drum.sum(axis=0),
    )
