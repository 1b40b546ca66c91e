"""What jobs.evaluate writes: every figure in full precision, with the sums of each performance that it is the ratio of.

So that anyone can bootstrap anew: `numerator` and `denominator` of a figure have one entry for each performance of the
split, in the order of the performances' file names; the figure is the ratio of their sums. null where not defined.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.evaluation.evaluated import Evaluated
from jobs.evaluation.tables import verdict
from musicvae.evaluation.bootstrap import Difference, Interval, RatioOfSums, Resamples
from musicvae.evaluation.samples import SampleFigures

Differences = Mapping[str, Mapping[str, Mapping[str, Difference]]]
"""By model, baseline and figure."""


def as_json(
    evaluated: Sequence[Evaluated], sets: Sequence[SampleFigures], against: Differences, resamples: Resamples
) -> dict[str, Any]:
    """All figures.

    Args:
        sets: of windows of the data, beside those that predictors wrote.
        against: what models are compared with.
    """
    return {
        "baselines": {one.name: _predictor(one, resamples) for one in evaluated if one.is_baseline},
        "models": {
            one.name: _predictor(one, resamples)
            | {"less": {baseline: _differences(found) for baseline, found in against.get(one.name, {}).items()}}
            for one in evaluated
            if not one.is_baseline
        },
        "data": {one.name: _samples(one) for one in sets},
    }


def _predictor(one: Evaluated, resamples: Resamples) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if one.origin:
        trained = one.origin.trained
        values |= {
            "path": str(one.origin.path),
            "step": trained.step,
            "trained_on": trained.fingerprint,
            "weights": trained.weights_hash,
        }
    if nats := one.predictions.likelihoods:
        values |= {"latent": nats.latent, "active_units": nats.active_units}
    values["figures"] = {name: _figure(figure, resamples) for name, figure in one.figures.items()}
    if one.samples:
        values["samples"] = _samples(one.samples)
    return values


def _figure(figure: RatioOfSums, resamples: Resamples) -> dict[str, Any]:
    return {
        "value": _defined(figure.value),
        "interval": _interval(resamples.interval(figure)),
        "numerator": figure.numerator.tolist(),
        "denominator": figure.denominator.tolist(),
    }


def _samples(one: SampleFigures) -> dict[str, Any]:
    return {
        "windows": one.windows,
        "overlap": one.overlap,
        "mean_overlap": _defined(one.mean_overlap),
        "behind_train": _differences(one.behind_train),
        "median_distance": one.median_distance,
        "memorised": one.memorised,
        "near": one.near,
        "duplicates": one.duplicates,
        "empty": one.empty,
    }


def _differences(found: Mapping[str, Difference]) -> dict[str, Any]:
    return {
        name: {"value": _defined(one.value), "interval": _interval(one.interval), "verdict": verdict(name, one)}
        for name, one in found.items()
    }


def _interval(interval: Interval) -> list[float | None]:
    return [_defined(interval.low), _defined(interval.high)]


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
