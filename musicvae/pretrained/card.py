"""The page about an exported model: what it is, how good it is, how to use it.

Its figures are those that `jobs.evaluate` measured of the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicvae.errors import ConfigError, DataError, UserError
from musicvae.pretrained.model import TrainedModel
from musicvae.training.best_weights import BestWeights

FIGURES = {
    "validation.negative_elbo": "−ELBO, nats per window (lower is better)",
    "validation.reconstruction": "reconstruction, nats per window",
    "validation.kl_nats": "KL, nats per window",
    "validation.kl_bits": "KL, bits per window",
    "validation.active_units": "active latent dimensions",
    "validation.token_accuracy_teacher_forced": "token accuracy, teacher-forced",
    "validation.token_accuracy_free_running": "token accuracy, free-running",
}
EVALUATED = {
    "negative_elbo": "−ELBO, nats per window, one draw (lower is better)",
    "importance_bound": "importance-weighted bound, nats per window",
    "kl": "KL, nats per window",
    "mutual_information": "mutual information of window and code, nats",
    "free_running.token_accuracy": "token accuracy, free-running from mu, at that KL",
    "free_running.hit_f1": "hit F1, free-running from mu, at that KL",
    "teacher_forced.token_accuracy": "token accuracy, teacher-forced",
    "teacher_forced.hit_f1": "hit F1, teacher-forced",
}
SAMPLED = {
    "mean_overlap": "prior samples: overlap of feature distributions with the split, mean",
    "memorised": "prior samples: share contained in the training set",
    "duplicates": "prior samples: share of duplicates",
    "empty": "prior samples: share of empty grooves",
}
ATTRIBUTIONS = {
    "groove": """Trained on the Groove MIDI Dataset (https://magenta.tensorflow.org/datasets/groove) by Google LLC,
licensed under CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); cut into windows and quantized, as
`jobs.build_shards --source groove` does. Jon Gillick, Adam Roberts, Jesse Engel, Douglas Eck, and David Bamman.
"Learning to Groove with Inverse Sequence Transformations." ICML 2019.""",
}
"""By the data's name: what its licence asks of who passes on what was made of it."""
TITLES_AND_LICENCES = {"groove": ("Groove MIDI Dataset", "cc-by-4.0")}
"""By the data's name. What a model of other data may be used for is not known here."""
TAGS = ("music", "midi", "drums", "vae", "pytorch")


@dataclass(frozen=True, slots=True)
class EvaluationFigures:
    """What an evaluation found.

    Attributes:
        about: what it was measured on: split, windows, shards, seed.
        figures: value and 95% interval of each figure.
        samples: what grooves from the prior are like, beside the data.
    """

    about: Mapping[str, Any]
    figures: Mapping[str, tuple[float, float, float]]
    samples: Mapping[str, Any]

    def values(self) -> dict[str, Any]:
        """As JSON."""
        figures = {name: list(figure) for name, figure in self.figures.items()}
        return {"about": dict(self.about), "figures": figures, "samples": dict(self.samples)}


def read_evaluation(file: Path, weights_hash: str) -> EvaluationFigures:
    """The figures of the model with these weights from what `jobs.evaluate --json` wrote.

    Raises:
        ConfigError: there is no such file, or it does not hold this model.
        DataError: it is no such file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        models = content["models"].values()
        about = {name: value for name, value in content.items() if not isinstance(value, dict)}
        entry = next((model for model in models if model["weights"] == weights_hash), None)
        if entry and about["quick"]:
            raise ConfigError(
                f"{file} is of a --quick evaluation",
                do="run the evaluation again without --quick; quick figures must not be quoted",
            )
        if entry:
            figures = {
                name: (figure["value"], *figure["interval"])
                for name, figure in entry["figures"].items()
                if None not in (figure["value"], *figure["interval"])
            }
            kept = ("overlap", "mean_overlap", "median_distance", "memorised", "near", "duplicates", "empty")
            samples = {name: entry.get("samples", {})[name] for name in kept if name in entry.get("samples", {})}
            return EvaluationFigures(about, figures, samples)
    except OSError as error:
        cure = "give a file that jobs.evaluate --json wrote"
        raise ConfigError(f"cannot read {file}", found=error.strerror or str(error), do=cure) from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file} has no figures",
            expected="a file that jobs.evaluate --json wrote",
            found=f"{type(error).__name__}: {error}",
            do="evaluate the export again and give the new file",
        ) from None
    raise ConfigError(
        f"{file} has figures of other weights",
        expected=f"weights {weights_hash}",
        found=", ".join(str(model["weights"]) for model in models) or "no model",
        likely="an evaluation of the run, or of an export with another --dtype",
        do="evaluate the export itself: python -m jobs.evaluate --run OUT --shards SHARDS --json FILE",
    )


def model_card(
    trained: TrainedModel, best: BestWeights, origin: Mapping[str, Any], evaluation: EvaluationFigures | None = None
) -> str:
    """The card as Markdown, under a YAML header with the fields that sites for models read.

    Args:
        best: the weights as they are kept.
        origin: run id, command, commit, versions and data.
        evaluation: what an evaluation of these very weights found; without it the figures are those of training.
    """
    grid = trained.grid
    weights = sum(weight.numel() for weight in trained.model.parameters())
    versions = ", ".join(f"{name} {version}" for name, version in origin.get("packages", {}).items() if version)
    changed = " with uncommitted changes" if origin.get("dirty") else ""
    drums = "\n".join(
        f"| {bit} | {drum.replace('_', ' ')} | {', '.join(map(str, pitches))} |"
        for bit, (drum, pitches) in enumerate(trained.drum_map.pitches.items())
    )
    return f"""---
{_front_matter(trained, best, origin, evaluation)}---

# MusicVAE for drum grooves

A variational autoencoder of {grid.bars}-bar drum grooves ({grid.num_steps} steps, {grid.steps_per_beat} a beat,
{grid.beats_per_bar} beats a bar) after Roberts et al. 2018 (arXiv 1803.05428): {weights:,} weights,
{trained.latent} latent dimensions.

{_figures(trained, best, evaluation)}

## Use

```python
import musicvae

model = musicvae.load(".")  # the folder of this page
grooves = model.sample(4, seed=0)
grooves[0].to_midi("groove.mid", drum_map={json.dumps(trained.drum_map.name)})
print(grooves[0].hits.shape)  # ({grid.num_steps}, {trained.drum_map.num_drums}): steps and drum classes
{_code_example(trained)}```

From a shell, as MIDI files with a picture ({trained.feel.tempo:.0f} bpm unless `--tempo` is given); velocity and
timing are the training data's mean:

```sh
musicvae new --model . --count 16 --out grooves
```
{_attributes(trained)}
## Drum classes

| bit | class | MIDI pitches; the first is written |
| --- | --- | --- |
{drums}

## Origin

Run `{origin.get("run_id", "unknown")}`, step {trained.step:,}, weights `{best.weights_hash}`; commit
`{origin.get("commit") or "unknown"}`{changed}; {versions or "versions unknown"}.
{_command(origin)}
{ATTRIBUTIONS.get(origin.get("data", ""), "")}

Shards `{trained.fingerprint}`; velocity and
timing were measured on {trained.feel.statistics.windows:,} of their windows. The model knows the drums that it was
trained on, on the grid above: no other metre, nothing longer than a window, one velocity and timing a step and drum.
"""


def _front_matter(
    trained: TrainedModel, best: BestWeights, origin: Mapping[str, Any], evaluation: EvaluationFigures | None
) -> str:
    import yaml  # an exported model is loaded without it

    data = origin.get("data") or "unknown"
    title, licence = TITLES_AND_LICENCES.get(data, (f"shards {trained.fingerprint}", "unknown"))
    values = [(name.removeprefix("validation."), words, best.figures.get(name)) for name, words in FIGURES.items()]
    split = "validation"
    if evaluation is not None:
        values = [(name, words, evaluation.figures.get(name, (None,))[0]) for name, words in EVALUATED.items()]
        split = evaluation.about.get("split", "unknown")
    metrics = [{"type": n, "name": words, "value": float(f"{v:.4g}")} for n, words, v in values if v is not None]
    result = {
        "task": {"type": "drum-groove-generation"},
        "dataset": {"type": data, "name": title, "split": split},
        "metrics": metrics,
    }
    header = {
        "license": licence,
        "library_name": "musicvae-grooves",
        "tags": list(TAGS),
        "datasets": [data] if data in TITLES_AND_LICENCES else [],
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": "MusicVAE for drum grooves", "results": [result]}],
    }
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=200)


def _figures(trained: TrainedModel, best: BestWeights, evaluation: EvaluationFigures | None) -> str:
    if evaluation is None:
        rows = [f"| {words} | {best.figures[name]:.4g} |" for name, words in FIGURES.items() if name in best.figures]
        title = f"on the validation split, step {trained.step:,}, by training, before any rounding of the weights"
        return "\n".join([f"| {title} | |", "| --- | --- |", *rows])
    about = evaluation.about
    rows = [
        f"| {words} | {value:.4g} | {low:.4g} to {high:.4g} |"
        for name, words in EVALUATED.items()
        if name in evaluation.figures
        for value, low, high in [evaluation.figures[name]]
    ]
    rows += [
        f"| {words} | {evaluation.samples[name]:.4g} | |"
        for name, words in SAMPLED.items()
        if name in evaluation.samples
    ]
    title = f"on {about.get('windows', '?')} windows of the {about.get('split', '?')} split, with these weights"
    more = "All figures are in config.json, under `evaluation`."
    return "\n".join([f"| {title} | | 95% interval |", "| --- | --- | --- |", *rows, "", more])


def _code_example(trained: TrainedModel) -> str:
    """What one does with codes, where there are any."""
    if not trained.latent:
        return ""
    return """
code = model.encode(grooves[0])[0]
path = model.interpolate(grooves[0], grooves[1], 5)
near = model.vary(grooves[0], distance=0.3, count=4, seed=0)
print(code.shape, len(path), len(near))
"""


def _attributes(trained: TrainedModel) -> str:
    vectors = trained.vectors
    if vectors is None:
        return ""
    rows = "\n".join(
        f"| {name} | {mean:.3g} | {deviation:.3g} | {explained:.2f} |"
        for name, mean, deviation, explained in zip(
            vectors.names, vectors.mean, vectors.deviation, vectors.explained, strict=True
        )
    )
    return f"""
`model.move(groove, density=1.5)` moves a groove by standard deviations of:

| attribute | mean over the training windows | standard deviation | share that codes explain linearly |
| --- | --- | --- | --- |
{rows}
"""


def _command(origin: Mapping[str, Any]) -> str:
    command = origin.get("command")
    return f"\nTrained by\n\n```sh\n{command}\n```\n" if command else ""
