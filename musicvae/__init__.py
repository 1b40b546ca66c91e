"""MusicVAE for 4-bar drum grooves (Roberts et al. 2018, arXiv 1803.05428).

Public names load on first use, so that `import musicvae` costs nothing: no torch, no symusic.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from musicvae.drum_map import DrumMap as DrumMap
    from musicvae.errors import ConfigError as ConfigError
    from musicvae.errors import DataError as DataError
    from musicvae.exported import load as load
    from musicvae.fit import fit as fit
    from musicvae.fit_config import FitConfig as FitConfig
    from musicvae.grid import GridSpec as GridSpec
    from musicvae.groove import DrumGroove as DrumGroove
    from musicvae.manifest import ShardManifest as ShardManifest
    from musicvae.midi import read_performance as read_performance
    from musicvae.midi import write_groove as write_groove
    from musicvae.model import MusicVAE as MusicVAE
    from musicvae.model_settings import ModelSettings as ModelSettings
    from musicvae.shipped import shipped_models as shipped_models
    from musicvae.trained import load_run as load_run
    from musicvae.trained_model import TrainedModel as TrainedModel
    from musicvae.world import World as World

_HOME = {
    "ConfigError": "errors",
    "DataError": "errors",
    "DrumGroove": "groove",
    "DrumMap": "drum_map",
    "FitConfig": "fit_config",
    "GridSpec": "grid",
    "ModelSettings": "model_settings",
    "MusicVAE": "model",
    "ShardManifest": "manifest",
    "TrainedModel": "trained_model",
    "World": "world",
    "fit": "fit",
    "load": "exported",
    "load_run": "trained",
    "read_performance": "midi",
    "shipped_models": "shipped",
    "write_groove": "midi",
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
