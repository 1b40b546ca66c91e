"""What a model must beat: predictors that count the training windows, scored on the same windows as the model.

Conventions:
    Nats are -log p summed over the steps of a window. *Teacher-forced*: step t is predicted from the reference before
    it (next-token accuracy). *Free-running*: from the predictor's own choices, so that a predictor without a latent
    code always writes the same window. A baseline that gives no probabilities has neither nats nor samples, one that
    cannot run without a reference no free-running scores.

Baselines:
    `silence`: no hit at any step.
    `most_frequent`: the token that training has most often at each position of the bar.
    `copy_bar`: the bar before, for all bars but the first.
    `bigram`: the next token from the one before and the position in the bar.
    `back_off`: the next token from up to three tokens before it and those one and two bars ago.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int16

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.context_model import POSITION, ContextModel
from musicvae.evaluation.predictions import Guesses, Likelihoods, Predictions
from musicvae.groove.grid import GridSpec

BACK_OFF_STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Tried for the back-off chain: 1 is Witten and Bell's, more trusts coarse contexts more."""
HELD_OUT_PERFORMANCES = 5
"""Every fifth training performance judges these strengths."""


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """What a baseline makes of the reference, and windows drawn from it; None of one that has no probabilities."""

    predictions: Predictions
    samples: Int16[np.ndarray, "sample step"] | None = None

    @property
    def name(self) -> str:
        return self.predictions.name


def all_baselines(
    train: SplitTokens,
    reference: SplitTokens,
    grid: GridSpec,
    num_drums: int,
    uniforms: Float64[np.ndarray, "sample step"],
) -> list[Baseline]:
    """Every baseline, counted on `train` and scored on `reference`, weakest first.

    Args:
        uniforms: in [0, 1), choose the tokens of the samples by the inverse CDF.
    """
    return [
        silence(reference),
        most_frequent(train, reference, grid),
        copy_bar(reference, grid),
        bigram(train, reference, grid, num_drums, uniforms),
        back_off(train, reference, grid, num_drums, uniforms),
    ]


def silence(reference: SplitTokens) -> Baseline:
    """No hit at any step."""
    nothing = Guesses(np.zeros_like(reference.tokens))
    return Baseline(Predictions("silence", None, nothing, nothing))


def most_frequent(train: SplitTokens, reference: SplitTokens, grid: GridSpec) -> Baseline:
    """The token that is most frequent in training at each position of the bar."""
    by_position = train.tokens.reshape(-1, grid.steps_per_bar).T
    bar = np.array([np.bincount(tokens).argmax() for tokens in by_position], dtype=np.int16)
    same = _same_window(np.tile(bar, grid.bars), reference)
    return Baseline(Predictions("most frequent", None, same, same))


def copy_bar(reference: SplitTokens, grid: GridSpec) -> Baseline:
    """The reference's bar before; the first bar, which has none, is not scored."""
    per_bar = grid.steps_per_bar
    copied = np.zeros_like(reference.tokens)
    copied[:, per_bar:] = reference.tokens[:, :-per_bar]
    return Baseline(Predictions("copy the bar", None, Guesses(copied, first_step=per_bar), None))


def bigram(
    train: SplitTokens,
    reference: SplitTokens,
    grid: GridSpec,
    num_drums: int,
    uniforms: Float64[np.ndarray, "sample step"],
) -> Baseline:
    """Position and token before -> token, interpolated with the uniform distribution as Witten and Bell do."""
    model = ContextModel(train.tokens, grid, 1 << num_drums, [(POSITION, 1)])
    return _of_context_model("position bigram", model, reference, uniforms, strength=1.0)


def back_off(
    train: SplitTokens,
    reference: SplitTokens,
    grid: GridSpec,
    num_drums: int,
    uniforms: Float64[np.ndarray, "sample step"],
) -> Baseline:
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
    return _of_context_model("back-off Markov", model, reference, uniforms, strength=strength)


def back_off_contexts(grid: GridSpec) -> list[tuple[int, ...]]:
    """Token frequency, then one more feature at a time, from the most to the least telling.

    The order is the one of all 5,040 that is likeliest on held-out performances of the Groove MIDI Dataset's train
    split: the same place two bars and one bar ago, the last two steps, the position, the third, and the step before
    the same place one bar ago.
    """
    per_bar = grid.steps_per_bar
    return [(), (2 * per_bar,), (per_bar,), (1,), (2,), (POSITION,), (3,), (per_bar + 1,)]


def _of_context_model(
    name: str,
    model: ContextModel,
    reference: SplitTokens,
    uniforms: Float64[np.ndarray, "sample step"],
    *,
    strength: float,
) -> Baseline:
    predictions = Predictions(
        name,
        Likelihoods.exact(model.nats(reference.tokens, [strength])[0].sum(axis=1)),
        Guesses(model.likeliest(reference.tokens, strength=strength)),
        _same_window(model.greedy_window(strength=strength), reference),
    )
    return Baseline(predictions, model.sample(uniforms, strength=strength))


def _same_window(window: Int16[np.ndarray, " step"], reference: SplitTokens) -> Guesses:
    return Guesses(np.broadcast_to(window, reference.tokens.shape).astype(np.int16))
