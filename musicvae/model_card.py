"""The page about an exported model: what it is, what it is worth, how to use it."""

from collections.abc import Mapping
from typing import Any

from musicvae.best_weights import BestWeights
from musicvae.trained_model import TrainedModel

FIGURES = {
    "validation.negative_elbo": "−ELBO, nats per window (lower is better)",
    "validation.reconstruction": "reconstruction, nats per window",
    "validation.kl_nats": "KL, nats per window",
    "validation.kl_bits": "KL, bits per window",
    "validation.active_units": "active latent dimensions",
    "validation.token_accuracy_teacher_forced": "token accuracy, teacher-forced",
    "validation.token_accuracy_free_running": "token accuracy, free-running",
}


def model_card(trained: TrainedModel, best: BestWeights, origin: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        origin: run id, commit and versions.
    """
    grid, settings = trained.grid, trained.settings
    weights = sum(weight.numel() for weight in trained.model.parameters())
    figures = "\n".join(
        f"| {words} | {best.figures[name]:.4g} |" for name, words in FIGURES.items() if name in best.figures
    )
    versions = ", ".join(f"{name} {version}" for name, version in origin.get("packages", {}).items() if version)
    drums = "\n".join(
        f"| {bit} | {drum.replace('_', ' ')} | {', '.join(map(str, pitches))} |"
        for bit, (drum, pitches) in enumerate(trained.drum_map.pitches.items())
    )
    return f"""# MusicVAE for drum grooves

A variational autoencoder of {grid.bars}-bar drum grooves ({grid.num_steps} steps, {grid.steps_per_beat} a beat,
{grid.beats_per_bar} beats a bar) after Roberts et al. 2018 (arXiv 1803.05428): {weights:,} weights,
{settings.latent} latent dimensions, {settings.decoder} decoder.

| on the validation split, step {trained.step:,} | |
| --- | --- |
{figures}

## Use

```python
import torch

import musicvae

trained = musicvae.load(".")  # the folder of this page
z = torch.randn(4, trained.model.latent)
tokens = trained.model.generate(z)
print(tokens.shape)  # (4, {grid.num_steps}): bit i of a token is drum class i, see the table below

mu = trained.model.encode(tokens).mu  # and back
print(mu.shape)
```

MIDI files, with the mean velocity and timing of the training data ({trained.feel.tempo:.0f} bpm unless told otherwise):

```sh
python -m jobs.sample --run . --count 64 --out grooves
```

## Drum classes

| bit | class | MIDI pitches; the first is written |
| --- | --- | --- |
{drums}

## Origin

Run `{origin.get("run_id", "unknown")}`, step {trained.step:,}, weights `{trained.weights_hash}`; commit
`{origin.get("commit") or "unknown"}`; {versions or "versions unknown"}. Shards `{trained.fingerprint}`; velocity and
timing were measured on {trained.feel.statistics.windows:,} of their windows. The model knows the drums that it was
trained on, on the grid above: no other metre, nothing longer than a window, one velocity and timing a step and drum.
"""
