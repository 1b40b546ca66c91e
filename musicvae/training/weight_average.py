"""An exponential moving average of the weights, which is judged and kept in place of the weights themselves.

The last steps' weights wander around a better point between them (Polyak and Juditsky 1992; as an exponential average
in Kingma and Ba 2015, section 7.2).
"""

import copy

import torch
from torch import nn

from musicvae.model.model import MusicVAE

EARLY = 10
"""The average of the first n steps goes back over about n / this many of them, not over its full length."""


class WeightAverage:
    """The average of a model's weights over its steps.

    Attributes:
        model: holds the average, without gradients.
    """

    def __init__(self, model: MusicVAE, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def follow(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the weights after `step` updates."""
        share = 1 - min(self.decay, (step + 1) / (step + EARLY))
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, share)
