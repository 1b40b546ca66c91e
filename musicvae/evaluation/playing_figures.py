"""What the playing of many windows is like: how hard and how early or late their hits are.

Figures come with their resamples: windows of one performance overlap, so performances are drawn, and not windows
(`musicvae.evaluation.bootstrap`). They say something beside those of people who play the same hits, and beside two
controls: the offsets shuffled within each window, and people beside other people.

GrooveEvaluator (github.com/behzadhaki/GrooveEvaluator, with hvo_sequence) publishes figures of its own. They are here
as it defines them, in `published_values`, though two do not measure what they are called: its swing is mostly the
spread of offsets, and its maximum of the autocorrelation is the sum of squared velocities.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from musicvae.evaluation.bootstrap import Resamples
from musicvae.groove.played import MANNER, PlayedHits
from musicvae.randomness import Purpose, generator

MINUTE_MS = 60_000
PAIRS = (("kick", "closed_hihat"), ("snare", "closed_hihat"), ("kick", "ride"), ("snare", "ride"))
"""Drums whose distance on one step is measured."""
GHOST = 40
"""A snare hit below this velocity is a soft one."""
LATE_MS = 12.0
"""From which on GrooveEvaluator takes a hit as early or late."""
GAP_BINS, WIDEST_GAP = 3000, 300.0
"""Milliseconds between two drums, counted into bins so that their median can be resampled."""
SEEDS = (0, 1, 2)
"""Of the classifier."""
FOLDS = 3
"""Shares of the performances; the classifier learns on the others of each."""
WIDTH, EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 32, 12, 128, 2e-3, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class PlayingFigure:
    """A figure of some windows: its value, and its value in every resample of their performances."""

    value: float
    replicates: Float64[np.ndarray, " replicate"]


class PlayingScale:
    """Measures figures of values that belong to windows, and their resamples.

    Args:
        performance: of each window.
    """

    def __init__(self, performance: Int64[np.ndarray, " window"], resamples: Resamples) -> None:
        self.performance, self.counts = performance, resamples.counts

    def mean(self, values: Float[np.ndarray, " value"], window: Int64[np.ndarray, " value"]) -> PlayingFigure:
        """Their mean."""
        return self._figure(_ratio, self._sums(window, np.ones(len(values)), values))

    def deviation(self, values: Float[np.ndarray, " value"], window: Int64[np.ndarray, " value"]) -> PlayingFigure:
        """Their standard deviation."""
        wide = values.astype(np.float64)
        return self._figure(_deviation, self._sums(window, np.ones(len(wide)), wide, wide**2))

    def correlation(
        self, a: Float[np.ndarray, " pair"], b: Float[np.ndarray, " pair"], window: Int64[np.ndarray, " pair"]
    ) -> PlayingFigure:
        """Pearson's coefficient of pairs of values."""
        a, b = a.astype(np.float64), b.astype(np.float64)
        return self._figure(_coefficient, self._sums(window, np.ones(len(a)), a, b, a * a, b * b, a * b))

    def median_gap(self, gaps: Float[np.ndarray, " gap"], window: Int64[np.ndarray, " gap"]) -> PlayingFigure:
        """The median of gaps in milliseconds; in the resamples to a tenth."""
        bins = (gaps / WIDEST_GAP * GAP_BINS).astype(np.int64).clip(0, GAP_BINS - 1)
        performances = self.counts.shape[1]
        counted = np.bincount(self.performance[window] * GAP_BINS + bins, minlength=performances * GAP_BINS)
        below = np.cumsum(self.counts @ counted.reshape(performances, GAP_BINS), axis=1)
        middle = (below < below[:, -1:] / 2).sum(axis=1) + 0.5
        replicates = np.where(below[:, -1] > 0, middle * WIDEST_GAP / GAP_BINS, np.nan)
        return PlayingFigure(float(np.median(gaps)) if len(gaps) else np.nan, replicates)

    def _sums(
        self, window: Int64[np.ndarray, " value"], *values: Float[np.ndarray, " value"]
    ) -> list[Float64[np.ndarray, " performance"]]:
        owner, performances = self.performance[window], self.counts.shape[1]
        return [np.bincount(owner, weights=each, minlength=performances) for each in values]

    def _figure(self, of_sums: Callable[..., np.ndarray], sums: Sequence[np.ndarray]) -> PlayingFigure:
        with np.errstate(invalid="ignore", divide="ignore"):
            value = of_sums(*(each.sum(keepdims=True) for each in sums))
            return PlayingFigure(float(value[0]), of_sums(*(self.counts @ each for each in sums)))


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
) -> dict[str, PlayingFigure]:
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

    def of_manner(name: str, measure: Callable[..., PlayingFigure]) -> PlayingFigure:
        values = manner[:, MANNER.index(name)]
        known = np.isfinite(values)
        return measure(values[known], every[known])

    def a_bar_later(values: np.ndarray) -> PlayingFigure:
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


class PlayingClassifier(nn.Module):
    """Tells two ways of playing apart: convolutions over steps that see a beat and the bars around, then the window.

    It is fixed, so that the figures of all models compare.
    """

    def __init__(self, num_drums: int, bar: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Conv1d(3 * num_drums, WIDTH, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 3, padding=4, dilation=4),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 3, padding=bar, dilation=bar),
            nn.GELU(),
        )
        self.window = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))

    def forward(self, inputs: Float[Tensor, "window channel step"]) -> Float[Tensor, " window"]:
        """Log-odds that a window is of the second way."""
        values = self.steps(inputs)
        return self.window(torch.cat([values.mean(dim=2), values.std(dim=2)], dim=1))[:, 0]


def _inputs(played: PlayedHits) -> Float[Tensor, "window channel step"]:
    """Hits, velocity and offset of each drum, of about one scale."""
    hits = played.hits.astype(np.float32)
    stacked = np.concatenate([hits, 4 * (played.velocity - 0.5) * hits, 4 * played.offset * hits], axis=2)
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 2, 1)))


def told_apart(
    first: PlayedHits,
    second: PlayedHits,
    performance: tuple[Int64[np.ndarray, " first"], Int64[np.ndarray, " second"]],
    resamples: Resamples,
    *,
    bar: int,
) -> PlayingFigure:
    """AUC of a classifier between two ways of playing: .5 where it cannot tell them apart, 1 where it always can.

    It never judges a performance that it learnt on. The mean over `SEEDS`, which draw folds and weights.

    Args:
        performance: of the windows of both; the same number is the same performance.
    """
    inputs = torch.cat([_inputs(first), _inputs(second)])
    labels, owner = np.repeat([0.0, 1.0], [len(first.hits), len(second.hits)]), np.concatenate(performance)
    weights = np.concatenate([np.ones((1, resamples.counts.shape[1])), resamples.counts])[:, owner]
    folds = min(FOLDS, len(np.unique(owner)))
    areas = []
    for seed in SEEDS if folds > 1 else ():
        share = generator(seed, Purpose.RESAMPLE, 2).permutation(int(owner.max()) + 1) % folds
        for fold in range(folds):
            held = share[owner] == fold
            if 0 < labels[held].sum() < held.sum() and 0 < labels[~held].sum() < (~held).sum():
                scores = _scores(inputs, labels, held, seed=seed, bar=bar)
                areas.append(_areas(scores, labels[held] > 0, weights[:, held]))
    if not areas:
        return PlayingFigure(np.nan, np.full(len(resamples.counts), np.nan))
    mean = _nan_mean(np.stack(areas), axis=0)
    return PlayingFigure(float(mean[0]), mean[1:])


def _scores(
    inputs: Float[Tensor, "window channel step"],
    labels: Float64[np.ndarray, " window"],
    held: Bool[np.ndarray, " window"],
    *,
    seed: int,
    bar: int,
) -> Float[np.ndarray, " held"]:
    """What a classifier that has learnt on all other windows says of those held back."""
    draw = generator(seed, Purpose.RESAMPLE, 3)
    rows, target = np.flatnonzero(~held), torch.from_numpy(labels.astype(np.float32))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = PlayingClassifier(inputs.shape[1] // 3, bar)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for _ in range(EPOCHS):
            for batch in np.array_split(draw.permutation(rows), -(-len(rows) // BATCH)):
                part = torch.from_numpy(batch)
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(model(inputs[part]), target[part]).backward()
                optimizer.step()
    with torch.no_grad():
        return model.eval()(inputs[torch.from_numpy(held)]).numpy()


def _areas(
    scores: Float[np.ndarray, " window"],
    positive: Bool[np.ndarray, " window"],
    weights: Float64[np.ndarray, "replicate window"],
) -> Float64[np.ndarray, " replicate"]:
    """Area under the ROC curve for each row of weights; of equal scores half counts. NaN where a side has no weight."""
    order = np.argsort(scores, kind="stable")
    weights, positive = weights[:, order], positive[order]
    _, group = np.unique(scores[order], return_inverse=True)
    first, last = np.searchsorted(group, group, side="left"), np.searchsorted(group, group, side="right")
    below = np.pad(np.cumsum(weights * ~positive, axis=1), [(0, 0), (1, 0)])
    won = (weights * positive * (below[:, first] + below[:, last]) / 2).sum(axis=1)
    pairs = (weights * positive).sum(axis=1) * (weights * ~positive).sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
