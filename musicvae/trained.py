"""A trained model from its run folder alone, without the shards that it was trained on."""

from dataclasses import dataclass
from pathlib import Path

from musicvae.best_weights import load_best
from musicvae.drum_map import DrumMap
from musicvae.errors import DataError
from musicvae.feel import GrooveFeel
from musicvae.grid import GridSpec
from musicvae.model import ModelSettings, MusicVAE
from musicvae.run_folder import RunFolder
from musicvae.settings import parse_settings


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """What sampling and evaluation need of a run.

    Attributes:
        model: with its best weights, in evaluation mode, on the CPU, without gradients.
        feel: mean velocity and timing of the training data.
        step: the step that the weights are from.
        fingerprint: of the shards that it was trained on.
        weights_hash: sha256 of the weights file, short.
    """

    model: MusicVAE
    settings: ModelSettings
    grid: GridSpec
    drum_map: DrumMap
    feel: GrooveFeel
    step: int
    fingerprint: str
    weights_hash: str


def load_run(run: Path) -> TrainedModel:
    """Loads the best weights of a run folder.

    Raises:
        ConfigError: no run there, or no trained weights yet.
        DataError: a file of it is damaged.
    """
    folder = RunFolder(run)
    grid, drum_map, fingerprint = folder.shard_format()
    # The job that made the run adds settings of its own (resources, tracking); the model needs only its own.
    settings = parse_settings(ModelSettings, folder.read_config()["settings"]["model"])
    model = MusicVAE(settings, grid, drum_map.num_drums)
    step, weights_hash = load_best(folder.best, model)
    feel = GrooveFeel.load(folder.feel)
    if feel.grid != grid:
        raise DataError(f"{folder.feel} is of another grid", expected=str(grid), found=str(feel.grid))
    return TrainedModel(
        model=model.eval().requires_grad_(False),
        settings=settings,
        grid=grid,
        drum_map=drum_map,
        feel=feel,
        step=step,
        fingerprint=fingerprint,
        weights_hash=weights_hash,
    )
