"""MusicVAE for 4-bar drum grooves (Roberts et al. 2018, arXiv 1803.05428).

Public names load on first use, so that `import musicvae` costs nothing: no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from musicvae.data.manifest import ShardManifest as ShardManifest
    from musicvae.errors import ConfigError as ConfigError
    from musicvae.errors import DataError as DataError
    from musicvae.groove.drum_map import DrumMap as DrumMap
    from musicvae.groove.grid import GridSpec as GridSpec
    from musicvae.groove.groove import DrumGroove as DrumGroove
    from musicvae.midi.performance import read_performance as read_performance
    from musicvae.midi.writer import write_groove as write_groove
    from musicvae.model.model import MusicVAE as MusicVAE
    from musicvae.model.settings import ModelSettings as ModelSettings
    from musicvae.pretrained.load import load as load
    from musicvae.pretrained.load import load_run as load_run
    from musicvae.pretrained.model import TrainedModel as TrainedModel
    from musicvae.pretrained.shipped import shipped_models as shipped_models
    from musicvae.training.fit import fit as fit
    from musicvae.training.settings import FitConfig as FitConfig
    from musicvae.training.world import World as World

_HOME = {
    "ConfigError": "errors",
    "DataError": "errors",
    "DrumGroove": "groove.groove",
    "DrumMap": "groove.drum_map",
    "FitConfig": "training.settings",
    "GridSpec": "groove.grid",
    "ModelSettings": "model.settings",
    "MusicVAE": "model.model",
    "ShardManifest": "data.manifest",
    "TrainedModel": "pretrained.model",
    "World": "training.world",
    "fit": "training.fit",
    "load": "pretrained.load",
    "load_run": "pretrained.load",
    "read_performance": "midi.performance",
    "shipped_models": "pretrained.shipped",
    "write_groove": "midi.writer",
}

__all__ = [
    "ConfigError",
    "DataError",
    "DrumGroove",
    "DrumMap",
    "FitConfig",
    "GridSpec",
    "ModelSettings",
    "MusicVAE",
    "ShardManifest",
    "TrainedModel",
    "World",
    "fit",
    "load",
    "load_run",
    "read_performance",
    "shipped_models",
    "write_groove",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'musicvae' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"musicvae.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
