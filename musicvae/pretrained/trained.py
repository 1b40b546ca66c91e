"""A trained model from its run folder, or an export of it, without the shards that it was trained on."""

from pathlib import Path

from musicvae.data.feel import GrooveFeel
from musicvae.errors import DataError
from musicvae.generation.attribute_vectors import AttributeVectors
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.grid import GridSpec
from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_record import TrainingRecord
from musicvae.settings import parse_settings
from musicvae.training.best_weights import load_best, read_best


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
            f"{weights.parent} does not fit together",
            expected=f"velocity and timing of {grid}, the model's",
            found=str(feel.grid),
            likely="files of two runs in one folder",
            do="copy the folder again",
        )
    model = MusicVAE(settings, grid, drum_map.num_drums)
    best = load_best(weights, model)
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
    # Both are kept out of `import musicvae.pretrained.exported`, which needs no YAML; it imports this module.
    from musicvae.pretrained.exported import is_export, load
    from musicvae.training.run_folder import RunFolder

    if is_export(run):
        return load(run)
    folder = RunFolder(run)
    grid, drum_map, fingerprint = folder.shard_format()
    # The job that made the run adds settings of its own (resources, tracking); the model needs only its own.
    settings = parse_settings(ModelSettings, folder.read_config()["settings"]["model"])
    # Whether there are weights at all is asked first: without them nothing else matters.
    read_best(folder.best)
    return assembled(folder.best, settings, grid, drum_map, GrooveFeel.load(folder.feel), fingerprint)
