"""A trained model, loaded from its run folder or from an export; and an export, written.

An export is a trained model in a few files, to be kept or passed on:

    model.safetensors       the run's best weights, bit for bit, or rounded to bfloat16
    attributes.safetensors  directions of attributes in the latent space, where the shards were at hand
    training.safetensors    hashes, distributions and styles of the training windows, where the shards were at hand
    config.json             settings, grid, drum map, velocity and timing of the training data, figures, origin
    README.md               a model card

`load` needs torch and safetensors, and nothing of the run. Neither a run nor an export needs the shards that the model
was trained on.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from musicvae.data.feel import GrooveFeel
from musicvae.data.manifest import read_grid
from musicvae.durable import open_regular, write_json, write_whole
from musicvae.errors import DAMAGES, ConfigError, DataError, UserError
from musicvae.generation.attribute_vectors import AttributeVectors
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.features import GrooveStatistics
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings, most_bytes
from musicvae.pretrained.card import EvaluationFigures, model_card
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.shipped import model_folder
from musicvae.pretrained.training_record import TrainingRecord
from musicvae.settings import parse_settings
from musicvae.training.best_weights import BestWeights, load_best, read_best

FORMAT, FIRST_FORMAT = "musicvae-grooves export 2", "musicvae-grooves export 1"
"""Exports of the first format, which the shipped models have, lack the metadata `format: pt` of the weights."""
CONFIG, WEIGHTS, CARD, VECTORS = "config.json", "model.safetensors", "README.md", "attributes.safetensors"
TRAINING = "training.safetensors"
"""Exports before it have none: whether their model remembers is then unknown. The first ones with it have no styles."""
FILES = re.compile("|".join(map(re.escape, (CONFIG, WEIGHTS, CARD, VECTORS, TRAINING))))


def is_export(folder: Path) -> bool:
    """Whether a folder looks like what `write_export` makes."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def write_export(
    folder: Path,
    trained: TrainedModel,
    best: BestWeights,
    origin: Mapping[str, Any],
    evaluation: EvaluationFigures | None = None,
) -> None:
    """Fills a folder.

    Args:
        best: the weights of `trained` as they are to be kept, with the figures that training found.
        origin: where they come from: run id, command, commit, versions, data.
        evaluation: what an evaluation of these very weights found.
    """
    vectors = trained.vectors
    config = {
        "format": FORMAT,
        "step": trained.step,
        "weights": best.weights_hash,
        "model": trained.settings.model_dump(mode="json"),
        "grid": asdict(trained.grid),
        "drum_map": {"name": trained.drum_map.name, "classes": _pairs(trained.drum_map)},
        "feel": _feel_values(trained.feel),
        "shards": trained.fingerprint,
        "attributes": list(vectors.names) if vectors else [],
        "figures": dict(best.figures),
        "evaluation": evaluation.values() if evaluation else None,
        "origin": dict(origin),
    }
    if vectors:
        write_whole(folder / VECTORS, vectors.to_bytes())
    if trained.training:
        write_whole(folder / TRAINING, trained.training.to_bytes())
    write_whole(folder / WEIGHTS, best.exported())
    write_json(folder / CONFIG, config)
    write_whole(folder / CARD, model_card(trained, best, origin, evaluation))


def load(model: Path | str) -> TrainedModel:
    """Loads a model that comes with the package by its name, or what `python -m jobs.export` wrote.

    Args:
        model: `generation` or `reconstruction` (`musicvae.shipped_models()` has those that are there), or a folder.

    Raises:
        ConfigError: there is no such model.
        DataError: a file of it is missing, damaged, or of another export or program.
    """
    folder = model_folder(model)
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"no exported model in {folder}",
            expected=f"{CONFIG} and {WEIGHTS}, as jobs.export writes them",
            found="no such folder" if not folder.exists() else f"no {CONFIG} in it",
            do="correct the path, or load a run folder with musicvae.load_run",
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] not in (FORMAT, FIRST_FORMAT):
            raise ValueError(f"format {config['format']!r}, this version reads {FORMAT!r}")
        settings = parse_settings(ModelSettings, config["model"])
        grid = read_grid(config["grid"])
        classes = {drum: tuple(pitches) for drum, pitches in config["drum_map"]["classes"]}
        drum_map = DrumMap(config["drum_map"]["name"], classes)
        feel = _feel(config["feel"], grid)
        fingerprint, expected = str(config["shards"]), config["weights"]
        attributes = [str(name) for name in config.get("attributes", [])]
    except DAMAGES as error:
        problem = error.details["found"] if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise _damaged(folder / CONFIG, f"a {FORMAT}", problem) from None
    if not (folder / WEIGHTS).is_file():
        raise _damaged(folder, f"{WEIGHTS} in the folder of {CONFIG}", "no such file")
    vectors = None
    if attributes:
        try:
            with open_regular(folder / VECTORS) as file:
                vectors = AttributeVectors.from_bytes(file.read(), attributes, settings.latent)
        except (OSError, ValueError) as error:
            raise _damaged(folder / VECTORS, f"directions of {', '.join(attributes)}", str(error)) from None
    training = None
    if (folder / TRAINING).is_file():
        try:
            training = TrainingRecord.from_bytes((folder / TRAINING).read_bytes(), grid, drum_map)
        except (OSError, ValueError) as error:
            raise _damaged(folder / TRAINING, "what jobs.export wrote of the training windows", str(error)) from None
    trained = assembled(folder / WEIGHTS, settings, grid, drum_map, feel, fingerprint, vectors, training)
    if trained.weights_hash != expected:
        raise _damaged(folder / WEIGHTS, f"weights {expected}, as {CONFIG} says", f"weights {trained.weights_hash}")
    return trained


def _damaged(path: Path, expected: str, damage: str) -> DataError:
    return DataError(
        f"{path} cannot be used",
        expected=expected,
        found=damage,
        likely="an incomplete copy, an edited file, or a file of another program",
        do="copy the folder again, or export the run again: python -m jobs.export RUN OUT",
    )


def _pairs(drum_map: DrumMap) -> list[list[Any]]:
    """Classes in bit order: keys of a JSON object have none."""
    return [[drum, list(pitches)] for drum, pitches in drum_map.pitches.items()]


def _feel_values(feel: GrooveFeel) -> dict[str, Any]:
    counts = feel.statistics
    return {
        "velocity": feel.velocity.tolist(),
        "offset": feel.offset.tolist(),
        "tempo": feel.tempo,
        "statistics": {
            "windows": counts.windows,
            "empty": counts.empty,
            "bars": counts.bars,
            "hits": counts.hits.tolist(),
        },
    }


def _feel(values: Mapping[str, Any], grid: GridSpec) -> GrooveFeel:
    counts = values["statistics"]
    return GrooveFeel(
        grid=grid,
        velocity=np.array(values["velocity"], dtype=np.float32),
        offset=np.array(values["offset"], dtype=np.float32),
        tempo=float(values["tempo"]),
        statistics=GrooveStatistics(
            counts["windows"], counts["empty"], counts["bars"], np.array(counts["hits"], dtype=np.int64)
        ),
    )


def assembled(
    weights: Path,
    settings: ModelSettings,
    grid: GridSpec,
    drum_map: DrumMap,
    feel: GrooveFeel,
    fingerprint: str,
    vectors: AttributeVectors | None = None,
    training: TrainingRecord | None = None,
) -> TrainedModel:
    """A model with the weights of a file, ready to be used.

    Raises:
        ConfigError: there are no weights.
        DataError: they are damaged or another model's, or the feel is of another grid.
    """
    if feel.grid != grid:
        raise DataError(
            f"{weights.parent} has files that do not belong together",
            expected=f"velocity and timing for {grid}, the grid of the model",
            found=str(feel.grid),
            likely="files of two runs in one folder",
            do="copy the folder again",
        )
    drums = drum_map.num_drums
    model, best = load_best(weights, lambda: MusicVAE(settings, grid, drums), most_bytes(settings, grid, drums))
    return TrainedModel(
        model=model.eval().requires_grad_(False),
        settings=settings,
        grid=grid,
        drum_map=drum_map,
        feel=feel,
        step=best.step,
        fingerprint=fingerprint,
        weights_hash=best.weights_hash,
        vectors=vectors,
        training=training,
    )


def load_run(run: Path) -> TrainedModel:
    """Loads the best weights of a run folder, or an export.

    Raises:
        ConfigError: neither is there, or a run without trained weights yet.
        DataError: a file of it is damaged.
    """
    # An export is loaded without YAML, so only a run folder loads it.
    from musicvae.training.run_folder import RunFolder

    if is_export(run):
        return load(run)
    folder = RunFolder(run)
    grid, drum_map, fingerprint = folder.shard_format()
    # The job that made the run adds settings of its own (resources, tracking); the model needs only its own.
    given = folder.read_config()["settings"]
    if given.get("performance"):
        raise ConfigError(
            f"{run} holds a performance model",
            expected="a model that makes grooves (a run without the settings performance.*)",
            found="velocity and timing of given hits",
            do="name a run of another preset, or leave the option out for the shipped model",
        )
    settings = parse_settings(ModelSettings, given["model"])
    # Whether there are weights at all is asked first: without them nothing else matters.
    read_best(folder.best)
    return assembled(folder.best, settings, grid, drum_map, GrooveFeel.load(folder.feel), fingerprint)
