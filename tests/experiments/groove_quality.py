"""Fits the weights of `musicvae.groove.features.quality`, and prints how well it tells played windows from samples.

    python -m tests.experiments.groove_quality --shards shards/groove

Shards of GMD, hop one bar. It is fitted to all training windows against samples of a model. The area under the ROC
curve (AUC: .5 tells nothing apart) is that of validation windows against other samples of it.
"""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Float64

import musicvae
from musicvae.data.manifest import open_shards
from musicvae.data.shards import read_tokens
from musicvae.groove.features import quality_figures
from musicvae.groove.groove import hits_from_tokens
from musicvae.pretrained.model import TrainedModel

PENALTY = 1e-3
"""On squared weights of figures that have been divided by their standard deviation: some of them are near copies."""


def measured(model: TrainedModel, tokens: np.ndarray) -> dict[str, Float64[np.ndarray, " window"]]:
    """The figures of some windows."""
    hits = hits_from_tokens(tokens, model.drum_map.num_drums)
    return quality_figures(hits, model.grid, model.drum_map.classes)


def fitted(
    played: Float64[np.ndarray, "window figure"], drawn: Float64[np.ndarray, "sample figure"]
) -> tuple[Float64[np.ndarray, " figure"], float]:
    """Weights and bias of the logistic regression, both sets of equal weight."""
    scale = played.std(axis=0)
    x = torch.from_numpy(np.concatenate([played, drawn]) / scale)
    y = torch.cat([torch.ones(len(played)), torch.zeros(len(drawn))]).double()
    share = torch.where(y == 1, 0.5 / len(played), 0.5 / len(drawn))
    parameters = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        log_odds = x @ parameters[:-1] + parameters[-1]
        error = torch.nn.functional.binary_cross_entropy_with_logits(log_odds, y, reduction="none")
        total = (share * error).sum() + PENALTY * parameters[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    *weights, bias = parameters.tolist()
    return np.array(weights) / scale, bias


def auc(of_played: Float64[np.ndarray, " window"], of_drawn: Float64[np.ndarray, " sample"]) -> float:
    """The share of pairs in which the played window has the larger figure; equal ones count half."""
    ordered = np.sort(of_drawn)
    smaller, up_to = (np.searchsorted(ordered, of_played, side=side) for side in ("left", "right"))
    return float((smaller + up_to).mean() / 2 / len(of_drawn))


def report(model: TrainedModel, shards: str, samples: int) -> Iterator[str]:
    """The lines that are printed."""
    source = open_shards(shards)
    manifest = source.manifest()
    train, validation = (measured(model, read_tokens(source, manifest, s).tokens) for s in ("train", "validation"))
    tokens = (np.stack([groove.tokens for groove in model.sample(samples, seed=seed)]) for seed in (101, 202))
    drawn, others = (measured(model, of_seed) for of_seed in tokens)
    weights, bias = fitted(*(np.column_stack([*values.values()]) for values in (train, drawn)))
    yield f"QUALITY_WEIGHTS = ({', '.join(f'{weight:.2f}' for weight in weights)})"
    yield f"QUALITY_BIAS = {bias:.2f}"
    for name in train:
        means = " ".join(f"{values[name].mean():.3f}" for values in (train, validation, others))
        yield f"{name}: train, validation, samples {means}; AUC {auc(validation[name], others[name]):.3f}"
    played, sampled = (np.column_stack([*values.values()]) @ weights for values in (validation, others))
    yield f"all together: AUC {auc(played, sampled):.3f}"


def main(
    shards: Annotated[str, typer.Option()], preset: str = "generation", samples: Annotated[int, typer.Option()] = 6000
) -> None:
    """Fit the weights and print them."""
    for line in report(musicvae.load(preset), shards, samples):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
