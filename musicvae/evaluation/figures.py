"""The figures of a predictor, each a ratio of sums over performances, so that each can have an interval.

Definitions are those of `musicvae.evaluation.scores` (token accuracy, hit F1), `musicvae.evaluation.elbo` (nats)
and `musicvae.evaluation.predictions`. Names of figures:

    negative_elbo, reconstruction, kl, importance_bound, mutual_information     nats per window
    teacher_forced.token_accuracy, teacher_forced.hit_f1                        over all steps and drums
    teacher_forced.token_accuracy.bar_1, teacher_forced.hit_f1.bar_1            over the steps of one bar
    teacher_forced.hit_f1.kick                                                  of one drum
    free_running. ...                                                           the same

A predictor lacks the names that it has no figure for.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.bootstrap import RatioOfSums
from musicvae.evaluation.predictions import Guesses, Predictions
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import hits_from_tokens

Figures = dict[str, RatioOfSums]
ALL = slice(None)


def prediction_figures(
    predictions: Predictions, reference: SplitTokens, grid: GridSpec, drum_map: DrumMap, *, first_step: int = 0
) -> Figures:
    """All figures that a predictor has.

    Args:
        reference: the windows that were predicted; their performances are what sums are kept of.
        first_step: leave the steps before this one out of the scores, to compare with a predictor that has none there.
    """
    figures: Figures = {}
    if nats := predictions.likelihoods:
        of_windows = {
            "negative_elbo": nats.negative_elbo,
            "reconstruction": nats.reconstruction,
            "kl": nats.kl,
            "importance_bound": nats.importance_bound,
            "mutual_information": nats.information,
        }
        figures |= {name: _mean(values, reference) for name, values in of_windows.items()}
    modes = {"teacher_forced": predictions.teacher_forced, "free_running": predictions.free_running}
    for mode, guesses in modes.items():
        if guesses is not None:
            matches = _Matches(reference, guesses, drum_map.num_drums, first_step)
            figures |= {f"{mode}.{name}": figure for name, figure in _scores(matches, grid, drum_map)}
    return figures


def bar_names(grid: GridSpec) -> list[str]:
    return [f"bar_{bar + 1}" for bar in range(grid.bars)]


class _Matches:
    """Cells and tokens that guesses and reference agree on; nothing is counted at steps that are not scored."""

    def __init__(self, reference: SplitTokens, guesses: Guesses, num_drums: int, first_step: int) -> None:
        self.performance = reference.performance
        steps = np.arange(reference.tokens.shape[1])
        self.scored: Bool[np.ndarray, "window step"] = np.broadcast_to(
            steps >= max(first_step, guesses.first_step), reference.tokens.shape
        )
        self.correct = (reference.tokens == guesses.tokens) & self.scored
        hit, guessed = (hits_from_tokens(tokens, num_drums) for tokens in (reference.tokens, guesses.tokens))
        self.hits_in_both = hit & guessed & self.scored[..., None]
        self.unequal = (hit != guessed) & self.scored[..., None]

    def token_accuracy(self, steps: slice) -> RatioOfSums:
        return self._ratio(_sums(self.correct[:, steps]), _sums(self.scored[:, steps]))

    def hit_f1(self, steps: slice, drums: slice) -> RatioOfSums:
        twice = 2 * _sums(self.hits_in_both[:, steps, drums])
        return self._ratio(twice, twice + _sums(self.unequal[:, steps, drums]))

    def _ratio(
        self, numerator: Float64[np.ndarray, " window"], denominator: Float64[np.ndarray, " window"]
    ) -> RatioOfSums:
        return _by_performance(numerator, denominator, self.performance)


def _scores(matches: _Matches, grid: GridSpec, drum_map: DrumMap) -> Iterator[tuple[str, RatioOfSums]]:
    yield "token_accuracy", matches.token_accuracy(ALL)
    yield "hit_f1", matches.hit_f1(ALL, ALL)
    for bar, name in enumerate(bar_names(grid)):
        steps = slice(bar * grid.steps_per_bar, (bar + 1) * grid.steps_per_bar)
        yield f"token_accuracy.{name}", matches.token_accuracy(steps)
        yield f"hit_f1.{name}", matches.hit_f1(steps, ALL)
    for drum, name in enumerate(drum_map.classes):
        yield f"hit_f1.{name}", matches.hit_f1(ALL, slice(drum, drum + 1))


def _mean(values: Float64[np.ndarray, " window"], reference: SplitTokens) -> RatioOfSums:
    return _by_performance(values, np.ones(len(values)), reference.performance)


def _by_performance(numerator: np.ndarray, denominator: np.ndarray, performance: np.ndarray) -> RatioOfSums:
    return RatioOfSums.over_windows(numerator, denominator, performance, int(performance.max(initial=-1)) + 1)


def _sums(cells: np.ndarray) -> Float64[np.ndarray, " window"]:
    return cells.reshape(len(cells), -1).sum(axis=1, dtype=np.float64)
