"""What a model must beat: predictors that count the training windows, scored on the same windows as the model.

Conventions:
    Scores are those of `musicvae.scores`, nats are -log p summed over the steps of a window, then averaged.
    *Teacher-forced*: step t is predicted from the reference before it (next-token accuracy). *Free-running*: from the
    predictor's own choices, so that a predictor without a latent code always writes the same window. A baseline that
    gives no probabilities has NaN nats, one that cannot run without a reference has no free-running scores.

Baselines:
    `silence`: no hit at any step.
    `most_frequent`: the token that training has most often at each position of the bar.
    `copy_bar`: the bar before, for all bars but the first.
    `bigram`: the next token from the one before and the position in the bar.
    `back_off`: the next token from up to three tokens before it and those one and two bars ago.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16

from musicvae.context_model import POSITION, ContextModel
from musicvae.grid import GridSpec
from musicvae.scores import MatchCounts
from musicvae.shards import SplitTokens

BACK_OFF_STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Tried for the back-off chain: 1 is Witten and Bell's, more trusts coarse contexts more."""
HELD_OUT_PERFORMANCES = 5
"""Every fifth training performance judges these strengths."""


@dataclass(frozen=True, slots=True, eq=False)
class BaselineReport:
    """The figures of one baseline; see the module for the conventions."""

    name: str
    nats: float
    teacher_forced: MatchCounts
    free_running: MatchCounts


def all_baselines(train: SplitTokens, reference: SplitTokens, grid: GridSpec, num_drums: int) -> list[BaselineReport]:
    """Every baseline, counted on `train` and scored on `reference`, weakest first."""
    return [
        silence(reference, num_drums),
        most_frequent(train, reference, grid, num_drums),
        copy_bar(reference, grid, num_drums),
        bigram(train, reference, grid, num_drums),
        back_off(train, reference, grid, num_drums),
    ]


def silence(reference: SplitTokens, num_drums: int) -> BaselineReport:
    """No hit at any step."""
    counts = MatchCounts.compare(reference.tokens, np.zeros_like(reference.tokens), num_drums)
    return BaselineReport("silence", math.nan, counts, counts)


def most_frequent(train: SplitTokens, reference: SplitTokens, grid: GridSpec, num_drums: int) -> BaselineReport:
    """The token that is most frequent in training at each position of the bar."""
    by_position = train.tokens.reshape(-1, grid.steps_per_bar).T
    bar = np.array([np.bincount(tokens).argmax() for tokens in by_position], dtype=np.int16)
    counts = _compare_with_window(reference, np.tile(bar, grid.bars), num_drums)
    return BaselineReport("most frequent", math.nan, counts, counts)


def copy_bar(reference: SplitTokens, grid: GridSpec, num_drums: int) -> BaselineReport:
    """The reference's bar before; the first bar, which has none, is not scored."""
    per_bar = grid.steps_per_bar
    counts = MatchCounts.compare(reference.tokens[:, per_bar:], reference.tokens[:, :-per_bar], num_drums)
    return BaselineReport("copy the bar", math.nan, counts, MatchCounts.empty(num_drums))


def bigram(train: SplitTokens, reference: SplitTokens, grid: GridSpec, num_drums: int) -> BaselineReport:
    """Position and token before -> token, interpolated with the uniform distribution as Witten and Bell do."""
    model = ContextModel(train.tokens, grid, 1 << num_drums, [(POSITION, 1)])
    return _score_context_model("position bigram", model, reference, num_drums, strength=1.0)


def back_off(train: SplitTokens, reference: SplitTokens, grid: GridSpec, num_drums: int) -> BaselineReport:
    """Eight nested contexts, with the strength of the interpolation chosen on performances held out of training."""
    contexts = back_off_contexts(grid)
    vocab = 1 << num_drums
    strength = 1.0
    held_out = train.performance % HELD_OUT_PERFORMANCES == 0
    if held_out.any() and not held_out.all():
        partial = ContextModel(train.tokens[~held_out], grid, vocab, contexts)
        nats = partial.nats(train.tokens[held_out], BACK_OFF_STRENGTHS).mean(axis=(1, 2))
        strength = BACK_OFF_STRENGTHS[int(nats.argmin())]
    model = ContextModel(train.tokens, grid, vocab, contexts)
    return _score_context_model("back-off Markov", model, reference, num_drums, strength=strength)


def back_off_contexts(grid: GridSpec) -> list[tuple[int, ...]]:
    """Token frequency, then one more feature at a time, from the most to the least telling.

    The order is the one of all 5,040 that is likeliest on held-out performances of the Groove MIDI Dataset's train
    split: the same place two bars and one bar ago, the last two steps, the position, the third, and the step before
    the same place one bar ago.
    """
    per_bar = grid.steps_per_bar
    return [(), (2 * per_bar,), (per_bar,), (1,), (2,), (POSITION,), (3,), (per_bar + 1,)]


def _score_context_model(
    name: str, model: ContextModel, reference: SplitTokens, num_drums: int, *, strength: float
) -> BaselineReport:
    nats = model.nats(reference.tokens, [strength])[0].sum(axis=1).mean()
    forced = MatchCounts.compare(reference.tokens, model.likeliest(reference.tokens, strength=strength), num_drums)
    free = _compare_with_window(reference, model.greedy_window(strength=strength), num_drums)
    return BaselineReport(name, float(nats), forced, free)


def _compare_with_window(reference: SplitTokens, window: Int16[np.ndarray, " step"], num_drums: int) -> MatchCounts:
    estimated = np.ascontiguousarray(np.broadcast_to(window, reference.tokens.shape))
    return MatchCounts.compare(reference.tokens, estimated, num_drums)
