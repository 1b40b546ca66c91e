"""The figures of the report page as plain numbers: where bars begin and end, in percent of the space that they have."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from musicvae.data.statistics import MOST_HITS, OFFSET_BINS, TEMPO_EDGES, WindowStatistics
from musicvae.groove.groove import MAX_VELOCITY

VELOCITIES_OF_A_BIN = 8
MOST_RULES = 4
"""Horizontal rules of a histogram, at most."""
MOST_TICKS = 8
"""Labels of its other axis, at most."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a row: where it begins, how wide it is (in percent), and what it stands for (a CSS class)."""

    start: float
    width: float
    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a bar chart: a name, a count, its share of some whole, and the bars that show it."""

    name: str
    count: int
    share: str
    bars: tuple[Bar, ...]
    kind: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A label on an axis, in percent of its length."""

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of a whole by bin, in one or several series.

    Attributes:
        bins: what each bin holds, in words.
        heights: of each bin of a series, such as a split, in percent of the figure's height.
        shares: the same as text, for whoever points at a bin.
    """

    name: str
    about: str
    bins: tuple[str, ...]
    heights: Mapping[str, tuple[float, ...]]
    shares: Mapping[str, tuple[str, ...]]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    def outline(self, series: str) -> str:
        """The series as an SVG path of steps, one unit a bin."""
        steps = " ".join(f"V{100 - height:.2f} H{place + 1}" for place, height in enumerate(self.heights[series]))
        return f"M0 100 {steps} V100"


def percent(part: float, whole: float) -> str:
    """A share for people: empty of nothing, never a zero that is none."""
    if not whole:
        return ""
    share = 100 * part / whole
    return "<0.1%" if 0 < share < 0.05 else ">99.9%" if 99.95 <= share < 100 else f"{share:.1f}%"


def waterfall(
    first: str,
    total: int,
    losses: Sequence[tuple[str, int, str]],
    last: str,
    parts: Mapping[str, int],
) -> list[Row]:
    """From a total through what is lost of it (name, count, note) to what is left, in parts that are CSS classes."""
    rows = [Row(first, total, "", (Bar(0, 100, "all"),) if total else (), "total")]
    left = total
    for name, count, note in losses:
        left -= count
        rows.append(Row(name, count, percent(count, total), _bars(left, {"loss": count}, total), "loss", note))
    rows.append(Row(last, left, percent(left, total), _bars(0, parts, total), "kept"))
    return rows


def ranking(counts: Mapping[str, int], whole: int, notes: Mapping[str, str]) -> list[Row]:
    """What was lost by name, in the order given, each as a bar that is measured against the largest."""
    largest = max(counts.values(), default=0)
    return [
        Row(name, count, percent(count, whole), _bars(0, {"loss": count}, largest), note=notes.get(name, ""))
        for name, count in counts.items()
    ]


def class_shares(statistics: Mapping[str, WindowStatistics], drums: Sequence[str]) -> list[tuple[str, list[Row]]]:
    """For each drum, the first at the bottom as in the grids, one row a split: its share of the split's hits."""
    highest = max((counted.grooves.class_shares.max() for counted in statistics.values()), default=0)
    figure = []
    for drum, name in reversed(list(enumerate(drums))):
        rows = []
        for split, counted in statistics.items():
            share, hits = float(counted.grooves.class_shares[drum]), int(counted.grooves.hits[drum])
            text = percent(hits, int(counted.grooves.hits.sum()))
            rows.append(Row(split, hits, text, _bars(0, {split: share}, float(highest))))
        figure.append((name.replace("_", " "), rows))
    return figure


def histograms(statistics: Mapping[str, WindowStatistics]) -> list[Histogram]:
    """Tempo, hits per bar, quantization error and velocity of the splits."""
    edges = TEMPO_EDGES.tolist()
    tempo_bins = [f"under {edges[0]}", *(f"{a} to {b}" for a, b in itertools.pairwise(edges))]
    tempo = histogram(
        "Tempo",
        "share of windows by quarter notes per minute",
        {split: counted.tempo for split, counted in statistics.items()},
        [*tempo_bins, f"{edges[-1]} or more"],
        [(place + 1, str(edge)) for place, edge in enumerate(edges)],
        trim=True,
    )
    hits = histogram(
        "Hits per bar",
        "share of bars by their number of hits",
        {split: counted.hits_per_bar for split, counted in statistics.items()},
        [*(f"{count} hits" for count in range(MOST_HITS)), f"{MOST_HITS} hits or more"],
        [(count + 0.5, str(count)) for count in range(MOST_HITS)],
        trim=True,
    )
    width = 1 / OFFSET_BINS
    offset = histogram(
        "Quantization error",
        "share of hits by distance from their step, in steps; left is early",
        {split: counted.offset for split, counted in statistics.items()},
        [f"{place * width - 0.5:+.3f} to {(place + 1) * width - 0.5:+.3f} steps" for place in range(OFFSET_BINS)],
        [(OFFSET_BINS * (0.5 + place / 4), f"{place / 4:+.2f}" if place else "0") for place in range(-2, 3)],
    )
    velocity = histogram(
        "Velocity",
        "share of hits by MIDI velocity",
        {split: counted.velocity.reshape(-1, VELOCITIES_OF_A_BIN).sum(axis=1) for split, counted in statistics.items()},
        [f"{max(1, low)} to {low + VELOCITIES_OF_A_BIN - 1}" for low in range(0, MAX_VELOCITY, VELOCITIES_OF_A_BIN)],
        [(low / VELOCITIES_OF_A_BIN, str(low)) for low in range(0, MAX_VELOCITY + 2, 32)],
    )
    return [tempo, hits, offset, velocity]


def histogram(
    name: str,
    about: str,
    counts: Mapping[str, np.ndarray],
    bins: Sequence[str],
    ticks: Sequence[tuple[float, str]],
    *,
    trim: bool = False,
) -> Histogram:
    """Puts series on one axis.

    Args:
        counts: of each bin, by series.
        bins: what each bin holds, in words.
        ticks: places in bins and their labels, which are whole numbers where there are more than `MOST_TICKS`.
        trim: cuts the empty bins at both ends off, and thins the ticks of what is left.
    """
    low, high = 0, len(bins)
    filled = np.flatnonzero(sum(counts.values()))
    if trim and len(filled):
        low, high = int(filled[0]), int(filled[-1]) + 1
    shares = {split: series[low:high] / max(1, int(series.sum())) for split, series in counts.items()}
    highest = max([1e-4, *(float(series.max(initial=0)) for series in shares.values())])
    rule = rule_distance(highest)
    top = rule * -(-highest // rule)
    inside = [(place - low, label) for place, label in ticks if low <= place <= high]
    return Histogram(
        name,
        about,
        tuple(bins[low:high]),
        {split: tuple((100 * series / top).tolist()) for split, series in shares.items()},
        {split: tuple(percent(share, 1) for share in series.tolist()) for split, series in shares.items()},
        tuple(Tick(100 * place / (high - low), label) for place, label in _thinned(inside)),
        tuple(Tick(100 * place * rule / top, f"{100 * place * rule:g}%") for place in range(1, round(top / rule) + 1)),
    )


def _thinned(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Every tick if they are few, else those at round numbers: labels are whole numbers then."""
    every = next(step for step in (1, 2, 5, 10, 20) if len(ticks) <= MOST_TICKS * step)
    if every == 1:
        return ticks
    unit = int(ticks[1][1]) - int(ticks[0][1])
    return [(place, label) for place, label in ticks if int(label) % (unit * every) == 0]


def rule_distance(length: float) -> float:
    """The distance of rules along an axis: 1, 2 or 5 times a power of ten, so that few of them reach its end."""
    power = 10.0 ** np.floor(np.log10(length / MOST_RULES))
    return float(next(power * step for step in (1, 2, 5, 10) if power * step * MOST_RULES >= length))


def _bars(start: float, parts: Mapping[str, float], whole: float) -> tuple[Bar, ...]:
    bars = []
    for kind, count in parts.items():
        if count:
            bars.append(Bar(100 * start / whole, 100 * count / whole, kind))
            start += count
    return tuple(bars)


def rules(largest: float) -> tuple[Tick, ...]:
    """Round values above zero, in percent of the largest."""
    step = rule_distance(max(largest, 1e-9))
    return tuple(
        Tick(100 * step * place / largest, number(step * place)) for place in range(1, int(largest / step) + 1)
    )


def number(value: float) -> str:
    """A value for people: as many digits as tell something, and a word instead of zeros."""
    size = abs(value)
    for unit, word in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            return f"{value / (1e3 if word == 'k' else unit):.4g}{word}"
    return f"{value:.4g}"


class Scale:
    """Values to percent of a chart's height."""

    def __init__(self, low: float, high: float, *, logarithmic: bool) -> None:
        self._measure = math.log10 if logarithmic else float
        if high - low <= 1e-9 * abs(high):
            low, high = low - 0.1 * abs(low), high + max(0.1 * abs(high), 1e-12)
        self._rules = _decade_rules(low, high) if logarithmic else _even_rules(low, high)
        self._low, self._high = self._measure(self._rules[0]), self._measure(self._rules[-1])

    def place(self, value: float) -> float:
        """Percent from the bottom; what lies outside is put on the edge."""
        inside = min(max(value, self._rules[0]), self._rules[-1])
        return 100 * (self._measure(inside) - self._low) / (self._high - self._low)

    def ticks(self) -> tuple[Tick, ...]:
        """Rules with their values."""
        return tuple(Tick(self.place(rule), number(rule)) for rule in self._rules)


def _even_rules(low: float, high: float) -> list[float]:
    """Round values from below the lowest to above the highest."""
    step = rule_distance(high - low)
    return [step * place for place in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _decade_rules(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade, or its 1 alone where there are many, from below the lowest to above the highest."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    digits = (1, 2, 5) if last - first <= 2 else (1,)
    rules = [digit * 10.0**decade for decade in range(first, last + 1) for digit in digits]
    below, above = max(rule for rule in rules if rule <= low), min(rule for rule in rules if rule >= high)
    return [rule for rule in rules if below <= rule <= above]
