"""Hits and silences that are decided before a groove is made, and what tokens they leave at each step.

A step's token is a set of drums, so a decision about some drums is a mask over tokens: those that have all the drums
that are to be hit, and none of those that are to be silent. Applied to the logits, it is kept exactly.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int16
from torch import Tensor

EVERY_DRUM = np.int16(-1)
"""All bits."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenHits:
    """What is decided at each step of given grooves, which take turns among items; bit i is drum i.

    Attributes:
        decided: drums about which the step's token is told.
        hits: those of them that are hit; the others are silent.

    Raises:
        ValueError: no grooves, shapes that differ, or a hit that is not decided.
    """

    decided: Int16[np.ndarray, "groove step"]
    hits: Int16[np.ndarray, "groove step"]

    def __post_init__(self) -> None:
        if self.decided.shape != self.hits.shape or not len(self.hits):
            raise ValueError(f"decisions of shape {self.decided.shape} for hits of shape {self.hits.shape}")
        if (self.hits & ~self.decided).any():
            raise ValueError("a hit that is not decided")

    @classmethod
    def nothing(cls, num_steps: int) -> "GivenHits":
        """All is left open."""
        return cls(*np.zeros((2, 1, num_steps), dtype=np.int16))

    @classmethod
    def kept(
        cls, tokens: Int16[np.ndarray, "groove step"], drums: int, steps: Bool[np.ndarray, " step"]
    ) -> "GivenHits":
        """What given grooves have of some drums, and all that they have at some steps.

        Args:
            drums: bits of the drums that are kept at every step.
            steps: where all drums are kept.
        """
        decided = np.broadcast_to(np.where(steps, EVERY_DRUM, np.int16(drums)), tokens.shape)
        return cls(decided, tokens & decided)

    def without(self, drums: int) -> "GivenHits":
        """The same, and these drums are never hit.

        Raises:
            ValueError: one of them is hit in what is given.
        """
        if (self.hits & drums).any():
            raise ValueError("a drum is both given and forbidden")
        return GivenHits(self.decided | np.int16(drums), self.hits)

    def groove_of(self, items: range) -> list[int]:
        """The groove that each item has its decisions from: they take turns."""
        return [item % len(self.hits) for item in items]

    def allowed(self, step: int, vocab: int) -> Bool[Tensor, "groove vocab"] | None:
        """The tokens that each groove leaves at a step; None where all leave all."""
        decided, hits = self.decided[:, step], self.hits[:, step]
        if not decided.any():
            return None
        return torch.from_numpy((np.arange(vocab) & decided[:, None]) == hits[:, None])
