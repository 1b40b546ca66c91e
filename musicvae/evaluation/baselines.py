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

Contexts:
    The last two are variable-order Markov chains, counted and smoothed by interpolation. A *context* is what the next
    token is predicted from: features such as the token before it or its position in the bar. Contexts are nested, each
    adds features to the one before, so that all contexts seen in training form a trie. The prediction of a context is
    interpolated with that of the context before it (Witten and Bell 1991, DOI 10.1109/18.87000, in the interpolated
    form of Chen and Goodman 1999, DOI 10.1006/csla.1999.0128):

        p_r(x | c) = (n(c, x) + s T(c) p_{r-1}(x | c)) / (n(c) + s T(c))

    with n(c, x) how often x followed c, n(c) its sum over x, T(c) the number of different x seen after c, and p_{-1}
    uniform. A context that was never seen passes on the prediction before it. The strength s is 1 in the papers; counts
    from overlapping windows and repeating bars are not independent, and claim more than they know unless s is greater.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int16, Int64

from musicvae.data.windows import SplitTokens
from musicvae.evaluation.predictions import Guesses, Likelihoods, Predictions
from musicvae.groove.grid import GridSpec

POSITION: Final = 0
"""The feature "position in the bar". Any other feature is a lag: the token that many steps ago."""
ALL_STEPS = slice(None)
DENSE_ROWS = 4096
"""Predictions that are held in memory at once with all their tokens' probabilities."""
BACK_OFF_STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Tried for the back-off chain: 1 is Witten and Bell's, more trusts coarse contexts more."""
HELD_OUT_PERFORMANCES = 5
"""Every fifth training performance judges these strengths."""
Rows = Int64[np.ndarray, " row"]
"""One number for each step of each window, windows one after the other."""


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """The contexts of one depth of the trie and what followed them.

    Attributes:
        features: what this context adds to the one before.
        keys: sorted; the context before and the added features, as one number.
        total: n(c).
        distinct: T(c).
        pairs: sorted; context * vocab + token of every token seen after a context.
        pair_counts: n(c, x).
        first_pair: where the pairs of a context begin.
    """

    features: tuple[int, ...]
    keys: Int64[np.ndarray, " context"]
    total: Int64[np.ndarray, " context"]
    distinct: Int64[np.ndarray, " context"]
    pairs: Int64[np.ndarray, " pair"]
    pair_counts: Int64[np.ndarray, " pair"]
    first_pair: Int64[np.ndarray, " context"]


@dataclass(frozen=True, slots=True, eq=False)
class _Contexts:
    """The context of each step at one depth; meaningless where it is not `known`."""

    known: Bool[np.ndarray, " row"]
    context: Rows


class ContextModel:
    """Counts of training windows, which predict each token from the tokens before it in its window.

    Args:
        tokens: training windows.
        contexts: the features that each nested context adds, coarse to fine; an empty one is the plain token frequency.
        vocab: number of different tokens.
    """

    def __init__(
        self, tokens: Int16[np.ndarray, "window step"], grid: GridSpec, vocab: int, contexts: Sequence[Sequence[int]]
    ) -> None:
        self.grid = grid
        self.vocab = vocab
        self.radix = max(vocab + 1, grid.steps_per_bar)
        flat = tokens.ravel().astype(np.int64)
        self.levels: list[_Level] = []
        context = np.zeros(flat.size, dtype=np.int64)
        for features in contexts:
            keys, context = np.unique(self._keys(tokens, context, features), return_inverse=True)
            pairs, counts = np.unique(context * vocab + flat, return_counts=True)
            owner = pairs // vocab
            distinct = np.bincount(owner, minlength=len(keys))
            self.levels.append(
                _Level(
                    features=tuple(features),
                    keys=keys,
                    total=np.bincount(context, minlength=len(keys)),
                    distinct=distinct,
                    pairs=pairs,
                    pair_counts=counts.astype(np.int64),
                    first_pair=np.cumsum(distinct) - distinct,
                )
            )

    def nats(
        self, tokens: Int16[np.ndarray, "window step"], strengths: Sequence[float]
    ) -> Float64[np.ndarray, "strength window step"]:
        """-log p of each token, for some strengths of the interpolation at once."""
        flat = tokens.ravel().astype(np.int64)
        strength = np.asarray(strengths, dtype=np.float64)[:, None]
        probability = np.full((len(strengths), flat.size), 1 / self.vocab)
        for level, contexts in self._contexts(tokens):
            pair = contexts.context * self.vocab + flat
            place = np.searchsorted(level.pairs, pair).clip(max=len(level.pairs) - 1)
            seen = np.where(level.pairs[place] == pair, level.pair_counts[place], 0)
            backing = strength * level.distinct[contexts.context]
            mixed = (seen + backing * probability) / (level.total[contexts.context] + backing)
            probability = np.where(contexts.known, mixed, probability)
        return -np.log(probability).reshape(len(strengths), *tokens.shape)

    def likeliest(
        self, tokens: Int16[np.ndarray, "window step"], *, strength: float
    ) -> Int16[np.ndarray, "window step"]:
        """The likeliest token of each step, given the tokens before it."""
        levels = list(self._contexts(tokens))
        chosen = [
            self._distributions(levels, slice(first, first + DENSE_ROWS), strength).argmax(axis=1)
            for first in range(0, tokens.size, DENSE_ROWS)
        ]
        return np.concatenate(chosen).astype(np.int16).reshape(tokens.shape)

    def greedy_window(self, *, strength: float) -> Int16[np.ndarray, " step"]:
        """The window in which each step is the likeliest after those chosen before it."""
        return self._written(1, lambda step, probability: probability.argmax(axis=1), strength)[0]

    def sample(
        self, uniforms: Float64[np.ndarray, "sample step"], *, strength: float
    ) -> Int16[np.ndarray, "sample step"]:
        """Windows in which each step is drawn after those drawn before it, by the inverse CDF of its uniform."""

        def draw(step: int, probability: Float64[np.ndarray, "sample vocab"]) -> Int64[np.ndarray, " sample"]:
            cumulative = probability.cumsum(axis=1)
            # Rounding may leave the last sum below 1; scaled by it, no uniform falls off the end.
            return (cumulative <= uniforms[:, step, None] * cumulative[:, -1:]).sum(axis=1).clip(max=self.vocab - 1)

        return self._written(len(uniforms), draw, strength)

    def _written(
        self,
        count: int,
        choose: Callable[[int, Float64[np.ndarray, "sample vocab"]], Int64[np.ndarray, " sample"]],
        strength: float,
    ) -> Int16[np.ndarray, "sample step"]:
        """Windows written step by step."""
        windows = np.zeros((count, self.grid.num_steps), dtype=np.int16)
        for step in range(self.grid.num_steps):
            levels = list(self._contexts(windows, slice(step, step + 1)))
            windows[:, step] = choose(step, self._distributions(levels, slice(0, count), strength))
        return windows

    def _distributions(
        self, levels: Sequence[tuple[_Level, _Contexts]], rows: slice, strength: float
    ) -> Float64[np.ndarray, "row vocab"]:
        """The probability of every token at some steps."""
        num_rows = len(levels[0][1].context[rows])
        probability = np.full((num_rows, self.vocab), 1 / self.vocab)
        for level, contexts in levels:
            known = np.flatnonzero(contexts.known[rows])
            context = contexts.context[rows][known]
            backing = strength * level.distinct[context]
            whole = level.total[context] + backing
            probability[known] *= (backing / whole)[:, None]
            # The pairs of each step's context, joined: a step's own, counted from its first.
            pairs_of = level.distinct[context]
            within = np.arange(pairs_of.sum()) - np.repeat(np.cumsum(pairs_of) - pairs_of, pairs_of)
            pair = np.repeat(level.first_pair[context], pairs_of) + within
            token = level.pairs[pair] % self.vocab
            probability[np.repeat(known, pairs_of), token] += level.pair_counts[pair] / np.repeat(whole, pairs_of)
        return probability

    def _contexts(
        self, tokens: Int16[np.ndarray, "window step"], steps: slice = ALL_STEPS
    ) -> Iterator[tuple[_Level, _Contexts]]:
        """The contexts of some steps, level by level; below an unknown context all are unknown."""
        rows = tokens[:, steps].size
        context, known = np.zeros(rows, dtype=np.int64), np.ones(rows, dtype=bool)
        for level in self.levels:
            keys = self._keys(tokens, context, level.features, steps)
            context = np.searchsorted(level.keys, keys).clip(max=len(level.keys) - 1)
            known = known & (level.keys[context] == keys)
            yield level, _Contexts(known, context)

    def _keys(
        self,
        tokens: Int16[np.ndarray, "window step"],
        context: Rows,
        features: Sequence[int],
        steps: slice = ALL_STEPS,
    ) -> Rows:
        for feature in features:
            context = context * self.radix + self._feature(tokens, feature)[:, steps].ravel()
        return context

    def _feature(self, tokens: Int16[np.ndarray, "window step"], feature: int) -> Int64[np.ndarray, "window step"]:
        """Position in the bar, or the token some steps ago; `vocab` stands for "before the window"."""
        if feature == POSITION:
            position = np.arange(tokens.shape[1], dtype=np.int64) % self.grid.steps_per_bar
            return np.broadcast_to(position, tokens.shape)
        shifted = np.full(tokens.shape, self.vocab, dtype=np.int64)
        shifted[:, feature:] = tokens[:, :-feature]
        return shifted


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
