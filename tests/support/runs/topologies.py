"""Presets shrunk in width alone, and the ranks and pieces that one global batch is shared among."""

from jobs.command.command_line import compose_settings
from jobs.training.settings import TrainConfig
from tests.support.commands import CHECKOUT

PRESETS = tuple(sorted(path.stem for path in (CHECKOUT / "jobs" / "presets").glob("*.yaml")))
ARCHITECTURES = (
    *("demo", "feed_forward", "generation", "latent_free", "performance", "reconstruction", "reconstruction_decoder"),
)
"""A preset of each."""
TOPOLOGIES = {
    "1 rank": ((1, 1),),
    "2 ranks": ((2, 1),),
    "3 ranks": ((3, 1),),
    "4 ranks": ((4, 1),),
    "2 pieces": ((1, 2),),
    "4 pieces": ((1, 4),),
    "2, then 3 ranks": ((2, 1), (3, 1)),
}
"""Ranks, and pieces that each cuts its share into, in each stretch of a run; others are compared with the first."""
NARROW = {"hidden": 16, "embedding": 8, "features": 8}


def narrow(preset: str, *overrides: str) -> TrainConfig:
    """The settings of a preset with layers, dropout and objective as they ship, for batches of 16 windows."""
    settings = compose_settings(TrainConfig, preset=preset, config=None, overrides=())
    shipped = settings.model
    widths = {name: NARROW.get(name.rpartition("_")[2]) for name in type(shipped).model_fields}
    widths["latent"] = shipped.latent and 2 * max(shipped.latent_segments, 4)
    del widths["token_features"]
    small = [f"model.{name}={width}" for name, width in widths.items() if width is not None]
    if settings.performance:
        small = [f"performance.hidden={NARROW['hidden']}"]
    small += ["data.lanes=8", "train.global_batch=16", "train.log_every=1", "train.evaluate_every=1000"]
    small += ["train.checkpoint_every=1000", "resources.threads=1"]
    return compose_settings(TrainConfig, preset=preset, config=None, overrides=[*small, *overrides])
