"""How hits are played, in figures: what a performance model is worth on a split, and what playing is like.

Nats:
    Velocity over its 127 values, offset over 120 values a step, each hit given the score and how the hits before it
    were played; from sums that ranks can add. Lower is better.

Playing of many windows:
    Figures come with their resamples: windows of one performance overlap, so performances are drawn, and not windows
    (`musicvae.evaluation.bootstrap`). They say something beside those of people who play the same hits, and beside two
    controls: the offsets shuffled within each window, and people beside other people.

GrooveEvaluator:
    github.com/behzadhaki/GrooveEvaluator, with hvo_sequence, publishes figures of its own. They are here as it defines
    them, in `published_values`, though two do not measure what they are called: its swing is mostly the spread of
    offsets, and its maximum of the autocorrelation is the sum of squared velocities.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64

from musicvae.data.windows import PlayedWindows
from musicvae.evaluation.bootstrap import ResampledFigure, Resamples
from musicvae.groove.played import MANNER, PlayedHits
from musicvae.performance.model import HitNats, PerformanceModel
from musicvae.randomness import Purpose, generator

WINDOWS_AT_ONCE = 64
MINUTE_MS = 60_000
PAIRS = (("kick", "closed_hihat"), ("snare", "closed_hihat"), ("kick", "ride"), ("snare", "ride"))
"""Drums whose distance on one step is measured."""
GHOST = 40
"""A snare hit below this velocity is a soft one."""
LATE_MS = 12.0
"""From which on GrooveEvaluator takes a hit as early or late."""
GAP_BINS, WIDEST_GAP = 3000, 300.0
"""Milliseconds between two drums, counted into bins so that their median can be resampled."""


@torch.no_grad()
def nats_of_hits(model: PerformanceModel, windows: PlayedWindows) -> HitNats:
    """Nats of each hit of some windows, where nothing of their manner is given.

    Args:
        model: in evaluation mode, on the CPU.
    """
    parts = []
    for first in range(0, len(windows), WINDOWS_AT_ONCE):
        rows = slice(first, first + WINDOWS_AT_ONCE)
        part = PlayedWindows(windows.velocity[rows], windows.offset[rows], windows.tempo[rows])
        played = part.hits()
        velocity, ticks, tempo = map(torch.from_numpy, (played.midi_velocity(), played.ticks(), part.tempo))
        nats = model(velocity, ticks, tempo, torch.full((len(part), len(MANNER)), torch.nan))
        parts.append((nats.window + first, nats.velocity, nats.offset))
    window, velocity, offset = map(torch.cat, zip(*parts, strict=True))
    return HitNats(window, velocity, offset)


@dataclass(frozen=True, slots=True)
class PlayingSums:
    """Sums over hits. Additive over disjoint sets of windows.

    Attributes:
        windows, hits: how many.
        velocity, offset: nats, where nothing of the window's manner is given.
        given_hits: hits that were also measured with the window's manner given.
        velocity_given, offset_given: nats of these.
    """

    windows: float = 0.0
    hits: float = 0.0
    velocity: float = 0.0
    offset: float = 0.0
    given_hits: float = 0.0
    velocity_given: float = 0.0
    offset_given: float = 0.0

    def to_vector(self) -> Float64[np.ndarray, " sums"]:
        """All sums in a row."""
        return np.array(astuple(self))

    @classmethod
    def from_vector(cls, vector: Float64[np.ndarray, " sums"]) -> "PlayingSums":
        """Exact inverse of `to_vector`."""
        return cls(*vector.tolist())


@dataclass(frozen=True, slots=True)
class PlayingReport:
    """The figures of an evaluation, nats per hit. A figure that was not measured is NaN.

    Attributes:
        velocity, offset: where nothing of the window's manner is given.
        velocity_given, offset_given: where the window's own level, spread, lean, looseness and swing are given.
    """

    windows: int
    hits: int
    velocity: float
    offset: float
    velocity_given: float
    offset_given: float

    @property
    def nats(self) -> float:
        """Of velocity and offset together."""
        return self.velocity + self.offset

    @classmethod
    def from_sums(cls, sums: PlayingSums) -> "PlayingReport":
        hits, given = sums.hits or np.nan, sums.given_hits or np.nan
        return cls(
            int(sums.windows),
            int(sums.hits),
            sums.velocity / hits,
            sums.offset / hits,
            sums.velocity_given / given,
            sums.offset_given / given,
        )


@torch.no_grad()
def evaluate_playing(
    model: PerformanceModel, windows: PlayedWindows, *, device: torch.device, given: bool = False
) -> PlayingSums:
    """The sums over some windows of a split, possibly none; the model's training mode is left as it was.

    Args:
        given: also measure with the manner of each window given.
    """
    if not len(windows):
        return PlayingSums()
    played, was_training = windows.hits(), model.training
    model.eval()
    try:
        velocity, ticks, tempo, manner = (
            torch.from_numpy(values).to(device)
            for values in (played.midi_velocity(), played.ticks(), windows.tempo, played.manner())
        )
        free = model(velocity, ticks, tempo, torch.full_like(manner, torch.nan)).total()
        shown = model(velocity, ticks, tempo, manner).total() if given else (0.0, 0.0)
    finally:
        model.train(was_training)
    hits = float(played.hits.sum())
    return PlayingSums(float(len(windows)), hits, free[0], free[1], hits if given else 0.0, shown[0], shown[1])


class PlayingScale:
    """Measures figures of values that belong to windows, and their resamples.

    Args:
        performance: of each window.
    """

    def __init__(self, performance: Int64[np.ndarray, " window"], resamples: Resamples) -> None:
        self.performance, self.counts = performance, resamples.counts

    def mean(self, values: Float[np.ndarray, " value"], window: Int64[np.ndarray, " value"]) -> ResampledFigure:
        """Their mean."""
        return self._figure(_ratio, self._sums(window, np.ones(len(values)), values))

    def deviation(self, values: Float[np.ndarray, " value"], window: Int64[np.ndarray, " value"]) -> ResampledFigure:
        """Their standard deviation."""
        wide = values.astype(np.float64)
        return self._figure(_deviation, self._sums(window, np.ones(len(wide)), wide, wide**2))

    def correlation(
        self, a: Float[np.ndarray, " pair"], b: Float[np.ndarray, " pair"], window: Int64[np.ndarray, " pair"]
    ) -> ResampledFigure:
        """Pearson's coefficient of pairs of values."""
        a, b = a.astype(np.float64), b.astype(np.float64)
        return self._figure(_coefficient, self._sums(window, np.ones(len(a)), a, b, a * a, b * b, a * b))

    def median_gap(self, gaps: Float[np.ndarray, " gap"], window: Int64[np.ndarray, " gap"]) -> ResampledFigure:
        """The median of gaps in milliseconds; in the resamples to a tenth."""
        bins = (gaps / WIDEST_GAP * GAP_BINS).astype(np.int64).clip(0, GAP_BINS - 1)
        performances = self.counts.shape[1]
        counted = np.bincount(self.performance[window] * GAP_BINS + bins, minlength=performances * GAP_BINS)
        below = np.cumsum(self.counts @ counted.reshape(performances, GAP_BINS), axis=1)
        middle = (below < below[:, -1:] / 2).sum(axis=1) + 0.5
        replicates = np.where(below[:, -1] > 0, middle * WIDEST_GAP / GAP_BINS, np.nan)
        return ResampledFigure(float(np.median(gaps)) if len(gaps) else np.nan, replicates)

    def _sums(
        self, window: Int64[np.ndarray, " value"], *values: Float[np.ndarray, " value"]
    ) -> list[Float64[np.ndarray, " performance"]]:
        owner, performances = self.performance[window], self.counts.shape[1]
        return [np.bincount(owner, weights=each, minlength=performances) for each in values]

    def _figure(self, of_sums: Callable[..., np.ndarray], sums: Sequence[np.ndarray]) -> ResampledFigure:
        with np.errstate(invalid="ignore", divide="ignore"):
            value = of_sums(*(each.sum(keepdims=True) for each in sums))
            return ResampledFigure(float(value[0]), of_sums(*(self.counts @ each for each in sums)))


def _ratio(count: np.ndarray, total: np.ndarray) -> np.ndarray:
    return total / count


def _deviation(count: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    return np.sqrt((squares / count - (total / count) ** 2).clip(min=0))


def _coefficient(
    n: np.ndarray, a: np.ndarray, b: np.ndarray, aa: np.ndarray, bb: np.ndarray, ab: np.ndarray
) -> np.ndarray:
    covariance = ab / n - a * b / n**2
    return covariance / np.sqrt((aa / n - (a / n) ** 2) * (bb / n - (b / n) ** 2))


def playing_figures(
    played: PlayedHits, tempo: Float[np.ndarray, " window"], drums: Sequence[str], bar: int, scale: PlayingScale
) -> dict[str, ResampledFigure]:
    """What the playing of some windows is like. Figures of drums that there are not are left out.

    Args:
        tempo: of each window, quarter notes per minute.
        drums: names of the drum classes.
        bar: steps of a bar of four quarters.
    """
    hits, velocity, offset, manner = played.hits, played.velocity, played.offset, played.manner()
    window, every = np.nonzero(hits)[0], np.arange(len(hits))
    both = hits[:, bar:] & hits[:, :-bar]
    pair_window = np.nonzero(both)[0]

    def of_manner(name: str, measure: Callable[..., ResampledFigure]) -> ResampledFigure:
        values = manner[:, MANNER.index(name)]
        known = np.isfinite(values)
        return measure(values[known], every[known])

    def a_bar_later(values: np.ndarray) -> ResampledFigure:
        return scale.correlation(values[:, bar:][both], values[:, :-bar][both], pair_window)

    loudness = played.midi_velocity()
    figures = {
        "offset: standard deviation, steps": scale.deviation(offset[hits], window),
        "velocity: standard deviation, of 1": scale.deviation(velocity[hits], window),
        "offset: standard deviation within a window": of_manner("looseness", scale.mean),
        "velocity: standard deviation within a window": of_manner("spread", scale.mean),
        "velocity: correlation with the same cell a bar later": a_bar_later(velocity),
        "offset: correlation with the same cell a bar later": a_bar_later(offset),
        "swing: standard deviation over windows, steps": of_manner("swing", scale.deviation),
        "velocities of exactly 127, %": scale.mean(100.0 * (loudness[hits] == 127), window),
    }
    if "snare" in drums:
        snare = list(drums).index("snare")
        struck = hits[:, :, snare]
        soft = 100.0 * (loudness[:, :, snare][struck] < GHOST)
        figures[f"snare hits below {GHOST}, %"] = scale.mean(soft, np.nonzero(struck)[0])
    milliseconds = offset * (4 * MINUTE_MS / bar / tempo)[:, None, None]
    for names in PAIRS:
        if set(names) <= set(drums):
            a, b = (list(drums).index(name) for name in names)
            together = hits[:, :, a] & hits[:, :, b]
            gaps = np.abs(milliseconds[:, :, a] - milliseconds[:, :, b])[together]
            name = f"median gap on a step, ms: {' and '.join(names)}".replace("_", " ")
            figures[name] = scale.median_gap(gaps, np.nonzero(together)[0])
    return figures


def shuffled_offsets(played: PlayedHits, seed: int) -> PlayedHits:
    """The same with the offsets of each window given to others of its hits: what is left is no timing of a player."""
    offset, draw = played.offset.copy(), generator(seed, Purpose.RESAMPLE, 1)
    for window, hits in enumerate(played.hits):
        offset[window][hits] = draw.permutation(offset[window][hits])
    return replace(played, offset=offset)


def published_values(
    played: PlayedHits, tempo: Float[np.ndarray, " window"], drums: Sequence[str], bar: int
) -> dict[str, Float64[np.ndarray, " window"]]:
    """The figures of GrooveEvaluator, of each window, as it defines them; NaN where one cannot be had.

    Offsets are in steps, late is positive; velocities are of 1.

    Args:
        bar: steps of a bar of four beats.
    """
    hits = played.hits
    velocity = np.where(hits, played.velocity, 0).astype(np.float64)
    offset = np.where(hits, played.offset.astype(np.float64), np.nan)
    late = np.where(offset[:, 1::2] > 0, offset[:, 1::2], np.nan)
    of_eighths = np.abs(_nan_mean(offset[:, ::2], axis=2))
    half = velocity.shape[1] // 2
    first, second = velocity[:, :half], velocity[:, half : 2 * half]
    likeness = np.where((first > 0) & (second > 0), 1 - np.abs(first - second), np.nan)
    values = {
        "swing (2 x mean of positive offsets on odd steps)": 2 * np.nan_to_num(_nan_mean(late, axis=(1, 2))),
        "timing accuracy (mean size of the eighths' mean offset)": _nan_mean(of_eighths, axis=1),
        "offset: mean": _nan_mean(offset, axis=(1, 2)),
        "offset: standard deviation": played.manner()[:, MANNER.index("looseness")].astype(np.float64),
        "velocity: mean": _nan_mean(np.where(hits, velocity, np.nan), axis=(1, 2)),
        "velocity: standard deviation": played.manner()[:, MANNER.index("spread")].astype(np.float64),
        "velocity similarity of the halves (cells hit in both)": _nan_mean(likeness, axis=(1, 2)),
        "autocorrelation maximum (squared velocities, two bars)": (velocity**2).sum(axis=(1, 2)) / (half / bar),
    }
    if {"kick", "snare", "closed_hihat"} <= set(drums):
        values["laid-backness (late less early, its slices of bars)"] = _laid_back(played, tempo, drums, bar)
    return values


def _laid_back(
    played: PlayedHits, tempo: Float[np.ndarray, " window"], drums: Sequence[str], bar: int
) -> Float64[np.ndarray, " window"]:
    """Kick on the first and third beat, snare on the others: late or early to the grid or to the hi-hat beside it.

    The bars are those of GrooveEvaluator: bar n begins at row n, and a drum that is not struck has the offset 0.
    """
    milliseconds = np.where(played.hits, played.offset, 0) * (4 * MINUTE_MS / bar / tempo)[:, None, None]
    kick, snare, hat = (milliseconds[:, :, list(drums).index(name)] for name in ("kick", "snare", "closed_hihat"))
    events = []
    for first in range(played.hits.shape[1] // bar):
        for beat in range(4):
            drum, row = (kick, snare)[beat % 2], first + beat * bar // 4
            events += [drum[:, row], drum[:, row] - hat[:, row]]
    lean = np.stack(events)
    return (lean > LATE_MS).mean(axis=0) - (lean < -LATE_MS).mean(axis=0)


def _nan_mean(values: Float64[np.ndarray, "*shape"], axis: int | tuple[int, ...]) -> Float64[np.ndarray, "*rest"]:
    """The mean of what is there; NaN without any."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(axis=axis, dtype=np.float64) / there.sum(axis=axis)
