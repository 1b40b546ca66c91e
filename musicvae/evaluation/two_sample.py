"""Can a network tell two sets of windows apart? Classifier two-sample tests (Lopez-Paz and Oquab, arXiv 1610.06545).

The figure is the area under the ROC curve (AUC) of a small classifier on windows that it has not learnt from: .5 where
it cannot tell the sets apart, 1 where it always can. It sees what overlaps of single features do not: how the hits of a
window go together. Each classifier is fixed, so that the figures of all models compare.

Windows of a performance overlap, so no performance is both learnt from and judged, and intervals are from resamples of
performances (`musicvae.evaluation.bootstrap`). Figures are means over seeds, which draw weights, order and folds.

Each classifier is trained by one thread, several at a time: a sum that threads share out has another order on each
machine, and after some hundred steps another classifier comes of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int16, Int64
from torch import Tensor, nn

from musicvae.evaluation.bootstrap import ResampledFigure, Resamples
from musicvae.evaluation.predictions import in_single_threads
from musicvae.groove.groove import hits_from_tokens
from musicvae.groove.played import PlayedHits
from musicvae.randomness import Purpose, generator

SEEDS = (0, 1, 2)
FOLDS = 3
"""Shares of the performances, where one set of them is both learnt from and judged."""
WIDTH, EPOCHS, LEARNING_RATE = 32, 12, 2e-3
"""Of `PlayingClassifier`."""
CHANNELS, HIT_EPOCHS, HIT_LEARNING_RATE = 32, 4, 3e-3
"""Of `HitsClassifier`."""
BATCH, WEIGHT_DECAY = 128, 1e-3
Inputs = Float[Tensor, "window channel step"]
_DRAWING = Lock()
"""Held while weights are drawn, as torch's random numbers are those of all threads."""


class OwnDropout(nn.Module):
    """Dropout with random numbers of its own, as torch's are those of all threads.

    Attributes:
        generator: to be seeded before training.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.generator = share, torch.Generator()

    def forward(self, values: Float[Tensor, "window channel"]) -> Float[Tensor, "window channel"]:
        """Without a change where nothing is learnt."""
        if not self.training:
            return values
        return values * (torch.rand(values.shape, generator=self.generator) >= self.share) / (1 - self.share)


class PlayingClassifier(nn.Module):
    """Tells two ways of playing apart: convolutions over steps that see a beat and the bars around, then the window."""

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
        self.window = nn.Sequential(OwnDropout(0.2), nn.Linear(2 * WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))

    def forward(self, inputs: Inputs) -> Float[Tensor, " window"]:
        """Log-odds that a window is of the second way."""
        values = self.steps(inputs)
        return self.window(torch.cat([values.mean(dim=2), values.std(dim=2)], dim=1))[:, 0]


class HitsClassifier(nn.Module):
    """Tells two sets of windows apart by their hits.

    The first layer's features are multiplied by themselves a beat and a bar earlier, so that repetition can be seen.
    """

    def __init__(self, num_drums: int, beat: int, bar: int) -> None:
        super().__init__()
        self.lags = (beat, bar)
        self.of_hits = nn.Conv1d(num_drums, CHANNELS, 5, padding=2)
        self.of_products = nn.Conv1d(3 * CHANNELS, CHANNELS, 5, padding=2)
        self.window = nn.Sequential(OwnDropout(0.3), nn.Linear(2 * CHANNELS, 1))

    def forward(self, inputs: Inputs) -> Float[Tensor, " window"]:
        """Log-odds that a window is of the second set."""
        features = F.gelu(self.of_hits(inputs))
        repeated = [features * F.pad(features, (lag, 0))[..., : features.shape[2]] for lag in self.lags]
        values = F.gelu(self.of_products(torch.cat([features, *repeated], dim=1)))
        return self.window(torch.cat([values.mean(dim=2), values.amax(dim=2)], dim=1))[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """How a classifier is made and trained."""

    new: Callable[[], nn.Module]
    epochs: int
    learning_rate: float


def playing_auc(
    first: PlayedHits,
    second: PlayedHits,
    performance: tuple[Int64[np.ndarray, " first"], Int64[np.ndarray, " second"]],
    resamples: Resamples,
    *,
    bar: int,
    threads: int = 1,
) -> ResampledFigure:
    """AUC between two ways of playing; the classifier learns on some performances of both and judges the others.

    Args:
        performance: of the windows of both; the same number is the same performance.
        bar: steps of a bar.
        threads: classifiers that are trained at a time; they change no figure.
    """
    inputs = torch.cat([_played_inputs(first), _played_inputs(second)])
    fit = _Fit(lambda: PlayingClassifier(inputs.shape[1] // 3, bar), EPOCHS, LEARNING_RATE)
    labels, owner = np.repeat([0.0, 1.0], [len(first.hits), len(second.hits)]), np.concatenate(performance)
    weights = np.concatenate([np.ones((1, resamples.counts.shape[1])), resamples.counts])[:, owner]
    folds = min(FOLDS, len(np.unique(owner)))

    def areas(part: tuple[int, int]) -> Float64[np.ndarray, " replicate"]:
        seed, fold = part
        held = generator(seed, Purpose.RESAMPLE, 2).permutation(int(owner.max()) + 1)[owner] % folds == fold
        if not (0 < labels[held].sum() < held.sum() and 0 < labels[~held].sum() < (~held).sum()):
            return np.full(len(weights), np.nan)
        scores = _scores(fit, inputs[~held], labels[~held], inputs[held], seed)
        return _areas(scores, labels[held] > 0, weights[:, held])

    parts = [(seed, fold) for seed in SEEDS for fold in range(folds)] if folds > 1 else []
    return _mean([*in_single_threads(areas, parts, threads)], resamples)


@dataclass(frozen=True, slots=True, eq=False)
class HitsTest:
    """Whether the hits of windows that a model wrote can be told from those of people.

    A classifier learns to tell training windows from windows of the model, and judges windows of a held-out split and
    other windows of the model.

    Attributes:
        train, held: windows of people; no performance is in both.
        performance: of each window of `held`.
        beat, bar: their steps.
        seeds: of classifiers, of which the figure is the mean.
        threads: classifiers that are trained at a time; they change no figure.
    """

    train: Int16[np.ndarray, "window step"]
    held: Int16[np.ndarray, "held step"]
    performance: Int64[np.ndarray, " held"]
    resamples: Resamples
    num_drums: int
    beat: int
    bar: int
    seeds: Sequence[int] = SEEDS
    threads: int = 1

    def auc(
        self, learnt: Int16[np.ndarray, "sample step"], judged: Int16[np.ndarray, "judged step"]
    ) -> ResampledFigure:
        """Of a model's windows, some to learn from and others to judge; only the split's performances are resampled."""
        return self._auc(self.train, learnt, judged)

    def control(self, performance: Int64[np.ndarray, " window"]) -> ResampledFigure:
        """Of people beside people: one third of train's performances beside another, judged on the last and the split.

        Args:
            performance: of each training window.
        """
        part = generator(0, Purpose.RESAMPLE, 4).permutation(int(performance.max(initial=-1)) + 1)[performance] % 3
        return self._auc(*(self.train[part == number] for number in range(3)))

    def _auc(
        self,
        first: Int16[np.ndarray, "first step"],
        second: Int16[np.ndarray, "second step"],
        judged: Int16[np.ndarray, "judged step"],
    ) -> ResampledFigure:
        """Learnt from two sets, judged on the split, which is of the first kind, and on windows of the second."""
        if not (len(first) and len(second) and len(judged) and len(self.held)):
            return _mean([], self.resamples)
        fit = _Fit(lambda: HitsClassifier(self.num_drums, self.beat, self.bar), HIT_EPOCHS, HIT_LEARNING_RATE)
        learnt, shown = (torch.cat(list(map(self._inputs, sets))) for sets in ((first, second), (self.held, judged)))
        labels = np.repeat([0.0, 1.0], [len(first), len(second)])
        counts = np.concatenate([np.ones((1, self.resamples.counts.shape[1])), self.resamples.counts])
        weights = np.concatenate([counts[:, self.performance], np.ones((len(counts), len(judged)))], axis=1)
        is_second = np.repeat([False, True], [len(self.held), len(judged)])

        def areas(seed: int) -> Float64[np.ndarray, " replicate"]:
            return _areas(_scores(fit, learnt, labels, shown, seed), is_second, weights)

        return _mean([*in_single_threads(areas, self.seeds, self.threads)], self.resamples)

    def _inputs(self, tokens: Int16[np.ndarray, "window step"]) -> Inputs:
        hits = hits_from_tokens(tokens, self.num_drums).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(hits.transpose(0, 2, 1)))


def _played_inputs(played: PlayedHits) -> Inputs:
    """Hits, velocity and offset of each drum, of about one scale."""
    hits = played.hits.astype(np.float32)
    stacked = np.concatenate([hits, 4 * (played.velocity - 0.5) * hits, 4 * played.offset * hits], axis=2)
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 2, 1)))


def _scores(
    fit: _Fit,
    inputs: Inputs,
    labels: Float64[np.ndarray, " window"],
    judged: Float[Tensor, "judged channel step"],
    seed: int,
) -> Float[np.ndarray, " judged"]:
    """What a classifier that has learnt says of other windows. Both labels weigh the same in all."""
    draw = generator(seed, Purpose.RESAMPLE, 3)
    target = torch.from_numpy(labels.astype(np.float32))
    weight = torch.where(target > 0, 0.5 / target.mean(), 0.5 / (1 - target.mean()))
    model = _new_model(fit, seed)
    with torch.enable_grad():
        optimizer = torch.optim.AdamW(model.parameters(), lr=fit.learning_rate, weight_decay=WEIGHT_DECAY)
        for _ in range(fit.epochs):
            for batch in np.array_split(draw.permutation(len(inputs)), -(-len(inputs) // BATCH)):
                rows = torch.from_numpy(batch)
                optimizer.zero_grad()
                log_odds = model(inputs[rows])
                F.binary_cross_entropy_with_logits(log_odds, target[rows], weight[rows]).backward()
                optimizer.step()
    with torch.no_grad():
        return model.eval()(judged).numpy()


def _new_model(fit: _Fit, seed: int) -> nn.Module:
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = fit.new()
    for module in model.modules():
        if isinstance(module, OwnDropout):
            module.generator.manual_seed(seed)
    return model


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


def _mean(areas: list[Float64[np.ndarray, " replicate"]], resamples: Resamples) -> ResampledFigure:
    """Over classifiers, of those replicates where an area is defined; the first entry is the figure itself."""
    if not areas:
        return ResampledFigure(np.nan, np.full(len(resamples.counts), np.nan))
    stacked = np.stack(areas)
    there = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        mean = np.where(there, stacked, 0).sum(axis=0) / there.sum(axis=0)
    return ResampledFigure(float(mean[0]), mean[1:])
