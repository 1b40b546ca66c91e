"""What `jobs.evaluate` evaluates, trained models and counted baselines, what it finds of each, and that as JSON.

The file has every figure in full precision, so that anyone can bootstrap anew: `numerator` and `denominator` of a
figure have one entry for each performance of the split, in the order of the performances' file names; the figure is the
ratio of their sums. null where not defined.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int16

from cluster.local import usable_cpus
from musicvae.data.manifest import ShardManifest, ShardSource
from musicvae.data.windows import SplitTokens
from musicvae.errors import ConfigError
from musicvae.evaluation.baselines import Baseline
from musicvae.evaluation.bootstrap import Difference, Interval, RatioOfSums, Resamples
from musicvae.evaluation.figures import Figures, prediction_figures
from musicvae.evaluation.predictions import EvaluatedWindows, Predictions, predict
from musicvae.evaluation.samples import SampleComparison, SampleFigures
from musicvae.generation.generate import generate
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.pretrained.load import TrainedModel, is_export, load_run
from musicvae.pretrained.performer import Performer
from musicvae.randomness import Purpose, uniforms

TRAINED_BASELINES = Path(__file__).parents[1] / "baselines"
"""Exported models that stand in every table, beside the counted baselines."""


LOWER_IS_BETTER = ("negative_elbo", "importance_bound")
Differences = Mapping[str, Mapping[str, Mapping[str, Difference]]]
"""By model, what it is compared with, and figure."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A trained model under the name that it has in the tables."""

    name: str
    path: Path
    trained: TrainedModel
    is_baseline: bool = False


def load_models(paths: list[Path], taken: list[str]) -> list[Candidate]:
    """Loads runs and exports; each is named after its folder, with the folders above where two would be the same.

    Raises:
        ConfigError: no run or export there, or one path twice.
        DataError: a damaged file.
    """
    return [Candidate(name, path, load_run(path)) for name, path in names_of(paths, taken).items()]


def names_of(paths: list[Path], taken: list[str]) -> dict[str, Path]:
    """Each path of a run or an export under its name.

    Raises:
        ConfigError: one path twice.
    """
    named: dict[str, Path] = {}
    for path in paths:
        if path.resolve() in (other.resolve() for other in named.values()):
            raise ConfigError(f"{path} is named twice", do="give each model once")
        parts = path.resolve().parts
        ends = ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
        named[next((end for end in ends if end not in {*taken, *named}), str(path))] = path
    return named


def trained_baselines(manifest: ShardManifest) -> list[Candidate]:
    """The models in `TRAINED_BASELINES` that know the shards' grid and drum map, by name."""
    folders = (path for path in sorted(TRAINED_BASELINES.glob("*")) if is_export(path))
    baselines = (Candidate(path.name, path, load_run(path), is_baseline=True) for path in folders)
    return [candidate for candidate in baselines if _difference(candidate.trained, manifest) is None]


def check_same_format(candidate: Candidate, shards: ShardSource, manifest: ShardManifest) -> None:
    """A token means another thing under another grid or drum map.

    Raises:
        ConfigError: the run and the shards differ in them.
    """
    check_format(candidate.path, candidate.trained, shards, manifest)


def check_format(path: Path, trained: TrainedModel | Performer, shards: ShardSource, manifest: ShardManifest) -> None:
    """As `check_same_format`, of what lies at a path."""
    if (difference := _difference(trained, manifest)) is None:
        return
    what, of_run, of_shards = difference
    raise ConfigError(
        f"the run and the shards differ in their {what}",
        expected=f"{of_run}, as in the training of {path}",
        found=f"{of_shards} in {shards}",
        likely="the shards were built with other settings than the training shards",
        do="give the shards that the run was trained on, or build shards with their settings",
    )


def _difference(trained: TrainedModel | Performer, manifest: ShardManifest) -> tuple[str, str, str] | None:
    """What model and shards differ in, and what it is of each; None where a token means the same to both."""
    if trained.grid != manifest.grid:
        return "grid", str(trained.grid), str(manifest.grid)
    if list(trained.drum_map.pitches.items()) != list(manifest.drum_map.pitches.items()):
        return "drum map", _described(trained.drum_map), _described(manifest.drum_map)
    return None


def other_shards_note(candidate: Candidate, manifest: ShardManifest) -> str:
    """What to keep in mind of a model that was trained on other shards."""
    return (
        f"note: {candidate.path} was trained on shards {candidate.trained.fingerprint}, not on these "
        f"({manifest.fingerprint}). These shards may contain its training windows."
    )


def _described(drum_map: DrumMap) -> str:
    pitches = ", ".join(f"{drum} {'/'.join(map(str, pitches))}" for drum, pitches in drum_map.pitches.items())
    return f"{drum_map.name} ({pitches})"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How much is measured.

    Attributes:
        draws: of z, for the importance-weighted bound.
        windows: of the split at most, spaced through its performances; None takes all.
        samples: written by each predictor, at most; None writes as many as the split has windows.
        learnt: further ones, which a classifier learns from, at most; no more than there are training windows.
        learnt_of_train: training windows that it learns from, at most; None takes all.
        classifiers: how many of these a figure is the mean of.
        replicates: resamples that an interval is taken from.
    """

    draws: int
    windows: int | None
    samples: int | None
    learnt: int
    learnt_of_train: int | None
    classifiers: int
    replicates: int


FULL = Protocol(64, windows=None, samples=None, learnt=4000, learnt_of_train=None, classifiers=3, replicates=2000)
QUICK = Protocol(8, windows=192, samples=512, learnt=128, learnt_of_train=128, classifiers=1, replicates=500)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A predictor and its figures.

    Attributes:
        origin: of a trained one.
        samples: figures of what it writes by itself; None of one that has no probabilities.
    """

    predictions: Predictions
    is_baseline: bool
    origin: Candidate | None
    figures: Figures
    samples: SampleFigures | None

    @property
    def name(self) -> str:
        return self.predictions.name


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationData:
    """What all predictors are evaluated on."""

    manifest: ShardManifest
    windows: EvaluatedWindows
    comparison: SampleComparison
    protocol: Protocol
    samples: int
    learnt: int
    seed: int

    @property
    def grid(self) -> GridSpec:
        return self.manifest.grid

    @property
    def drum_map(self) -> DrumMap:
        return self.manifest.drum_map

    @property
    def written(self) -> int:
        """Windows that each predictor writes: those that are compared, then those that a classifier learns from."""
        return self.samples + self.learnt

    def uniforms(self) -> Float64[np.ndarray, "sample step"]:
        """What the counted baselines draw tokens with: those that a model of this seed draws with."""
        return uniforms(self.seed, Purpose.DECODING, 0, 0, self.written, self.grid.num_steps)

    def compared(self, name: str, written: Int16[np.ndarray, "sample step"]) -> SampleFigures:
        """The figures of what a predictor wrote."""
        return self.comparison.samples(name, written[: self.samples], written[self.samples :])


def evaluation_data(
    manifest: ShardManifest, train: SplitTokens, whole: SplitTokens, *, quick: bool, seed: int
) -> EvaluationData:
    """What all predictors are evaluated on."""
    protocol = QUICK if quick else FULL
    samples = min(len(whole.tokens), protocol.samples or len(whole.tokens))
    comparison = SampleComparison(
        train,
        whole,
        manifest.grid,
        manifest.drum_map,
        size=samples,
        learnt=protocol.learnt_of_train,
        classifiers=protocol.classifiers,
        replicates=protocol.replicates,
        seed=seed,
        threads=usable_cpus(),
    )
    return EvaluationData(
        manifest,
        EvaluatedWindows.spaced(whole, protocol.windows),
        comparison,
        protocol,
        samples,
        min(protocol.learnt, len(train.tokens)),
        seed,
    )


def evaluate_trained(
    candidate: Candidate, evaluation: EvaluationData, *, batch: int, device: torch.device, beat: Callable[[int], None]
) -> Result:
    """All figures of a trained model; `beat` is told how many windows are done."""
    model = candidate.trained.model
    predictions = predict(
        candidate.name,
        model.to(device),
        evaluation.windows,
        seed=evaluation.seed,
        draws=evaluation.protocol.draws,
        batch=batch,
        device=device,
        on_progress=beat,
        threads=usable_cpus() if device.type == "cpu" else 1,
    )
    # Samples are those of jobs.sample, whose bits are a CPU's.
    written = np.concatenate(
        list(generate(model.cpu(), GenerationSettings(PriorSource(), seed=evaluation.seed), evaluation.written))
    )
    samples = evaluation.compared(candidate.name, written)
    return Result(predictions, candidate.is_baseline, candidate, figures_of(predictions, evaluation), samples)


def evaluate_counted(baseline: Baseline, evaluation: EvaluationData) -> Result:
    """All figures of a baseline that was counted."""
    samples = None if baseline.samples is None else evaluation.compared(baseline.name, baseline.samples)
    return Result(baseline.predictions, True, None, figures_of(baseline.predictions, evaluation), samples)


def figures_of(predictions: Predictions, evaluation: EvaluationData, *, first_step: int = 0) -> Figures:
    """The figures of a predictor on the windows evaluated."""
    return prediction_figures(
        predictions, evaluation.windows.split, evaluation.grid, evaluation.drum_map, first_step=first_step
    )


def differences(
    model: Result, baseline: Result, evaluation: EvaluationData, resamples: Resamples
) -> dict[str, Difference]:
    """Of every figure that both have: the model's less the baseline's, over the steps that both predict, paired.

    A baseline that cannot run free is given its teacher-forced scores there, an advantage.
    """
    first_step = baseline.predictions.teacher_forced.first_step
    mine = figures_of(model.predictions, evaluation, first_step=first_step) if first_step else model.figures
    theirs = baseline.figures
    if baseline.predictions.free_running is None:
        forced = {name: figure for name, figure in theirs.items() if name.startswith("teacher_forced.")}
        theirs = theirs | {name.replace("teacher_forced.", "free_running."): figure for name, figure in forced.items()}
    return {name: resamples.difference(mine[name], theirs[name]) for name in mine if name in theirs}


def verdict(name: str, difference: Difference) -> str:
    """`better`, `worse`, or `open` where the interval holds 0 or there is none."""
    if not difference.interval.excludes_zero:
        return "open"
    return "better" if (difference.value < 0) == (name in LOWER_IS_BETTER) else "worse"


def as_json(
    results: Sequence[Result], sets: Sequence[SampleFigures], against: Differences, resamples: Resamples
) -> dict[str, Any]:
    """All figures.

    Args:
        sets: of windows of the data, beside those that predictors wrote.
        against: what models are compared with.
    """
    return {
        "baselines": {result.name: _predictor(result, resamples) for result in results if result.is_baseline},
        "models": {
            result.name: _predictor(result, resamples)
            | {
                "less": {
                    baseline: _differences(differences)
                    for baseline, differences in against.get(result.name, {}).items()
                }
            }
            for result in results
            if not result.is_baseline
        },
        "data": {sample_set.name: _samples(sample_set, resamples) for sample_set in sets},
    }


def _predictor(result: Result, resamples: Resamples) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if result.origin:
        trained = result.origin.trained
        values |= {
            "path": str(result.origin.path),
            "step": trained.step,
            "trained_on": trained.fingerprint,
            "weights": trained.weights_hash,
        }
    if nats := result.predictions.likelihoods:
        values |= {"latent": nats.latent, "active_units": nats.active_units}
    values["figures"] = {name: _figure(figure, resamples) for name, figure in result.figures.items()}
    if result.samples:
        values["samples"] = _samples(result.samples, resamples)
    return values


def _figure(figure: RatioOfSums, resamples: Resamples) -> dict[str, Any]:
    return {
        "value": defined(figure.value),
        "interval": interval_values(resamples.interval(figure)),
        "numerator": figure.numerator.tolist(),
        "denominator": figure.denominator.tolist(),
    }


def _samples(samples: SampleFigures, resamples: Resamples) -> dict[str, Any]:
    auc = samples.auc
    return {
        "windows": samples.windows,
        "overlap": samples.overlap,
        "mean_overlap": defined(samples.mean_overlap),
        "behind_train": _differences(samples.behind_train),
        "equal_bars": samples.equal_bars,
        "kept": samples.kept,
        "likeness": list(samples.likeness),
        "auc": auc
        and {"value": defined(auc.value), "interval": interval_values(resamples.percentiles(auc.replicates))},
        "median_distance": samples.median_distance,
        "memorised": samples.memorised,
        "near": samples.near,
        "duplicates": samples.duplicates,
        "empty": samples.empty,
    }


def _differences(differences: Mapping[str, Difference]) -> dict[str, Any]:
    return {
        name: {
            "value": defined(difference.value),
            "interval": interval_values(difference.interval),
            "verdict": verdict(name, difference),
        }
        for name, difference in differences.items()
    }


def interval_values(interval: Interval) -> list[float | None]:
    return [defined(interval.low), defined(interval.high)]


def defined(value: float) -> float | None:
    return None if math.isnan(value) else value
