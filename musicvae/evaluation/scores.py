"""How well estimated tokens match reference tokens, and how much of a latent space is in use.

Conventions:
    References come first, estimates second. Tokens are int16 arrays of any shape, bit i of a token is drum class i. A
    *hit* is a (step, drum) cell that is struck; it is found only at its own step, there is no tolerance in time.
    Scores of many windows are micro averages: counts are summed over all windows, then divided once, so that no score
    depends on how windows were grouped into batches or ranks. The overall F1 pools the hits of all drums.
    A score with nothing to divide by (a drum that neither occurs nor is estimated, no windows at all) is NaN.
    There is no accuracy over cells: nearly nine in ten cells are empty, so predicting nothing would score .87.

Metrics:
    `token_accuracy`: share of steps at which all drums are right at once.
    `precision`, `recall`, `f1`: of hits, from counts.
    `active_units`: dimensions of z whose posterior mean moves with the input (Burda et al. 2016, arXiv 1509.00519).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int16

from musicvae.groove.groove import hits_from_tokens

ACTIVE_VARIANCE = 0.01
"""Variance of the posterior mean over windows above which Burda et al. (2016, section 5.2) call a dimension active."""

Counts = float | Float64[np.ndarray, "..."]
"""One count, or one for each drum."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchCounts:
    """How often estimates and references agree: what accuracy and F1 are computed from. Additive.

    Attributes:
        steps: tokens compared.
        correct: tokens that are equal.
        true_positives: hits in both, by drum.
        false_positives: hits in the estimate only, by drum.
        false_negatives: hits in the reference only, by drum.
    """

    steps: float
    correct: float
    true_positives: Float64[np.ndarray, " drum"]
    false_positives: Float64[np.ndarray, " drum"]
    false_negatives: Float64[np.ndarray, " drum"]

    @classmethod
    def empty(cls, num_drums: int) -> "MatchCounts":
        return cls(0.0, 0.0, *np.zeros((3, num_drums)))

    @classmethod
    def compare(
        cls, reference: Int16[np.ndarray, "*window"], estimated: Int16[np.ndarray, "*window"], num_drums: int
    ) -> "MatchCounts":
        """Counts of two arrays of tokens of the same shape."""
        hit, guessed = (hits_from_tokens(tokens.ravel(), num_drums) for tokens in (reference, estimated))
        return cls(
            steps=float(reference.size),
            correct=float((reference == estimated).sum()),
            true_positives=(hit & guessed).sum(axis=0, dtype=np.float64),
            false_positives=(~hit & guessed).sum(axis=0, dtype=np.float64),
            false_negatives=(hit & ~guessed).sum(axis=0, dtype=np.float64),
        )

    def __add__(self, other: "MatchCounts") -> "MatchCounts":
        return MatchCounts(
            self.steps + other.steps,
            self.correct + other.correct,
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def token_accuracy(self) -> float:
        return float(_ratio(self.correct, self.steps))

    @property
    def hit_f1(self) -> float:
        """Of all drums together."""
        return float(f1(self.true_positives.sum(), self.false_positives.sum(), self.false_negatives.sum()))

    @property
    def hit_f1_by_drum(self) -> Float64[np.ndarray, " drum"]:
        return f1(self.true_positives, self.false_positives, self.false_negatives)


def token_accuracy(reference: Int16[np.ndarray, "*window"], estimated: Int16[np.ndarray, "*window"]) -> float:
    """Share of steps whose token is right."""
    return float(_ratio(float((reference == estimated).sum()), float(reference.size)))


def precision(true_positives: Counts, false_positives: Counts) -> Float64[np.ndarray, "..."]:
    """Share of the estimated hits that are in the reference."""
    return _ratio(true_positives, np.add(true_positives, false_positives))


def recall(true_positives: Counts, false_negatives: Counts) -> Float64[np.ndarray, "..."]:
    """Share of the reference's hits that are in the estimate."""
    return _ratio(true_positives, np.add(true_positives, false_negatives))


def f1(true_positives: Counts, false_positives: Counts, false_negatives: Counts) -> Float64[np.ndarray, "..."]:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)."""
    twice = np.multiply(true_positives, 2.0)
    return _ratio(twice, twice + np.add(false_positives, false_negatives))


def active_units(mean_variance: Float64[np.ndarray, " latent"]) -> int:
    """Number of active dimensions, from the variance over windows of each dimension of mu."""
    return int((mean_variance > ACTIVE_VARIANCE).sum())


def _ratio(part: Counts, whole: Counts) -> Float64[np.ndarray, "..."]:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)
