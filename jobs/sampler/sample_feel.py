"""The style that grooves are played in: one that the model carries, or that the shards of its training have."""

from musicvae.data.style_feels import StyleFeel
from musicvae.errors import ConfigError
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_windows import training_styles


def style_of(name: str, trained: TrainedModel, shards: str | None) -> StyleFeel:
    """A style of the training data.

    Args:
        shards: folder or URL of the training windows, read where the model carries no styles.

    Raises:
        ConfigError: no such style, styles of which nothing is known, or other shards.
        DataError: a shard is damaged.
    """
    styles = None if trained.training is None else trained.training.styles
    if styles is None and shards is not None:
        styles = training_styles(trained, shards)
    if styles is None:
        raise ConfigError(
            f"--feel {name} cannot be used: nothing is known of the styles that the model was trained on",
            expected="an export with them, or --shards",
            found="no --shards, and " + ("no training data" if trained.training is None else "none") + " in the model",
            likely="a run folder, an export without --shards, or one of an earlier version",
            do="add --shards, or once: python -m jobs.export renew EXPORT --shards SHARDS",
        )
    return styles.of(name)
