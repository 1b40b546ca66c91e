"""A new model that starts from the weights of a trained one, as far as both are made of the same parts."""

from typing import Any

import torch

from musicvae.model.model import MusicVAE
from musicvae.model.settings import ModelSettings

PARTS = {
    "encoder": ("encoder",),
    "prior": ("prior",),
    "segments": ("conductor", "step_features"),
    "decoder": ("decoder", "history"),
}
"""Modules of `MusicVAE`, and how the names of the settings begin that they are made by."""
SHARED = ("latent", "latent_segments", "token_features")
"""Settings that all parts are made by."""


def parts_that_fit(settings: ModelSettings, trained: ModelSettings) -> tuple[str, ...]:
    """Parts that are made alike in both models; dropout, which has no weights, may be another."""
    asked, have = settings.model_dump(), trained.model_dump()
    if any(asked[name] != have[name] for name in SHARED):
        return ()
    return tuple(part for part, begins in PARTS.items() if _made_by(asked, begins) == _made_by(have, begins))


def start_from(model: MusicVAE, trained: MusicVAE, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Takes over the weights of parts; gives those that begin anew.

    What makes one of several kinds of decoder leaves the same settings of another unused, so a part with weights of
    other names or shapes begins anew too. A learnt prior that begins anew is N(0, I).
    """
    anew = []
    for part in PARTS:
        mine, theirs = getattr(model, part), getattr(trained, part)
        if part in parts and _shapes(mine) == _shapes(theirs):
            mine.load_state_dict(theirs.state_dict())
        elif _shapes(mine):
            anew.append(part)
    return tuple(anew)


def _made_by(values: dict[str, Any], begins: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name.startswith(begins) and not name.endswith("dropout")}


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in module.state_dict().items()}
