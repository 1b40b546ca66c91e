"""How much two distributions of a feature overlap.

Overlapping area (OA): both sets of values are counted into the same 40 equal bins over their pooled range, each
histogram is scaled to the sum 1, and the smaller of the two is summed over the bins. 1 means the same distribution, 0
that no bin holds values of both. The idea is Yang and Lerch's (2020, DOI 10.1007/s00521-018-3849-7), who smooth with
kernels and compare distances within and between sets; this is the plain area of the features themselves, which has
no bandwidth to choose.

Two finite sets of the same distribution overlap by less than 1, the less the fewer values there are: so an OA says
something only beside that of a set of the same size that is known to be good (here windows of the training split).
"""

import numpy as np
from jaxtyping import Float64, Int64

BINS = 40


def overlap(a: Float64[np.ndarray, " a"], b: Float64[np.ndarray, " b"]) -> float:
    """OA of two sets of values, in 0..1; NaN if one is empty."""
    if not (len(a) and len(b)):
        return float("nan")
    edges = _edges(a, b)
    shares = [np.histogram(values, edges)[0] / len(values) for values in (a, b)]
    return float(np.minimum(*shares).sum())


def resampled_overlap(
    values: Float64[np.ndarray, " a"],
    reference: Float64[np.ndarray, " b"],
    cluster: Int64[np.ndarray, " b"],
    counts: Float64[np.ndarray, "replicate cluster"],
) -> Float64[np.ndarray, " replicate"]:
    """OA of `values` with every resample of the reference's clusters, all over the bins of the whole sets.

    Args:
        cluster: of each value of the reference.
        counts: how often each cluster is drawn in each replicate (`musicvae.evaluation.bootstrap.Resamples.counts`).
    """
    edges = _edges(values, reference)
    share = np.histogram(values, edges)[0] / len(values)
    bins = (np.searchsorted(edges, reference, side="right") - 1).clip(0, BINS - 1)
    clusters = counts.shape[1]
    by_cluster = np.bincount(cluster * BINS + bins, minlength=clusters * BINS).reshape(clusters, BINS)
    resampled = counts @ by_cluster
    whole = resampled.sum(axis=1, keepdims=True)
    shares = np.divide(resampled, whole, out=np.full(resampled.shape, np.nan), where=whole != 0)
    return np.minimum(share, shares).sum(axis=1)


def _edges(a: Float64[np.ndarray, " a"], b: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " edge"]:
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    # Constant sets share one bin, wherever it lies.
    return np.linspace(low, high if high > low else low + 1, BINS + 1)
